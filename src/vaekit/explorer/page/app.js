// Ties the parts of the page together: what is decoded now, where it lies, what the link to it is.

import { connect } from "./backend.js";
import { MapView } from "./map.js";
import { Model, debounced, latest } from "./model.js";
import { Codebook } from "./codebook.js";
import { Condition } from "./condition.js";
import { Directions } from "./directions.js";
import { canvasFor, dropTarget, element, put } from "./elements.js";
import { Latents } from "./latents.js";
import { Levels } from "./levels.js";
import { Mix } from "./mix.js";
import { OwnImage } from "./own.js";
import { copyLink, link, open, saveImage, saveVector } from "./sharing.js";
import { Training } from "./training.js";

const byId = (id) => document.getElementById(id);
// Okabe and Ito's colours and two more, as in vaekit's figures; black gives way to white on dark pages
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#a89600", "#000000", "#8e8e8e", "#6a2e9a"];
const DARK = { "#000000": "#f2f2f2", "#6a2e9a": "#a77bd6", "#0072b2": "#3d9ad6" };

class App {
  constructor(backend) {
    this.backend = backend;
    this.decodeNow = latest(() => this.decodeImage());
    this.refreshPanel = debounced(latest(() => this.guarded(() => this.panel.refresh())), 160);
    this.writeLink = debounced(() => history.replaceState(null, "", `#${link(this)}`), 250);
    this.colours = {
      of: (label) => {
        const colour = label < 0 ? (this.dark ? "#56b4e9" : "#0072b2") : COLOURS[label % COLOURS.length];
        return (this.dark && DARK[colour]) || colour;
      },
    };
  }

  get dark() {
    return document.documentElement.dataset.theme === "dark";
  }

  async load() {
    const scene = await this.backend.scene();
    const [codes, draws, labels, drawLabels, attributes] = await Promise.all([
      this.backend.floats("codes.bin"),
      this.backend.floats("draws.bin"),
      scene.has_labels ? this.backend.shorts("labels.bin") : null,
      scene.draw_classes ? this.backend.shorts("draw-labels.bin") : null,
      scene.has_attributes ? this.backend.floats("attributes.bin") : null,
    ]);
    return [scene, { codes, draws, labels, drawLabels, attributes }];
  }

  async start() {
    const [scene, data] = await this.load();
    this.scene = scene;
    this.model = new Model(scene, this.backend, data);
    this.condition = new Condition(this);
    this.mix = new Mix(this);
    this.own = new OwnImage(this);
    this.newSeed();
    this.panels = [new Codebook(this), new Levels(this), new Latents(this), this.mix, new Directions(this), this.own, new Training(this)]
      .filter((panel) => panel.constructor.fits?.(scene, this.model) ?? true);
    if (!this.backend.sample) this.panels = this.panels.filter((panel) => !(panel instanceof Levels));
    if (this.backend.readOnlyEncoder) this.panels = this.panels.filter((panel) => panel !== this.own);
    this.panel = this.panels[0];
    for (const canvas of [byId("image"), byId("nearest")]) [canvas.width, canvas.height] = [this.model.wide, this.model.height];
    byId("nearest-figure").hidden = scene.split === "prior";
    this.describe();
    this.view = new MapView(document.querySelector(".stage"), this.model, this.colours, {
      move: (code) => this.setCode(code, { from: "map" }),
      pick: (index) => this.pick(index),
      changed: () => this.writeLink(),
      held: (yes) => { byId("hint").textContent = yes ? "held · click the map to let go" : "move over the map · click holds · wheel zooms · drag pans"; },
      problem: (problem) => this.problem(problem),
      pictures: () => this.drawNearest(),
    });
    this.maps = scene.maps;
    for (const map of this.maps) map.points = map.axes ? this.projected(map) : null;
    this.build();
    const asked = new URLSearchParams(location.hash.slice(1));
    await open(this, asked);
    window.addEventListener("hashchange", () => {
      if (location.hash.slice(1) !== link(this)) open(this, new URLSearchParams(location.hash.slice(1)));
    });
    if (!scene.finished) this.watch();
    document.documentElement.dataset.ready = "yes";
  }

