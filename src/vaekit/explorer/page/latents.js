// A slider for each latent over a strip of what it changes.
//
// A panel builds its part of the page in `build`, follows the code in `follow`, and in `refresh`, called when the code, the
// condition or the model changed and the pointer rests, decodes what it shows. The same holds for every other panel.

import { STRIP, canvasFor, element, put } from "./elements.js";

const FIRST_LATENTS = 12;

export class Latents {
  static title = "Latents";
  static fits = (scene) => scene.order.length > 0;

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
