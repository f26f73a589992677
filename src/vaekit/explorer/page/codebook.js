// The codes of a model with a codebook: which code stands in each cell of the grid, and what another would make of it.

import { canvasFor, element, put } from "./elements.js";

export class Codebook {
  static title = "Codes";
  static fits = (scene) => Boolean(scene.codebook);

  constructor(app) {
    this.app = app;
    this.cell = null; // number of the chosen cell, row by row
    this.vectors = null;
    this.palette = null;
    this.loading = null;
  }

  build(root) {
    const { model, scene } = this.app;
    const { size, grid: [rows, columns], used, perplexity } = scene.codebook;
    root.append(element("p", {}, `The image is ${rows} × ${columns} cells, each one of ${size} codes. Choose a cell, then a code for it. `
      + `${used} codes occur in these images; they are used as evenly as ${perplexity.toFixed(0)} would be if all were used alike.`));
    this.picture = canvasFor(model, 1, 1, { class: "grid" });
    this.lines = element("canvas", {
      class: "over", width: 560, height: Math.round((560 * model.height) / model.wide), id: "code-cells", tabindex: 0,
      "aria-label": "cells of the image: arrow keys move",
      onclick: (event) => {
        const box = this.lines.getBoundingClientRect();
        const [column, row] = [Math.floor(((event.clientX - box.left) / box.width) * columns), Math.floor(((event.clientY - box.top) / box.height) * rows)];
        this.choose(Math.min(rows - 1, row) * columns + Math.min(columns - 1, column));
      },
      onkeydown: (event) => {
        const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
        if (!by) return;
        event.preventDefault();
        this.choose(((this.cell ?? 0) + by + rows * columns) % (rows * columns));
      },
    });
    this.note = element("p", { id: "code-note", style: "margin-top:6px" }, "no cell is chosen");
    this.tiles = element("canvas", {
      class: "grid", id: "code-palette", title: "put this code into the chosen cell",
      onclick: (event) => this.put(this.under(event)),
      onmousemove: (event) => { this.tiles.title = this.words(this.under(event)); },
    });
    root.append(element("div", { class: "stack" }, this.picture, this.lines), this.note,
      element("p", { style: "margin-top:6px" }, "Each tile: an image whose every cell is this code, the most used first."), this.tiles);
    this.app.guarded(() => this.load());
  }

  async load() {
    this.loading ??= Promise.all([this.app.backend.floats("codebook.bin"), pictureAt(this.app.backend.sheet(this.app.scene.codebook.palette))]);
    [this.vectors, this.palette] = await this.loading;
    [this.tiles.width, this.tiles.height] = [this.palette.naturalWidth, this.palette.naturalHeight];
    this.follow();
  }

  vectorOf(cell) {
    const { dim } = this.app.scene.codebook;
    return this.app.model.code.subarray(cell * dim, (cell + 1) * dim);
  }

  codeAt(cell) {
    const { size, dim } = this.app.scene.codebook;
    const vector = this.vectorOf(cell);
    let [best, least] = [0, Infinity];
    for (let code = 0; code < size; code++) {
      let square = 0;
      for (let channel = 0; channel < dim && square < least; channel++) square += (this.vectors[code * dim + channel] - vector[channel]) ** 2;
      if (square < least) [best, least] = [code, square];
    }
    return { code: best, exact: least < 1e-6 * (1 + dim) };
  }

  under(event) {
    const { size, across } = this.app.scene.codebook;
    const box = this.tiles.getBoundingClientRect();
    const [column, row] = [Math.floor(((event.clientX - box.left) / box.width) * across), Math.floor(((event.clientY - box.top) / box.height) * Math.ceil(size / across))];
    return this.app.scene.codebook.order[Math.min(size - 1, row * across + Math.min(across - 1, column))];
  }

  words(code) {
    return `code ${code}: ${(100 * this.app.scene.codebook.shares[code]).toFixed(2)}% of the cells of these images`;
  }

  choose(cell) {
    this.cell = cell;
    this.follow();
  }

  put(code) {
    if (this.cell === null) {
      this.app.say("choose a cell of the image first");
      return;
    }
    const { dim } = this.app.scene.codebook;
    const next = Float32Array.from(this.app.model.code);
    next.set(this.vectors.subarray(code * dim, (code + 1) * dim), this.cell * dim);
    this.app.setCode(next, { from: "slider" });
  }

  follow() {
    if (!this.vectors || !this.palette) return;
    const { scene } = this.app;
    const { across, grid: [rows, columns], order } = scene.codebook;
    const [wide, high] = [this.lines.width / columns, this.lines.height / rows];
    const over = this.lines.getContext("2d");
    over.clearRect(0, 0, this.lines.width, this.lines.height);
    over.strokeStyle = "rgba(128,128,128,.55)";
    over.lineWidth = 1;
    for (let row = 1; row < rows; row++) over.strokeRect(0, row * high, this.lines.width, 0);
    for (let column = 1; column < columns; column++) over.strokeRect(column * wide, 0, 0, this.lines.height);
    const tiles = this.tiles.getContext("2d");
    tiles.imageSmoothingEnabled = false;
    tiles.drawImage(this.palette, 0, 0);
    if (this.cell === null) return;
    const [row, column] = [Math.floor(this.cell / columns), this.cell % columns];
    over.strokeStyle = "#d55e00";
    over.lineWidth = 5;
    over.strokeRect(column * wide + 2.5, row * high + 2.5, wide - 5, high - 5);
    const { code, exact } = this.codeAt(this.cell);
    this.note.textContent = `row ${row + 1}, column ${column + 1}: ${exact ? "" : "between codes, nearest "}${this.words(code)}`;
    const place = order.indexOf(code);
    const [tileWide, tileHigh] = [this.tiles.width / across, this.tiles.height / Math.ceil(order.length / across)];
    tiles.strokeStyle = "#d55e00";
    tiles.lineWidth = Math.max(2, tileWide / 10);
    tiles.strokeRect((place % across) * tileWide + 1, Math.floor(place / across) * tileHigh + 1, tileWide - 2, tileHigh - 2);
  }

  async refresh() {
    const { model } = this.app;
    const [image] = await model.decode([model.row(model.code)]);
    put(this.picture, image, model);
    this.follow();
  }
}

function pictureAt(address) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Error("the pictures of the codes could not be loaded"));
    picture.src = address;
  });
}
