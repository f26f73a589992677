// The tools beside the map: latents, mixing, directions, own images, training. Each builds its part of the page once and
// has `refresh`, called when the code, the condition or the model changed and the pointer rests.

import { lerp, slerp } from "./model.js";
import { pictureOf } from "./map.js";

const STRIP = 9; // images in a strip
const FIRST_LATENTS = 12;
const SLOTS = ["A", "B", "C", "D"];

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function canvasFor(model, columns = 1, rows = 1, attributes = {}) {
  return element("canvas", { width: columns * model.wide, height: rows * model.height, ...attributes });
}

export function put(canvas, levels, model, column = 0, row = 0) {
  canvas.getContext("2d").putImageData(pictureOf(levels, model), column * model.wide, row * model.height);
}

// a canvas, or anything, that takes what is dragged into it: an index of a real image, or the decoded image
export function dropTarget(target, dropped) {
  target.addEventListener("dragover", (event) => {
    event.preventDefault();
    target.classList.add("over");
  });
  target.addEventListener("dragleave", () => target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    target.classList.remove("over");
    dropped(event.dataTransfer);
  });
}

export class Latents {
  static title = "Latents";

  constructor(app) {
    this.app = app;
    this.many = false;
  }

  build(root) {
    const { model, scene } = this.app;
    const chosen = this.many ? scene.order : scene.order.slice(0, FIRST_LATENTS);
    const most = scene.rates ? Math.max(...scene.rates, 1e-9) : 0;
    root.append(element("p", {}, scene.rates
      ? "By rate, the nats that a latent tells about an image: those near zero do nothing. Each strip moves one latent."
      : "By spread over images. Each strip moves one latent while all others stay."));
    this.rows = chosen.map((latent) => {
      const reach = 3 * Math.max(scene.deviations[latent], 0.05);
      const value = element("output", {}, "0.00");
      const slider = element("input", {
        type: "range", min: -reach, max: reach, step: reach / 200, value: 0, "aria-label": `latent ${latent + 1}`,
        oninput: () => this.app.setCode(model.code.map((old, d) => (d === latent ? Number(slider.value) : old)), { from: "slider" }),
      });
      const strip = canvasFor(model, STRIP, 1, {
        class: "strip", title: "click to go there",
        onclick: (event) => {
          const place = Math.min(STRIP - 1, Math.floor((event.offsetX / strip.clientWidth) * STRIP));
          this.app.setCode(model.code.map((old, d) => (d === latent ? valueAt(reach, place) : old)));
        },
      });
      const rate = scene.rates ? `${scene.rates[latent].toFixed(2)} nats` : "";
      root.append(element("div", { class: "latent" },
        element("div", { class: "head" }, element("b", {}, `z${latent + 1}`), element("span", {}, rate), value),
        scene.rates ? element("div", { class: "meter" }, element("i", { style: `width:${(100 * scene.rates[latent]) / most}%` })) : null,
        strip, slider));
      return { latent, reach, slider, value, strip };
    });
    if (scene.order.length > FIRST_LATENTS) {
      root.append(element("button", { type: "button", onclick: () => { this.many = !this.many; this.app.showPanel(); } },
        this.many ? "fewer" : `all ${scene.order.length} latents`));
    }
  }

  follow() {
    for (const { latent, slider, value } of this.rows) {
      slider.value = this.app.model.code[latent];
      value.textContent = this.app.model.code[latent].toFixed(2).replace("-", "−");
    }
  }

  async refresh() {
    const { model } = this.app;
    const { rows } = this;
    const asked = [];
    for (const { latent, reach } of rows) {
      for (let place = 0; place < STRIP; place++) {
        asked.push(model.row(model.code.map((old, d) => (d === latent ? valueAt(reach, place) : old))));
      }
    }
    const images = await model.decode(asked);
    rows.forEach(({ strip }, row) => {
      for (let place = 0; place < STRIP; place++) put(strip, images[row * STRIP + place], model, place);
    });
  }
}

function valueAt(reach, place) {
  return -reach + (2 * reach * place) / (STRIP - 1);
}

export class Mix {
  static title = "Mix";

  constructor(app) {
    this.app = app;
    this.slots = [null, null, null, null];
    this.how = "linear";
    this.at = 0.5;
  }