  describe() {
    const { scene } = this;
    const images = scene.split === "prior" ? "samples of the prior" : scene.split === "own" ? "own images" : `${scene.split} images`;
    byId("about").textContent = `${scene.name} · ${scene.data} · ${scene.objective} · ${scene.latents} · ${scene.count.toLocaleString("en")} ${images}`;
    byId("about").title = scene.note || "";
    document.title = `${scene.name} · vaekit explorer`;
    if (scene.note) this.say(scene.note, 8000);
  }

  projected(map) {
    const { codes, latents } = this.model;
    const points = new Float32Array(2 * this.scene.count);
    for (let index = 0; index < this.scene.count; index++) {
      for (let d = 0; d < latents; d++) {
        const value = codes[index * latents + d] - map.center[d];
        points[2 * index] += value * map.axes[0][d];
        points[2 * index + 1] += value * map.axes[1][d];
      }
    }
    return points;
  }

  build() {
    const { scene } = this;
    byId("maps").replaceChildren(...this.maps.map((map) => element("button", { type: "button", "data-map": map.name, onclick: () => this.chooseMap(map.name) }, map.title)));
    byId("show-images").onchange = (event) => { this.view.showImages = event.target.checked; this.view.draw(); this.writeLink(); };
    byId("show-manifold").onchange = (event) => { this.view.showManifold = event.target.checked; this.view.manifold = null; this.view.changed(); };
    if (scene.fresh) byId("reset").title = "the first image (R)";
    if (scene.fresh && !this.backend.sample) for (const id of ["temperature", "temperature-text"]) byId(id).closest("label, input").hidden = true;
    byId("home").onclick = () => { this.view.home(); this.view.changed(); };
    byId("randomize").onclick = () => this.randomize();
    byId("reset").onclick = () => this.reset();
    byId("temperature").oninput = () => { byId("temperature-text").textContent = Number(byId("temperature").value).toFixed(2); this.writeLink(); };
    byId("save-image").onclick = () => saveImage(this);
    byId("save-vector").onclick = () => saveVector(this);
    byId("link").onclick = () => copyLink(this);
    byId("theme").onclick = () => this.theme(this.dark ? "light" : "dark");
    byId("help").onclick = () => byId("keys").showModal();
    byId("tabs").replaceChildren(...this.panels.map((panel) => element("button", { type: "button", role: "tab", onclick: () => this.showPanel(panel) }, panel.constructor.title)));
    byId("legend").replaceChildren(...(this.model.labels ? scene.classes.map((name, label) => {
      const button = element("button", {
        type: "button", "aria-pressed": "true", title: "show or hide", onclick: () => {
          const { hidden } = this.view;
          if (hidden.has(label)) hidden.delete(label);
          else hidden.add(label);
          button.setAttribute("aria-pressed", String(!hidden.has(label)));
          this.view.draw();
        },
      }, element("i", { style: `background:${this.colours.of(label)}` }), name);
      return button;
    }) : []));
    byId("image").ondragstart = (event) => event.dataTransfer.setData("application/x-vaekit-index", "");
    byId("nearest").ondragstart = (event) => event.dataTransfer.setData("application/x-vaekit-index", String(this.near ?? ""));
    byId("nearest").onclick = () => this.near !== undefined && this.pick(this.near);
    if (this.panels.includes(this.own)) {
      dropTarget(document.body, (data) => data.files[0] && this.own.take(data.files[0]));
      document.addEventListener("paste", (event) => event.clipboardData.files[0] && this.own.take(event.clipboardData.files[0]));
    }
    document.addEventListener("keydown", (event) => this.key(event));
    this.condition.build();
  }

  async chooseMap(name, view = null) {
    const map = this.maps.find((one) => one.name === name) || this.maps[0];
    if (!map.points) {
      this.say("laying out the map; this takes some seconds", 30000);
      try {
        map.points = await this.backend.floats(`${map.name}.bin`);
      } catch (problem) {
        this.problem(problem);
        return;
      }
      byId("toast").hidden = true;
    }
    for (const button of byId("maps").children) button.setAttribute("aria-pressed", String(button.dataset.map === map.name));
    byId("manifold-chip").hidden = !map.axes;
    const shown = map.points.length / 2;
    byId("map-note").textContent = map.axes ? "" : `${shown.toLocaleString("en")} images; between points, their codes are mixed`;
    this.map = map;
    this.view.choose(map, view);
    this.view.placeCursor(this.model.code);
    this.writeLink();
  }

