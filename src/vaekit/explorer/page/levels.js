// New images of a model that draws its latents itself, level after level, at a temperature for each level.

import { element } from "./elements.js";
import { latest } from "./model.js";

export class Levels {
  static title = "Levels";
  static fits = (scene) => scene.levels > 1;

  constructor(app) {
    this.app = app;
    this.temperatures = new Array(app.scene.levels).fill(1);
    this.ask = latest(() => app.guarded(() => app.drawFresh(this.temperatures)));
  }

  build(root) {
    const { scene } = this.app;
    root.append(element("p", {}, "Latents are drawn level after level, each given those above: the first decides what the image is, the last its "
      + "finest detail. A temperature below 1 keeps a level near what the levels above make most likely. The noise stays the same until another draw."));
    const rates = scene.level_rates;
    const most = rates ? Math.max(...rates, 1e-9) : 0;
    this.rows = this.temperatures.map((value, level) => {
      const text = element("output", {}, value.toFixed(2));
      const slider = element("input", {
        type: "range", min: 0, max: 1.5, step: 0.05, value, "aria-label": `temperature of level ${level + 1}`,
        oninput: () => {
          this.temperatures[level] = Number(slider.value);
          text.textContent = this.temperatures[level].toFixed(2);
          this.ask();
        },
      });
      root.append(element("div", { class: "latent" },
        element("div", { class: "head" }, element("b", {}, `level ${level + 1}`), element("span", {}, rates ? `${rates[level].toFixed(1)} nats an image` : ""), text),
        rates ? element("div", { class: "meter" }, element("i", { style: `width:${(100 * rates[level]) / most}%` })) : null,
        slider));
      return { slider, text };
    });
    root.append(element("div", { class: "row" },
      element("button", { type: "button", id: "levels-draw", onclick: () => { this.app.newSeed(); this.ask(); } }, "another draw"),
      element("button", { type: "button", onclick: () => this.all(1) }, "all at 1"),
      element("button", { type: "button", onclick: () => this.all(0) }, "all at 0")));
  }

  all(value) {
    this.temperatures.fill(value);
    for (const { slider, text } of this.rows) [slider.value, text.textContent] = [value, value.toFixed(2)];
    this.ask();
  }

  follow() {}

  async refresh() {}
}
