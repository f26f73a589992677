// From the mean code of images without something to that of images with it.

import { STRIP, canvasFor, element, put } from "./elements.js";

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
