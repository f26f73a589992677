// What panels are made of: elements of the page, canvases of the model's images, places to drop things.

import { pictureOf } from "./pixels.js";

export const STRIP = 9; // images in a strip

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function canvasFor(model, columns = 1, rows = 1, attributes = {}) {
  return element("canvas", { width: columns * model.wide, height: rows * model.height, ...attributes });
}

export function put(canvas, levels, model, column = 0, row = 0) {
  canvas.getContext("2d").putImageData(pictureOf(levels, model), column * model.wide, row * model.height);
}

// a canvas, or anything, that takes what is dragged into it: an index of a real image, or the decoded image
export function dropTarget(target, dropped) {
  target.addEventListener("dragover", (event) => {
    event.preventDefault();
    target.classList.add("over");
  });
  target.addEventListener("dragleave", () => target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    target.classList.remove("over");
    dropped(event.dataTransfer);
  });
}
