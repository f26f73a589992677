// Four slots of codes: a line between two, a square between four, arithmetic.

import { STRIP, canvasFor, dropTarget, element, put } from "./elements.js";
import { lerp, slerp } from "./model.js";

const SLOTS = ["A", "B", "C", "D"];

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
