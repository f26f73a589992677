// The map: points or pictures at the places of codes, a decoded background, a cursor that decodes where it stands.

import { decodeManifold, drawGrid, drawManifold } from "./background.js";
import { debounced, latest } from "./model.js";
import { listen } from "./pointer.js";

const THUMBNAIL = 44; // CSS pixels between pictures
const FEW = 260; // visible points, below which pictures show by themselves

export class MapView {
  // tell: {move(code), pick(index), changed(), held(yes)}
  constructor(stage, model, colours, tell) {
    Object.assign(this, { stage, model, colours, tell });
    this.back = stage.querySelector("#points");
    this.front = stage.querySelector("#cursor");
    this.view = { x: 0, y: 0, k: 1 };
    this.hidden = new Set();
    this.showImages = false;
    this.showManifold = false;
    this.held = false;
    this.cursor = null;
    this.hover = null;
    this.manifold = null;
    this.sheets = new Map();
    this.pointers = new Map();
    this.pixels = document.createElement("canvas");
    this.refreshManifold = debounced(latest(() => decodeManifold(this)), 120);
    new ResizeObserver(() => this.resized()).observe(stage);
    listen(this);
  }

  choose(map, view = null) {
    this.map = map;
    this.manifold = null;
    this.index();
    if (view) [this.view, this.placed] = [view, true];
    else this.home();
    this.changed();
  }

  // cells of points, so that the nearest one is found without looking at all
  index() {
    const { points } = this.map;
    const count = points.length / 2;
    const bounds = [Infinity, Infinity, -Infinity, -Infinity];
    for (let place = 0; place < count; place++) {
      const [x, y] = [points[2 * place], points[2 * place + 1]];
      bounds[0] = Math.min(bounds[0], x); bounds[1] = Math.min(bounds[1], y);
      bounds[2] = Math.max(bounds[2], x); bounds[3] = Math.max(bounds[3], y);
    }
    this.bounds = bounds;
  }

  get size() {
    return [this.stage.clientWidth, this.stage.clientHeight];
  }

