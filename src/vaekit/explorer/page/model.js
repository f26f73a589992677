// The state of the page and the geometry of codes, apart from anything that is drawn.

export class Model {
  constructor(scene, backend, data) {
    Object.assign(this, { scene, backend, ...data });
    this.latents = scene.latent_dim;
    this.width = scene.latent_dim + scene.conditions + Number(scene.guided);
    this.guidance = 1; // how strongly images follow their condition
    this.code = new Float32Array(this.latents);
    this.weights = this.defaultWeights();
    this.rest = new Float32Array(this.latents); // what a chosen image has beside the plane of the map
    [this.channels, this.height, this.wide] = [scene.shape[0], scene.shape[1], scene.shape[2]];
  }

  // where the page begins: the middle of the space, or for a model that draws latents one from another the first image
  startCode() {
    return this.scene.fresh ? this.codeOf(0) : new Float32Array(this.latents);
  }

  startWeights() {
    return this.scene.fresh && this.labels && this.scene.condition === "labels" ? this.classWeights(this.labels[0]) : this.defaultWeights();
  }

  // the condition at the start: the first class, or every attribute at its mean
  defaultWeights() {
    const { scene } = this;
    if (scene.condition === "labels") return this.classWeights(0);
    return new Float32Array(scene.conditions).fill(NaN);
  }

  classWeights(label) {
    const weights = new Float32Array(this.scene.conditions);
    if (label >= 0) weights[label] = 1;
    return weights;
  }

  // the class whose weight is 1, or null between classes
  get label() {
    if (this.scene.condition !== "labels") return null;
    const place = this.weights.findIndex((weight) => weight === 1);
    return place >= 0 ? place : null;
  }

  codeOf(index) {
    return this.codes.slice(index * this.latents, (index + 1) * this.latents);
  }

  row(code, weights = this.weights) {
    const row = new Float32Array(this.width);
    row.set(code);
    row.set(weights, this.latents);
    if (this.scene.guided) row[this.width - 1] = this.guidance;
    return row;
  }

  // what a draw of latents is told: the condition, and the guidance where there is one
  get told() {
    return this.row(this.code).slice(this.latents);
  }

  async decode(rows) {
    const joined = new Float32Array(rows.length * this.width);
    rows.forEach((row, place) => joined.set(row, place * this.width));
    const size = this.channels * this.height * this.wide;
    const all = await this.backend.decode(joined);
    return rows.map((_, place) => all.subarray(place * size, (place + 1) * size));
  }

  // a place of the map to a code: along two axes, or between the nearest points
  codeAt(map, x, y) {
    if (map.axes) {
      return this.rest.map((rest, d) => rest + map.center[d] + x * map.axes[0][d] + y * map.axes[1][d]);
    }
    const near = nearestOf(map.points, x, y, 6);
    const code = new Float32Array(this.latents);
    let total = 0;
    for (const [index, square] of near) {
      const weight = 1 / (square + 1e-6);
      total += weight;
      for (let d = 0; d < this.latents; d++) code[d] += weight * this.codes[index * this.latents + d];
    }
    return code.map((value) => value / total);
  }

  // where a code lies on the map: its projection, or the place of the nearest code
  placeOf(map, code) {
    if (map.axes) {
      let [x, y] = [0, 0];
      for (let d = 0; d < this.latents; d++) {
        x += (code[d] - map.center[d]) * map.axes[0][d];
        y += (code[d] - map.center[d]) * map.axes[1][d];
      }
      return [x, y];
    }
    const index = this.nearestCode(code, map.points.length / 2);
    return [map.points[2 * index], map.points[2 * index + 1]];
  }

  keepRest(map, code) {
    if (!map.axes) return;
    const [x, y] = this.placeOf(map, code);
    this.rest = code.map((value, d) => value - map.center[d] - x * map.axes[0][d] - y * map.axes[1][d]);
  }

  // the image whose code is nearest; of a class alone, where the decoder is told one
  nearestCode(code, count = this.scene.count, label = null) {
    let [best, least] = [0, Infinity];
    for (let index = 0; index < count; index++) {
      if (label !== null && this.labels[index] !== label) continue;
      let square = 0;
      for (let d = 0, at = index * this.latents; d < this.latents && square < least; d++, at++) {
        square += (this.codes[at] - code[d]) ** 2;
      }
      if (square < least) [best, least] = [index, square];
    }
    return best;
  }

  // mean code of a class, or of images whose attribute lies above or below its mean
  meanOf(belongs) {
    const sum = new Float64Array(this.latents);
    let count = 0;
    for (let index = 0; index < this.scene.count; index++) {
      if (!belongs(index)) continue;
      count++;
      for (let d = 0; d < this.latents; d++) sum[d] += this.codes[index * this.latents + d];
    }
    return count ? Float32Array.from(sum, (value) => value / count) : null;
  }

  draw(temperature, label) {
    if (this.scene.fresh) temperature = 1; // what was drawn one from another cannot be drawn closer together afterwards
    let chosen = Math.floor(Math.random() * this.scene.draws);
    if (this.drawLabels && label !== null) {
      const own = [...this.drawLabels.keys()].filter((index) => this.drawLabels[index] === label);
      if (own.length) chosen = own[Math.floor(Math.random() * own.length)];
    }
    return this.draws.slice(chosen * this.latents, (chosen + 1) * this.latents).map((value) => value * temperature);
  }
}

export function nearestOf(points, x, y, count) {
  const found = [];
  for (let index = 0; index < points.length / 2; index++) {
    const square = (points[2 * index] - x) ** 2 + (points[2 * index + 1] - y) ** 2;
    if (found.length < count || square < found[found.length - 1][1]) {
      found.push([index, square]);
      found.sort((a, b) => a[1] - b[1]);
      if (found.length > count) found.pop();
    }
  }
  return found;
}

export function lerp(a, b, t) {
  return a.map((value, d) => value + t * (b[d] - value));
}

// along the arc between two codes; straight where one is zero or they point the same way (Shoemake 1985)
export function slerp(a, b, t) {
  const norm = (v) => Math.hypot(...v);
  const [la, lb] = [norm(a), norm(b)];
  if (la === 0 || lb === 0) return lerp(a, b, t);
  const cosine = Math.min(1, Math.max(-1, a.reduce((sum, value, d) => sum + value * b[d], 0) / (la * lb)));
  const angle = Math.acos(cosine);
  if (angle < 1e-4 || Math.PI - angle < 1e-4) return lerp(a, b, t);
  const [wa, wb] = [Math.sin((1 - t) * angle) / Math.sin(angle), Math.sin(t * angle) / Math.sin(angle)];
  return a.map((value, d) => wa * value + wb * b[d]);
}

export function packed(floats) {
  let letters = "";
  for (const byte of new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength)) letters += String.fromCharCode(byte);
  return btoa(letters)
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export function unpacked(text) {
  const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

// one request at a time, and of those that come meanwhile only the latest
export function latest(work) {
  let [running, next] = [false, null];
  return async function ask(...given) {
    next = given;
    if (running) return;
    running = true;
    try {
      while (next) {
        const now = next;
        next = null;
        await work(...now);
      }
    } finally {
      running = false;
    }
  };
}

export function debounced(work, milliseconds) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}
