// What the decoder is told beside the code: a class, a mixture of classes, or attributes.

import { element } from "./elements.js";

const byId = (id) => document.getElementById(id);

export class Condition {
  constructor(app) {
    this.app = app;
  }

  build() {
    const { scene, model } = this.app;
    const card = byId("condition");
    card.hidden = !scene.condition;
    if (!scene.condition) return;
    if (scene.condition === "labels") {
      const names = [...scene.classes.entries()];
      if (scene.accepts_unknown) names.push([-1, "no class"]);
      const chosen = (label) => this.app.setCode(model.code, { weights: model.classWeights(label), from: "class" });
      const choice = names.length <= 24
        ? element("div", { class: "classes", role: "group", "aria-label": "class" }, ...names.map(([label, name]) => element("button", { type: "button", "data-class": label, onclick: () => chosen(label) }, name)))
        : element("select", { "aria-label": "class", "data-classes": true, onchange: (event) => chosen(Number(event.target.value)) }, ...names.map(([label, name]) => element("option", { value: label }, name)));
      card.replaceChildren(element("p", {}, scene.told === false
        ? "The class that new codes are drawn for (Randomize); the decoder sees the codes alone."
        : "The class that the decoder is told; the code keeps the style."), choice);
      if (scene.class_map) card.append(this.classPad());
      if (scene.guided) card.append(this.guidance());
      return;
    }
    card.replaceChildren(element("p", {}, scene.told === false ? "Attributes that new codes are drawn for (Randomize)." : "Attributes that the decoder is told."), ...scene.attributes.slice(0, 12).map((name, place) => {
      const [mean, scale] = [scene.attribute_means[place], scene.attribute_scales[place]];
      const slider = element("input", {
        type: "range", min: mean - 3 * scale, max: mean + 3 * scale, step: scale / 20, value: mean, "aria-label": name,
        oninput: () => this.app.setCode(model.code, { weights: model.weights.map((old, at) => (at === place ? Number(slider.value) : old)), from: "class" }),
      });
      return element("div", { class: "row" }, element("label", {}, name), slider);
    }));
    if (scene.guided) card.append(this.guidance());
  }

  // beyond 1, images go on in the direction that the condition moved them in
  guidance() {
    const { app } = this;
    this.strength = element("input", {
      type: "range", id: "guidance", min: 0, max: 8, step: 0.1, value: app.model.guidance, "aria-label": "guidance",
      title: "how strongly images follow their condition: 0 not at all, 1 as trained",
      oninput: () => app.setGuidance(Number(this.strength.value)),
    });
    this.strengthText = element("output", { id: "guidance-text" });
    return element("div", { class: "row guidance" }, element("label", { for: "guidance" }, "guidance"), this.strength, this.strengthText);
  }

  // the learned vectors of classes as a map of its own: between two of them, a mixture
  classPad() {
    const { scene, model } = this.app;
    const places = scene.class_map;
    const range = (axis) => [Math.min(...places.map((place) => place[axis])), Math.max(...places.map((place) => place[axis]))];
    const [[x0, x1], [y0, y1]] = [range(0), range(1)];
    const at = ([x, y]) => [8 + (84 * (x - x0)) / Math.max(x1 - x0, 1e-9), 88 - (76 * (y - y0)) / Math.max(y1 - y0, 1e-9)];
    const mark = element("i");
    const pad = element("div", { class: "pad", id: "class-pad", role: "img", "aria-label": "map of the learned class vectors", title: "drag: mix classes" },
      ...scene.classes.map((name, label) => {
        const [left, top] = at(places[label]);
        return element("span", { style: `left:${left}%;top:${top}%;color:${this.app.colours.of(label)}` }, name);
      }), mark);
    this.padMark = (weights) => {
      const spots = places.map(at);
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      mark.hidden = total === 0;
      [mark.style.left, mark.style.top] = [0, 1].map((axis) => `${spots.reduce((sum, spot, label) => sum + (weights[label] / (total || 1)) * spot[axis], 0)}%`);
    };
    const move = (event) => {
      const box = pad.getBoundingClientRect();
      const [left, top] = [(100 * (event.clientX - box.left)) / box.width, (100 * (event.clientY - box.top)) / box.height];
      const squares = places.map(at).map(([x, y]) => ((x - left) * box.width) ** 2 + ((y - top) * box.height) ** 2);
      const shares = squares.map((square) => 1 / (square + 1) ** 2); // inverse distance, to the fourth power
      const total = shares.reduce((sum, share) => sum + share, 0);
      this.app.setCode(model.code, { weights: Float32Array.from(shares, (share) => share / total), from: "class" });
    };
    pad.onpointerdown = (event) => { pad.setPointerCapture(event.pointerId); move(event); };
    pad.onpointermove = (event) => { if (event.buttons) move(event); };
    return element("div", {}, element("p", { style: "margin:8px 0 0" }, "The learned vectors of the classes, in their principal plane:"), pad);
  }

  show() {
    const { model } = this.app;
    const chosen = model.label ?? (model.weights.every((weight) => weight === 0) ? -1 : null);
    for (const button of byId("condition").querySelectorAll("[data-class]")) button.setAttribute("aria-pressed", String(Number(button.dataset.class) === chosen));
    const select = byId("condition").querySelector("[data-classes]");
    if (select && chosen !== null) select.value = chosen;
    this.padMark?.(model.weights);
    if (!this.strength) return;
    this.strength.value = model.guidance;
    this.strengthText.textContent = model.guidance.toFixed(1);
  }
}