  showPanel(panel = this.panel) {
    this.panel = panel;
    const root = byId("panel");
    root.replaceChildren();
    [...byId("tabs").children].forEach((tab, place) => tab.setAttribute("aria-selected", String(this.panels[place] === panel)));
    panel.build(root);
    panel.follow();
    this.refreshPanel();
    this.writeLink();
  }

  weightsOf(index) {
    const { model, scene } = this;
    if (scene.condition === "labels" && model.labels) return model.classWeights(model.labels[index]);
    if (scene.condition === "attributes" && model.attributes) return model.attributes.slice(index * scene.conditions, (index + 1) * scene.conditions);
    return model.weights;
  }

  // a real image: its own code and condition
  pick(index) {
    const { model } = this;
    const code = model.codeOf(index);
    model.keepRest(this.map, code);
    this.setCode(code, { weights: this.weightsOf(index), from: "pick" });
    this.near = index;
    this.drawNearest();
    if (!this.map.axes && index < this.map.points.length / 2) {
      this.view.cursor = [this.map.points[2 * index], this.map.points[2 * index + 1]];
      this.view.drawCursor();
    }
  }

  setCode(code, { weights = null, from = "" } = {}) {
    const { model } = this;
    model.code = Float32Array.from(code);
    if (weights) model.weights = Float32Array.from(weights);
    if (from !== "map" && from !== "class") {
      if (from !== "pick") model.keepRest(this.map, model.code);
      this.view.placeCursor(model.code);
      if (from && from !== "pick") this.view.hold(true);
    }
    if (weights && this.view.showManifold) { this.view.manifold = null; this.view.refreshManifold(); }
    this.panel.follow(from);
    this.changed();
  }

  changed() {
    this.condition.show();
    this.decodeNow();
    this.refreshPanel();
    this.findNearest();
    this.writeLink();
  }

  async decodeImage() {
    const { model } = this;
    await this.guarded(async () => {
      const [levels] = await model.decode([model.row(model.code)]);
      put(byId("image"), levels, model);
      this.levels = levels;
      byId("image").dataset.count = String(Number(byId("image").dataset.count || 0) + 1);
    });
  }

  findNearest() {
    if (this.scene.split === "prior") return;
    clearTimeout(this.nearTimer);
    this.nearTimer = setTimeout(() => {
      const { model } = this;
      this.near = model.nearestCode(model.code, this.scene.count, model.labels ? model.label : null);
      this.drawNearest();
    }, 40);
  }

  drawNearest() {
    if (this.near === undefined || this.scene.split === "prior") return;
    const canvas = byId("nearest");
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    this.view.drawThumbnail(context, this.near, 0, 0, canvas.width, canvas.height);
    const { labels } = this.model;
    byId("nearest-text").textContent = `nearest real image${labels ? `: ${this.scene.classes[labels[this.near]]}` : ""}`;
  }

  thumbnail(index) {
    const canvas = canvasFor(this.model, 1, 1, { title: `image ${index}`, onclick: () => this.pick(index), draggable: "true" });
    canvas.ondragstart = (event) => event.dataTransfer.setData("application/x-vaekit-index", String(index));
    const paint = (left) => {
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      if (!this.view.drawThumbnail(context, index, 0, 0, canvas.width, canvas.height) && left) setTimeout(() => paint(left - 1), 150);
    };
    paint(40);
    return canvas;
  }

  // how strongly images follow their condition; of a model whose decoder is not told one, the next draw does
  setGuidance(strength) {
    this.model.guidance = strength;
    this.condition.show();
    if (this.scene.told === false) return;
    if (this.view.showManifold) { this.view.manifold = null; this.view.refreshManifold(); }
    this.changed();
  }

  newSeed() {
    this.seed = Math.floor(Math.random() * 2 ** 31);
  }

