// An image of the visitor's own: what the model makes of it, where the two differ, what lies near it.

import { canvasFor, dropTarget, element, put } from "./elements.js";

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
      this.place.append(element("div", { class: "eight" }, ...found.neighbours.map((index) => app.thumbnail(index))));
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