  store(place, code = this.app.model.code, weights = this.app.model.weights) {
    this.slots[place] = { code: Float32Array.from(code), weights: Float32Array.from(weights) };
    if (this.app.panel !== this) this.app.say(`in slot ${SLOTS[place]}`);
    else this.app.showPanel();
  }

  build(root) {
    const { model } = this.app;
    root.append(element("p", {}, "Drag images here, or keep what is decoded now. Two make a line, four a square."));
    const row = element("div", { class: "slots" });
    this.canvases = SLOTS.map((name, place) => {
      const canvas = canvasFor(model);
      const slot = element("div", { class: "slot", "data-slot": name }, `${name} `, canvas,
        element("button", { type: "button", onclick: () => this.store(place) }, "keep"),
        this.slots[place] ? element("button", { type: "button", onclick: () => { this.slots[place] = null; this.app.showPanel(); } }, "clear") : null);
      dropTarget(slot, (data) => {
        const index = data.getData("application/x-vaekit-index");
        if (index !== "") this.store(place, model.codeOf(Number(index)), this.app.weightsOf(Number(index)));
        else this.store(place);
      });
      row.append(slot);
      return canvas;
    });
    root.append(row);
    const [a, b, c, d] = this.slots;
    if (a && b && !(c && d)) {
      root.append(element("h3", {}, "From A to B"));
      this.line = canvasFor(model, STRIP, 1, { class: "strip", onclick: (event) => this.go(event.offsetX / this.line.clientWidth) });
      const choice = element("select", { "aria-label": "kind of line", onchange: () => { this.how = choice.value; this.app.changed(); } },
        ...["linear", "spherical"].map((how) => element("option", { value: how, selected: how === this.how }, how)));
      const slider = element("input", { type: "range", min: 0, max: 1, step: 0.01, value: this.at, "aria-label": "from A to B", oninput: () => this.go(Number(slider.value)) });
      root.append(this.line, element("div", { class: "row" }, choice, slider));
    } else this.line = null;
    if (a && b && c && d) {
      root.append(element("h3", {}, "Between all four"));
      this.square = canvasFor(model, 6, 6, {
        class: "grid", onclick: (event) => {
          const [x, y] = [event.offsetX / this.square.clientWidth, event.offsetY / this.square.clientHeight].map((t) => Math.floor(t * 6) / 5);
          const { code, weights } = this.between(x, y);
          this.app.setCode(code, { weights });
        },
      });
      root.append(this.square);
    } else this.square = null;
    root.append(element("h3", {}, "Arithmetic"));
    this.sum = element("button", { type: "button", disabled: !(a && b && c), onclick: () => this.app.setCode(this.arithmetic(), { weights: c.weights }) }, "A − B + C");
    root.append(element("div", { class: "row" }, this.sum, element("span", {}, a && b && c ? "" : "needs A, B and C")));
    if (!(a && b)) root.append(element("p", {}, "Keys 1 to 4 fill the slots from anywhere."));
  }

  path(first, second, t) {
    return this.how === "spherical" && this.app.scene.straight ? slerp(first, second, t) : lerp(first, second, t);
  }

  go(t) {
    this.at = t;
    const [a, b] = this.slots;
    this.app.setCode(this.path(a.code, b.code, t), { weights: lerp(a.weights, b.weights, t) });
  }

  between(x, y) {
    const [a, b, c, d] = this.slots;
    const of = (part, way) => way(way(a[part], b[part], x), way(c[part], d[part], x), y);
    return { code: of("code", (p, q, t) => this.path(p, q, t)), weights: of("weights", lerp) };
  }

  arithmetic() {
    const [a, b, c] = this.slots;
    return a.code.map((value, place) => value - b.code[place] + c.code[place]);
  }

  follow() {}

  async refresh() {
    const { model } = this.app;
    const filled = this.slots.map((slot, place) => [slot, place]).filter(([slot]) => slot);
    const asked = filled.map(([slot]) => model.row(slot.code, slot.weights));
    const [a, b] = this.slots;
    const { canvases, line, square } = this; // the panel may be built anew while images are on their way
    if (line) {
      for (let place = 0; place < STRIP; place++) {
        const t = place / (STRIP - 1);
        asked.push(model.row(this.path(a.code, b.code, t), lerp(a.weights, b.weights, t)));
      }
    }
    if (square) {
      for (let place = 0; place < 36; place++) {
        const { code, weights } = this.between((place % 6) / 5, Math.floor(place / 6) / 5);
        asked.push(model.row(code, weights));
      }
    }
    if (!asked.length) return;
    const images = await model.decode(asked);
    filled.forEach(([, place], row) => put(canvases[place], images[row], model));
    if (line) for (let place = 0; place < STRIP; place++) put(line, images[filled.length + place], model, place);
    if (square) for (let place = 0; place < 36; place++) put(square, images[filled.length + place], model, place % 6, Math.floor(place / 6));
  }
}

