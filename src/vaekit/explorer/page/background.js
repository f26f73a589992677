// What lies behind the points of a map: a grid with numbers, or what the decoder makes of every place.

import { pictureOf } from "./pixels.js";

const CELL = 34; // CSS pixels of a cell of the decoded background

export function drawGrid(map, context) {
  if (!map.map.axes) return;
  const style = getComputedStyle(document.documentElement);
  const step = niceStep(90 / map.view.k);
  const [[left, top], [right, bottom]] = [map.toMap(0, 0), map.toMap(...map.size)];
  context.lineWidth = 1;
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = style.getPropertyValue("--faint");
  context.strokeStyle = style.getPropertyValue("--rule");
  context.beginPath();
  for (let x = Math.ceil(left / step) * step; x <= right; x += step) {
    const at = Math.round(map.toScreen(x, 0)[0]) + 0.5;
    context.moveTo(at, 0);
    context.lineTo(at, map.size[1]);
    context.fillText(tick(x, step), at + 3, 12);
  }
  for (let y = Math.ceil(bottom / step) * step; y <= top; y += step) {
    const at = Math.round(map.toScreen(0, y)[1]) + 0.5;
    context.moveTo(0, at);
    context.lineTo(map.size[0], at);
    context.fillText(tick(y, step), 4, at - 3);
  }
  context.stroke();
  const [across, up] = map.map.names;
  context.textAlign = "right";
  context.fillText(across || "", map.size[0] - 8, map.size[1] - 8);
  context.save();
  context.translate(map.size[0] - 8, 26);
  context.fillText(up ? `↑ ${up}` : "", 0, 0);
  context.restore();
  context.textAlign = "left";
}

export async function decodeManifold(map) {
  if (!map.showManifold || !map.map.axes || !map.size[0]) return;
  const [wide, high] = map.size;
  const cell = CELL * Math.max(1, Math.sqrt((wide * high) / (CELL * CELL * 700)));
  const [columns, rows] = [Math.max(1, Math.ceil(wide / cell)), Math.max(1, Math.ceil(high / cell))];
  const seen = { ...map.view };
  const { model } = map;
  const asked = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      asked.push(model.row(model.codeAt(map.map, ...map.toMap((column + 0.5) * cell, (row + 0.5) * cell))));
    }
  }
  let images;
  try {
    images = await model.decode(asked);
  } catch (problem) {
    map.tell.problem(problem);
    return;
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns * model.wide, rows * model.height];
  const context = canvas.getContext("2d");
  images.forEach((levels, place) => {
    context.putImageData(pictureOf(levels, model), (place % columns) * model.wide, Math.floor(place / columns) * model.height);
  });
  map.manifold = { canvas, view: seen, span: [columns * cell, rows * cell], from: [wide, high] };
  map.draw();
}

export function drawManifold(map, context) {
  const { canvas, view, span, from } = map.manifold;
  const scale = map.view.k / view.k;
  const [left, top] = map.toScreen(view.x - from[0] / 2 / view.k, view.y + from[1] / 2 / view.k);
  context.imageSmoothingEnabled = true;
  context.globalAlpha = 0.9;
  context.drawImage(canvas, left, top, span[0] * scale, span[1] * scale);
  context.globalAlpha = 1;
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([1, 2, 5, 10].find((digit) => digit * power >= least) || 10);
}

function tick(value, step) {
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return (Math.abs(value) < step / 2 ? 0 : value).toFixed(digits).replace("-", "−");
}
