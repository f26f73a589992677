// The explorer without a server: numbers and pictures from files beside the page, the model run here by onnxruntime-web.

import * as ort from "./runtime/ort.wasm.min.mjs";

const NEIGHBOURS = 8;
const AT_ONCE = 64;

export class Files {
  static async open() {
    ort.env.wasm.numThreads = 1; // more would need headers that static hosts do not send
    ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;
    const made = new Files();
    made.decoder = await ort.InferenceSession.create("data/decoder.onnx");
    return made;
  }

  async scene() {
    this.about = await (await found("data/scene.json")).json();
    return this.about;
  }

  async floats(name) {
    const read = new Float32Array(await (await found(`data/${name}`)).arrayBuffer());
    if (name === "codes.bin") this.codes = read;
    return read;
  }

  async shorts(name) { return new Int16Array(await (await found(`data/${name}`)).arrayBuffer()); }
  sheet(name) { return `data/${name}`; }
  async training() { return { version: this.about.version, finished: true, records: this.about.records }; }

  // one session runs one request at a time
  run(session, given) {
    const turn = (this.busy || Promise.resolve()).then(() => session.run(given));
    this.busy = turn.catch(() => {});
    return turn;
  }

  inputs(rows, first, count) {
    const { latent_dim: latents, conditions } = this.about;
    const width = latents + conditions;
    const part = (from, size) => {
      const data = new Float32Array(count * size);
      for (let row = 0; row < count; row++) data.set(rows.subarray((first + row) * width + from, (first + row) * width + from + size), row * size);
      return new ort.Tensor("float32", data, [count, size]);
    };
    return conditions ? { chart: part(0, latents), weights: part(latents, conditions) } : { chart: part(0, latents) };
  }

  async decode(rows) {
    const count = rows.length / (this.about.latent_dim + this.about.conditions);
    const size = this.about.shape.reduce((product, side) => product * side, 1);
    const levels = new Uint8Array(count * size);
    for (let first = 0; first < count; first += AT_ONCE) {
      const given = this.inputs(rows, first, Math.min(AT_ONCE, count - first));
      const { levels: made } = await this.run(this.decoder, given);
      levels.set(Uint8Array.from(made.data, Math.round), first * size);
    }
    return levels;
  }

  async encode(file, label) {
    this.encoder ??= await ort.InferenceSession.create("data/encoder.onnx");
    const { about } = this;
    const input = await levelsOf(file, about.seen_shape);
    const [channels, high, wide] = about.seen_shape;
    const image = new Float32Array(input.length);
    for (let place = 0; place < high * wide; place++) {
      for (let part = 0; part < channels; part++) image[part * high * wide + place] = input[place * channels + part] / 255;
    }
    const given = { image: new ort.Tensor("float32", image, [1, channels, high, wide]) };
    const weights = new Float32Array(about.conditions).fill(about.condition === "attributes" ? NaN : 0);
    if (about.condition === "labels") {
      if (label === null && !about.accepts_unknown) throw new Error("the model reads the class of an image; choose it first");
      if (label !== null) weights[label] = 1;
    }
    if (about.conditions) given.weights = new ort.Tensor("float32", weights, [1, about.conditions]);
    const { chart } = await this.run(this.encoder, given);
    const row = new Float32Array(about.latent_dim + about.conditions);
    row.set(chart.data);
    row.set(weights, about.latent_dim);
    const output = await this.decode(row);
    const same = output.length === input.length;
    const error = same ? input.reduce((sum, level, place) => sum + ((level - output[place]) / 255) ** 2, 0) / input.length : null;
    const below = about.errors.filter((one) => one < error).length;
    return {
      code: [...chart.data], input, output, error,
      worse_than: error === null || !about.errors.length ? null : below / about.errors.length,
      neighbours: about.split === "prior" ? [] : this.nearest(chart.data),
    };
  }

  nearest(code) {
    const latents = code.length;
    const squares = Float64Array.from({ length: this.codes.length / latents }, (_, index) => {
      let square = 0;
      for (let d = 0; d < latents; d++) square += (this.codes[index * latents + d] - code[d]) ** 2;
      return square;
    });
    return [...squares.keys()].sort((a, b) => squares[a] - squares[b]).slice(0, NEIGHBOURS);
  }
}

async function found(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} is missing; copy the whole folder`);
  return answer;
}

// the middle of a picture that has the wanted proportions, brought to size on white, as levels
async function levelsOf(file, [channels, high, wide]) {
  const picture = await createImageBitmap(file).catch(() => { throw new Error("the picture cannot be read"); });
  const scale = Math.min(picture.width / wide, picture.height / high);
  const [across, down] = [wide * scale, high * scale];
  const canvas = new OffscreenCanvas(wide, high);
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, wide, high);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, (picture.width - across) / 2, (picture.height - down) / 2, across, down, 0, 0, wide, high);
  const { data } = context.getImageData(0, 0, wide, high);
  const levels = new Uint8Array(wide * high * channels);
  for (let place = 0; place < wide * high; place++) {
    const [red, green, blue] = data.subarray(4 * place, 4 * place + 3);
    if (channels === 1) levels[place] = Math.round(0.299 * red + 0.587 * green + 0.114 * blue);
    else levels.set([red, green, blue], 3 * place);
  }
  return levels;
}