export class Directions {
  static title = "Directions";

  static fits(scene, model) {
    return scene.split !== "prior" && ((model.labels && scene.classes.length > 1) || scene.has_attributes);
  }

  constructor(app) {
    this.app = app;
    this.amount = 0;
  }

  choices() {
    const { model, scene } = this.app;
    if (scene.has_attributes) {
      const count = scene.attributes.length;
      return scene.attributes.map((name, column) => ({
        name,
        there: (index) => model.attributes[index * count + column] > scene.attribute_means[column],
        absent: (index) => model.attributes[index * count + column] < scene.attribute_means[column],
      }));
    }
    return scene.classes.map((name, label) => ({
      name, there: (index) => model.labels[index] === label, absent: (index) => model.labels[index] !== label,
    }));
  }

  build(root) {
    const { model, scene } = this.app;
    const choices = this.choices();
    const others = scene.has_attributes ? "images without it" : "all others";
    root.append(element("p", {}, "The mean code of images that have something, less the mean of those that do not. Move along it from where you are."));
    const select = (label, names) => element("select", { "aria-label": label, onchange: () => this.turn() }, ...names.map((name, place) => element("option", { value: place }, name)));
    this.to = select("toward", choices.map(({ name }) => name));
    this.from = select("away from", [others, ...(scene.has_attributes ? [] : choices.map(({ name }) => name))]);
    this.slider = element("input", {
      type: "range", min: -2, max: 2, step: 0.02, value: 0, "aria-label": "how far",
      oninput: () => { this.amount = Number(this.slider.value); this.apply(); },
    });
    this.strip = canvasFor(model, STRIP, 1, { class: "strip", onclick: (event) => {
      this.amount = -2 + (4 * Math.min(STRIP - 1, Math.floor((event.offsetX / this.strip.clientWidth) * STRIP))) / (STRIP - 1);
      this.slider.value = this.amount;
      this.apply();
    } });
    root.append(element("div", { class: "row" }, element("label", {}, "toward"), this.to, element("label", {}, "from"), this.from), this.strip, this.slider);
    this.all = choices;
    this.turn();
  }

  turn() {
    const { model } = this.app;
    const to = this.all[this.to.value];
    const from = this.from.value === "0" ? to.absent : this.all[this.from.value - 1].there;
    const [there, away] = [model.meanOf(to.there), model.meanOf(from)];
    this.direction = there && away ? there.map((value, d) => value - away[d]) : new Float32Array(model.latents);
    this.start();
    this.app.changed();
  }

  // here begins the walk
  start() {
    this.base = Float32Array.from(this.app.model.code);
    this.amount = 0;
    if (this.slider) this.slider.value = 0;
  }

  apply() {
    this.app.setCode(this.base.map((value, d) => value + this.amount * this.direction[d]), { from: "direction" });
  }

  follow(from) {
    if (from !== "direction") this.start();
  }

  async refresh() {
    const { model } = this.app;
    const asked = [...Array(STRIP).keys()].map((place) => {
      const amount = -2 + (4 * place) / (STRIP - 1);
      return model.row(this.base.map((value, d) => value + amount * this.direction[d]));
    });
    (await model.decode(asked)).forEach((levels, place) => put(this.strip, levels, model, place));
  }
}

export class OwnImage {
  static title = "Own image";

  constructor(app) {
    this.app = app;
    this.found = null;
  }

  build(root) {
    const input = element("input", { type: "file", accept: "image/*", onchange: () => input.files[0] && this.take(input.files[0]) });
    const drop = element("label", { class: "drop", tabindex: 0 }, "Drop an image here, paste one, or click to choose. It stays on this machine.", input);
    dropTarget(drop, (data) => data.files[0] && this.take(data.files[0]));
    root.append(drop);
    this.place = element("div", { id: "own" });
    root.append(this.place);
    if (this.found) this.show();
  }

