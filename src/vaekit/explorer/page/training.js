// Curves by epoch, and what the model makes of images and of its prior; built anew as a training goes on.

import { canvasFor, element, put } from "./elements.js";

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
