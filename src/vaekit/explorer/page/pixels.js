// From levels to pictures.

// levels (height, width, channels) to pixels of a canvas
export function pictureOf(levels, model) {
  const image = new ImageData(model.wide, model.height);
  for (let place = 0, at = 0; place < model.wide * model.height; place++) {
    for (let part = 0; part < 3; part++) image.data[4 * place + part] = levels[at + (model.channels === 1 ? 0 : part)];
    at += model.channels;
    image.data[4 * place + 3] = 255;
  }
  return image;
}