  async take(file) {
    const { app } = this;
    try {
      this.found = await app.model.backend.encode(file, app.model.label);
    } catch (problem) {
      app.problem(problem);
      return;
    }
    this.found.weights = Float32Array.from(app.model.weights);
    if (app.panel !== this) app.showPanel(this);
    else this.show();
    app.setCode(Float32Array.from(this.found.code));
  }

  show() {
    const { app, found } = this;
    const { model, scene } = app;
    const [channels, high, wide] = scene.seen_shape;
    const seen = { channels, height: high, wide };
    const given = element("canvas", { width: wide, height: high, id: "own-input" });
    put(given, found.input, seen);
    const back = canvasFor(model, 1, 1, { id: "own-output" });
    put(back, found.output, model);
    const figures = [figure(given, "yours"), figure(back, scene.restores ? "restored" : "reconstruction")];
    if (found.error !== null) {
      const heat = canvasFor(model, 1, 1, { id: "own-heat" });
      const most = heatMap(heat, found.input, found.output, model);
      figures.push(figure(heat, "where they differ", scaleBar(most)));
    }
    this.place.replaceChildren(element("div", { class: "three" }, ...figures));
    const told = [];
    if (found.error !== null) told.push(`Mean squared error ${found.error.toPrecision(3)}`);
    if (found.worse_than !== null && found.worse_than !== undefined) {
      const share = (100 * found.worse_than).toFixed(0);
      told.push(`larger than that of ${share}% of ${scene.split === "training" ? "training" : "held-out"} images` + (found.worse_than >= 0.99 ? ": unlike what the model knows" : ""));
    }
    if (told.length) this.place.append(element("p", {}, `${told.join(", ")}.`));
    if (found.neighbours.length) {
      this.place.append(element("h3", {}, "Nearest images on the map"));
      this.place.append(element("div", { class: "thumbs" }, ...found.neighbours.map((index) => app.thumbnail(index))));
    }
    this.place.append(element("div", { class: "row" },
      element("button", { type: "button", onclick: () => app.setCode(Float32Array.from(found.code)) }, "Go there"),
      element("button", { type: "button", onclick: () => app.mix.store(0, found.code, found.weights) }, "Keep as A")));
  }

  follow() {}

  async refresh() {}
}

function figure(canvas, text, more = null) {
  return element("figure", {}, canvas, element("figcaption", {}, text), more);
}

const HEAT = ["#000004", "#3b0f70", "#8c2981", "#de4968", "#fe9f6d", "#fcfdbf"]; // magma, in six steps

function heatColour(t) {
  const place = Math.min(HEAT.length - 1.0001, Math.max(0, t) * (HEAT.length - 1));
  const [low, part] = [Math.floor(place), place % 1];
  return [1, 3, 5].map((at) => {
    const [a, b] = [HEAT[low], HEAT[low + 1]].map((colour) => parseInt(colour.slice(at, at + 2), 16));
    return a + part * (b - a);
  });
}

// absolute differences, averaged over channels; answers with the largest, as a share of white
function heatMap(canvas, first, second, model) {
  const count = model.wide * model.height;
  const differences = Float32Array.from({ length: count }, (_, place) => {
    let sum = 0;
    for (let part = 0; part < model.channels; part++) sum += Math.abs(first[place * model.channels + part] - second[place * model.channels + part]);
    return sum / model.channels / 255;
  });
  const most = Math.max(0.05, ...differences);
  const image = new ImageData(model.wide, model.height);
  differences.forEach((difference, place) => image.data.set([...heatColour(difference / most), 255], 4 * place));
  canvas.getContext("2d").putImageData(image, 0, 0);
  return most;
}

function scaleBar(most) {
  return element("div", {},
    element("div", { class: "scale", style: `background:linear-gradient(to right, ${HEAT.join(",")})` }),
    element("div", { class: "ends" }, element("span", {}, "0"), element("span", {}, most.toFixed(2))));
}

export class Training {
  static title = "Training";

  static fits(scene) {
    return scene.records.length > 0;
  }

  constructor(app) {
    this.app = app;
  }

