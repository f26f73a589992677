// The whole view as an address, and what is shown as files.

import { element } from "./elements.js";
import { packed, unpacked } from "./model.js";

const byId = (id) => document.getElementById(id);

// the whole view in a few words after the #
export function link(app) {
  const { view } = app.view;
  const said = {
    m: app.map?.name, x: view.x.toPrecision(5), y: view.y.toPrecision(5), k: view.k.toPrecision(5), z: packed(app.model.code),
    t: Number(byId("temperature").value).toFixed(2), p: app.panels.indexOf(app.panel),
  };
  if (app.scene.conditions) said.c = packed(app.model.weights);
  if (app.scene.guided) said.g = app.model.guidance.toFixed(1);
  if (app.view.showManifold) said.b = 1;
  if (app.view.showImages) said.i = 1;
  if (app.view.held) said.h = 1;
  return new URLSearchParams(said).toString();
}

export async function open(app, asked) {
  const { model, view } = app;
  const number = (name) => (asked.get(name) !== null && Number.isFinite(Number(asked.get(name))) ? Number(asked.get(name)) : null);
  const floats = (name, count) => {
    try {
      const found = unpacked(asked.get(name) || "");
      return found.length === count ? found : null;
    } catch {
      return null;
    }
  };
  const guidance = number("g");
  if (guidance !== null && app.scene.guided) model.guidance = Math.min(8, Math.max(0, guidance));
  const temperature = number("t");
  if (temperature !== null) byId("temperature").value = temperature;
  byId("temperature-text").textContent = Number(byId("temperature").value).toFixed(2);
  view.showManifold = byId("show-manifold").checked = asked.get("b") === "1";
  view.showImages = byId("show-images").checked = asked.get("i") === "1";
  view.resized();
  const [x, y, k] = [number("x"), number("y"), number("k")];
  await app.chooseMap(asked.get("m"), x !== null && y !== null && k > 0 ? { x, y, k } : null);
  app.showPanel(app.panels[number("p") ?? 0] || app.panels[0]);
  const code = floats("z", model.latents);
  app.setCode(code?.every(Number.isFinite) ? code : model.startCode(), { weights: floats("c", app.scene.conditions) ?? (code ? null : model.startWeights()) });
  view.hold(asked.get("h") === "1");
}

export async function copyLink(app) {
  history.replaceState(null, "", `#${link(app)}`);
  try {
    await navigator.clipboard.writeText(location.href);
    app.say("link copied");
  } catch {
    app.say("the link is in the address bar");
  }
}

export function saveImage(app) {
  const { model } = app;
  const scale = Math.max(1, Math.round(448 / Math.max(model.wide, model.height)));
  const canvas = element("canvas", { width: model.wide * scale, height: model.height * scale });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(byId("image"), 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => save(blob, "decoded.png"));
}

export function saveVector(app) {
  const { model, scene } = app;
  const plain = (values) => [...values].map((value) => (Number.isNaN(value) ? null : value));
  const said = { model: scene.name, code: plain(model.code), condition: scene.condition ? plain(model.weights) : null, classes: scene.classes, attributes: scene.attributes };
  if (scene.guided) said.guidance = model.guidance;
  save(new Blob([JSON.stringify(said, null, 1)], { type: "application/json" }), "vector.json");
}

function save(blob, name) {
  const anchor = element("a", { href: URL.createObjectURL(blob), download: name });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 1000);
}