  resized() {
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.back, this.front]) {
      canvas.width = Math.max(1, Math.round(this.stage.clientWidth * ratio));
      canvas.height = Math.max(1, Math.round(this.stage.clientHeight * ratio));
    }
    if (this.map && !this.placed) this.home();
    this.changed();
  }

  home() {
    const [wide, high] = this.size;
    const [left, bottom, right, top] = this.bounds;
    this.placed = wide > 1;
    this.view = {
      x: (left + right) / 2,
      y: (bottom + top) / 2,
      k: 0.92 * Math.min(wide / Math.max(right - left, 1e-3), high / Math.max(top - bottom, 1e-3)),
    };
  }

  toScreen(x, y) {
    const [wide, high] = this.size;
    return [wide / 2 + (x - this.view.x) * this.view.k, high / 2 - (y - this.view.y) * this.view.k];
  }

  toMap(left, top) {
    const [wide, high] = this.size;
    return [this.view.x + (left - wide / 2) / this.view.k, this.view.y - (top - high / 2) / this.view.k];
  }

  zoom(factor, left = this.size[0] / 2, top = this.size[1] / 2) {
    const [x, y] = this.toMap(left, top);
    const home = Math.min(...this.size) / Math.max(this.bounds[2] - this.bounds[0], this.bounds[3] - this.bounds[1], 1e-3);
    this.view.k = Math.min(home * 400, Math.max(home * 0.2, this.view.k * factor));
    const [wide, high] = this.size;
    this.view.x = x - (left - wide / 2) / this.view.k;
    this.view.y = y + (top - high / 2) / this.view.k;
    this.changed();
  }

  pan(across, down) {
    this.view.x -= across / this.view.k;
    this.view.y += down / this.view.k;
    this.changed();
  }

  changed() {
    this.manifold = this.manifold && { ...this.manifold, stale: true };
    this.draw();
    this.refreshManifold();
    this.tell.changed();
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.map) this.drawNow();
    });
  }

  drawNow() {
    const ratio = this.back.width / Math.max(1, this.size[0]);
    const context = this.back.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, ...this.size);
    if (this.showManifold && this.manifold) drawManifold(this, context);
    else drawGrid(this, context);
    const visible = this.visible();
    const pictured = this.showImages || visible.length <= FEW;
    this.pictured = null;
    if (pictured && visible.length) this.drawPictures(context, visible);
    else this.drawPoints(context, visible, ratio);
    this.drawCursor();
  }

  shown(index) {
    const { labels } = this.model;
    return !labels || !this.hidden.has(labels[index]);
  }

  // indices of what lies in view; plain loops here and below, as there may be tens of thousands
  visible() {
    const { points } = this.map;
    const [[left, top], [right, bottom]] = [this.toMap(-20, -20), this.toMap(this.size[0] + 20, this.size[1] + 20)];
    const { labels } = this.model;
    const hidden = this.hidden.size ? this.hidden : null;
    const found = new Uint32Array(points.length / 2);
    let count = 0;
    for (let index = 0; index < found.length; index++) {
      const x = points[2 * index];
      const y = points[2 * index + 1];
      if (x < left || x > right || y < bottom || y > top || (hidden && labels && hidden.has(labels[index]))) continue;
      found[count++] = index;
    }
    return found.subarray(0, count);
  }

  colourOf(index) {
    const { labels } = this.model;
    return this.colours.of(labels ? labels[index] : -1);
  }

  // discs written straight into pixels: tens of thousands in a few milliseconds, with no need for a GPU
  drawPoints(context, visible, ratio) {
    const [wide, high] = [this.back.width, this.back.height];
    if (this.pixels.width !== wide || this.pixels.height !== high) [this.pixels.width, this.pixels.height] = [wide, high];
    const image = new ImageData(wide, high);
    const out = new Uint32Array(image.data.buffer);
    const radius = ratio * Math.min(4.2, Math.max(1.7, 200 / Math.sqrt(visible.length + 1)));
    const reach = Math.ceil(radius);
    const [offsets, covers] = [[], []];
    for (let down = -reach; down <= reach; down++) {
      for (let across = -reach; across <= reach; across++) {
        const cover = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(across, down)));
        if (cover > 0) {
          offsets.push(down * wide + across);
          covers.push(Math.round(cover * 225));
        }
      }
    }
    const size = offsets.length;
    const steps = Int32Array.from(offsets);
    const shades = Uint8Array.from(covers);
    const { points } = this.map;
    const { labels } = this.model;
    const inks = new Map();
    const ink = (label) => {
      if (!inks.has(label)) {
        const colour = this.colours.of(label);
        inks.set(label, (parseInt(colour.slice(5, 7), 16) << 16) | (parseInt(colour.slice(3, 5), 16) << 8) | parseInt(colour.slice(1, 3), 16));
      }
      return inks.get(label);
    };
    const scale = this.view.k * ratio;
    const [middle, centre] = [wide / 2 - this.view.x * scale, high / 2 + this.view.y * scale];
    for (let place = 0; place < visible.length; place++) {
      const index = visible[place];
      const column = Math.round(middle + points[2 * index] * scale);
      const row = Math.round(centre - points[2 * index + 1] * scale);
      if (column < reach || row < reach || column >= wide - reach || row >= high - reach) continue;
      const rgb = ink(labels ? labels[index] : -1);
      const at = row * wide + column;
      for (let step = 0; step < size; step++) {
        const cover = shades[step];
        if (cover >= out[at + steps[step]] >>> 24) out[at + steps[step]] = ((cover << 24) | rgb) >>> 0;
      }
    }
    this.pixels.getContext("2d").putImageData(image, 0, 0);
    context.drawImage(this.pixels, 0, 0, ...this.size);
  }

  // one picture in each cell of a grid that moves with the map
  drawPictures(context, visible) {
    const cells = new Map();
    const step = THUMBNAIL / this.view.k;
    for (const index of visible) {
      const [x, y] = [this.map.points[2 * index], this.map.points[2 * index + 1]];
      const [column, row] = [Math.floor(x / step), Math.floor(y / step)];
      const distance = (x / step - column - 0.5) ** 2 + (y / step - row - 0.5) ** 2;
      const key = `${column},${row}`;
      const before = cells.get(key);
      if (!before || distance < before[1]) cells.set(key, [index, distance]);
    }
    this.pictured = [...cells.values()].map(([index]) => index);
    const [high, wide] = this.model.scene.thumbnail;
    const scale = (THUMBNAIL - 8) / Math.max(high, wide);
    context.imageSmoothingEnabled = false;
    for (const index of this.pictured) {
      const [left, top] = this.toScreen(this.map.points[2 * index], this.map.points[2 * index + 1]);
      const [w, h] = [wide * scale, high * scale];
      context.fillStyle = this.colourOf(index);
      context.fillRect(left - w / 2 - 2, top - h / 2 - 2, w + 4, h + 4);
      this.drawThumbnail(context, index, left - w / 2, top - h / 2, w, h);
    }
  }

  drawThumbnail(context, index, left, top, wide, high) {
    const { sheet, thumbnail } = this.model.scene;
    const number = Math.floor(index / sheet ** 2);
    const image = this.sheet(number);
    if (!image.complete || !image.naturalWidth) return false;
    const place = index % sheet ** 2;
    const [h, w] = thumbnail;
    context.drawImage(image, (place % sheet) * w, Math.floor(place / sheet) * h, w, h, left, top, wide, high);
    return true;
  }

  sheet(number) {
    if (!this.sheets.has(number)) {
      const image = new Image();
      image.onload = () => { this.draw(); this.tell.pictures?.(); };
      image.src = this.model.backend.sheet(`sheet-${number}.${this.model.scene.sheet_type}`);
      this.sheets.set(number, image);
    }
    return this.sheets.get(number);
  }

  // the cursor in map coordinates; decodes there
  point(x, y) {
    this.cursor = [x, y];
    this.tell.move(this.model.codeAt(this.map, x, y));
    this.drawCursor();
  }

  placeCursor(code) {
    if (this.map) this.cursor = this.model.placeOf(this.map, code);
    this.drawCursor();
  }

  drawCursor() {
    const ratio = this.front.width / Math.max(1, this.size[0]);
    const context = this.front.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, ...this.size);
    if (!this.cursor) return;
    const [left, top] = this.toScreen(...this.cursor);
    const style = getComputedStyle(document.documentElement);
    for (const [colour, width] of [[style.getPropertyValue("--map"), 5], [style.getPropertyValue("--warm"), 2.4]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      context.arc(left, top, this.held ? 6 : 8, 0, 2 * Math.PI);
      context.stroke();
    }
    if (this.held) {
      context.fillStyle = style.getPropertyValue("--warm");
      context.beginPath();
      context.arc(left, top, 3, 0, 2 * Math.PI);
      context.fill();
    }
  }

  // what stands there: a point, or where pictures are shown, one of those
  nearestPoint(left, top) {
    let [best, least] = [null, (this.pictured ? THUMBNAIL / 2 : 7) ** 2];
    const { points } = this.map;
    for (const index of this.pictured || Array(points.length / 2).keys()) {
      if (!this.shown(index)) continue;
      const [x, y] = this.toScreen(points[2 * index], points[2 * index + 1]);
      const square = (x - left) ** 2 + (y - top) ** 2;
      if (square < least) [best, least] = [index, square];
    }
    return best;
  }

  hold(yes) {
    this.held = yes;
    this.tell.held(yes);
    this.drawCursor();
  }

  click(left, top) {
    const index = this.nearestPoint(left, top);
    if (index !== null) {
      this.hold(true);
      this.tell.pick(index);
    } else if (this.held) {
      this.hold(false);
      this.point(...this.toMap(left, top));
    } else {
      this.point(...this.toMap(left, top));
      this.hold(true);
    }
  }
}