  build(root) {
    const { model, scene } = this.app;
    const last = scene.records[scene.records.length - 1];
    root.append(element("p", { id: "epoch" }, scene.finished ? `Finished after epoch ${last.epoch}.` : `Training: epoch ${last.epoch} has ended. This page follows it.`));
    for (const [name, title] of [["elbo_nats", "ELBO, nats (higher is better)"], ["rate_nats", "rate, nats"], ["distortion_nats", "distortion, nats"]]) {
      const chart = curves(scene.records, name);
      if (chart) root.append(element("h3", {}, title), chart);
    }
    if (scene.split !== "prior") {
      root.append(element("h3", {}, scene.restores ? "Images, and what becomes of them" : "Images and their reconstructions"));
      this.originals = element("div", { class: "eight" }, ...[...Array(8).keys()].map((index) => this.app.thumbnail(index)));
      this.backs = canvasFor(model, 8, 1, { class: "strip" });
      root.append(this.originals, this.backs);
    }
    root.append(element("h3", {}, "Samples of the prior"));
    this.samples = canvasFor(model, 8, 3, { class: "grid" });
    root.append(this.samples);
  }

  follow() {}

  async refresh() {
    const { model, scene } = this.app;
    const { backs, samples } = this;
    const asked = [];
    for (let place = 0; place < 24; place++) {
      const code = model.draws.slice(place * model.latents, (place + 1) * model.latents);
      asked.push(model.row(code, model.drawLabels ? model.classWeights(model.drawLabels[place]) : model.weights));
    }
    if (backs) for (let index = 0; index < Math.min(8, scene.count); index++) asked.push(model.row(model.codeOf(index), this.app.weightsOf(index)));
    const images = await model.decode(asked);
    for (let place = 0; place < 24; place++) put(samples, images[place], model, place % 8, Math.floor(place / 8));
    images.slice(24).forEach((levels, place) => put(backs, levels, model, place));
  }
}

function minus(text) {
  return text.replace("-", "−");
}

function curves(records, name) {
  const lines = [["train", "var(--accent)"], ["val", "var(--warm)"]]
    .map(([split, colour]) => [split, colour, records.filter((record) => record[split] && Number.isFinite(record[split][name])).map((record) => [record.epoch, record[split][name]])])
    .filter(([, , points]) => points.length);
  if (!lines.length) return null;
  const all = lines.flatMap(([, , points]) => points);
  const [wide, high, edge] = [360, 110, 46];
  const range = (values) => [Math.min(...values), Math.max(...values)];
  const [[x0, x1], [y0, y1]] = [range(all.map(([x]) => x)), range(all.map(([, y]) => y))];
  const sx = (x) => edge + ((x - x0) / Math.max(x1 - x0, 1e-9)) * (wide - edge - 44);
  const sy = (y) => 8 + (1 - (y - y0) / Math.max(y1 - y0, 1e-9)) * (high - 26);
  const parts = [
    `<line class="axis" x1="${edge}" x2="${wide - 44}" y1="${high - 14}" y2="${high - 14}"/>`,
    `<text x="${edge - 5}" y="14" text-anchor="end">${minus(y1.toFixed(1))}</text><text x="${edge - 5}" y="${high - 18}" text-anchor="end">${minus(y0.toFixed(1))}</text>`,
    `<text x="${edge}" y="${high - 2}">epoch ${x0}</text><text x="${wide - 44}" y="${high - 2}" text-anchor="end">${x1}</text>`,
  ];
  let below = -20;
  for (const [split, colour, points] of lines.sort((a, b) => sy(a[2].at(-1)[1]) - sy(b[2].at(-1)[1]))) {
    parts.push(points.length > 1
      ? `<path stroke="${colour}" d="M${points.map(([x, y]) => `${sx(x).toFixed(1)} ${sy(y).toFixed(1)}`).join("L")}"/>`
      : `<circle cx="${sx(points[0][0])}" cy="${sy(points[0][1])}" r="3" fill="${colour}"/>`);
    const at = Math.max(sy(points.at(-1)[1]) + 4, below + 13);
    below = at;
    parts.push(`<text x="${wide - 40}" y="${at}" style="fill:${colour}">${split}</text>`);
  }
  const chart = element("div");
  chart.innerHTML = `<svg viewBox="0 0 ${wide} ${high}" role="img" aria-label="${name} by epoch">${parts.join("")}</svg>`;
  return chart;
}