  // latents that the model draws itself, from the seed, at a temperature for each level
  async drawFresh(temperatures) {
    const { model } = this;
    const code = await this.backend.sample(this.seed, temperatures, model.told);
    model.rest.fill(0);
    this.setCode(code, { from: "random" });
  }

  randomize() {
    const { model, scene } = this;
    if (scene.fresh && this.backend.sample) {
      this.newSeed();
      this.guarded(() => this.drawFresh(new Array(scene.levels).fill(Number(byId("temperature").value))));
      return;
    }
    model.rest.fill(0);
    this.setCode(model.draw(Number(byId("temperature").value), model.label), { from: "random" });
  }

  reset() {
    const { model } = this;
    model.rest.fill(0);
    this.setCode(model.startCode(), { from: "reset", weights: model.startWeights() });
    this.view.hold(false);
  }

  stepClass(by) {
    const { model, scene } = this;
    if (scene.condition !== "labels") return;
    const count = scene.classes.length;
    this.setCode(model.code, { weights: model.classWeights(((model.label ?? 0) + by + count) % count), from: "class" });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { target } = event;
    if (target.matches("input:not([type=range]):not([type=checkbox]), select, textarea") || byId("keys").open) return;
    const onButton = target.matches("button, summary, label");
    const does = {
      " ": onButton ? null : () => this.randomize(),
      r: () => this.reset(), R: () => this.reset(),
      t: () => byId("theme").click(), T: () => byId("theme").click(),
      m: () => byId("show-manifold").click(), M: () => byId("show-manifold").click(),
      0: () => byId("home").click(),
      "[": () => this.stepClass(-1), "]": () => this.stepClass(1),
      "?": () => byId("keys").showModal(),
      1: () => this.mix.store(0), 2: () => this.mix.store(1), 3: () => this.mix.store(2), 4: () => this.mix.store(3),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }

  theme(name) {
    document.documentElement.dataset.theme = name;
    try { localStorage.setItem("vaekit-theme", name); } catch { /* a page without storage keeps no theme */ }
    for (const [label, button] of [...byId("legend").children].entries()) button.querySelector("i").style.background = this.colours.of(label);
    if (!this.view) return;
    this.condition.build();
    this.condition.show();
    this.view.draw();
  }

  // a run that trains: look every two seconds whether there are new weights
  async watch() {
    const look = async () => {
      try {
        const state = await this.backend.training();
        if (state.version !== this.scene.version) {
          await this.renew();
        }
        if (state.finished && state.version === this.scene.version) return;
      } catch (problem) {
        this.problem(problem);
      }
      setTimeout(look, 2000);
    };
    setTimeout(look, 2000);
  }

  async renew() {
    const [scene, data] = await this.load();
    this.scene = scene;
    Object.assign(this.model, { scene, ...data });
    this.maps = scene.maps;
    for (const map of this.maps) map.points = map.axes ? this.projected(map) : null;
    if (this.map && !this.maps.find((map) => map.name === this.map.name).points) await this.chooseMap("pca");
    else {
      this.map = this.maps.find((map) => map.name === this.map.name);
      this.view.choose(this.map);
      this.view.placeCursor(this.model.code);
    }
    this.showPanel();
    this.changed();
  }

  async guarded(work) {
    try {
      await work();
    } catch (problem) {
      this.problem(problem);
    }
  }

  problem(problem) {
    console.warn(problem);
    this.say(problem.message, 6000);
  }

  say(text, milliseconds = 1800) {
    const toast = byId("toast");
    toast.textContent = text;
    toast.hidden = false;
    clearTimeout(this.toastTimer);
    this.toastTimer = setTimeout(() => { toast.hidden = true; }, milliseconds);
  }
}

function firstTheme() {
  try {
    const kept = localStorage.getItem("vaekit-theme");
    if (kept) return kept;
  } catch { /* no storage */ }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

document.documentElement.dataset.theme = firstTheme();
connect().then((backend) => {
  const app = new App(backend);
  window.explorer = app;
  return app.start();
}).catch((problem) => {
  document.getElementById("about").textContent = problem.message;
  document.documentElement.dataset.ready = "failed";
  console.error(problem);
});
