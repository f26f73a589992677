// How a pointer, fingers, the wheel and keys move a map and its cursor.

export function listen(map) {
  const canvas = map.front;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    map.pointers.set(event.pointerId, { at: place(event), moved: 0, touch: event.pointerType === "touch" });
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    const known = map.pointers.get(event.pointerId);
    if (!known) {
      if (!map.held && event.pointerType !== "touch") map.point(...map.toMap(...now));
      return;
    }
    const [across, down] = [now[0] - known.at[0], now[1] - known.at[1]];
    known.moved += Math.hypot(across, down);
    if (map.pointers.size === 2) {
      const [a, b] = [...map.pointers.values()];
      const before = Math.hypot(a.at[0] - b.at[0], a.at[1] - b.at[1]);
      known.at = now;
      const after = Math.hypot(a.at[0] - b.at[0], a.at[1] - b.at[1]);
      map.pan(across / 2, down / 2);
      if (before > 0) map.zoom(after / before, (a.at[0] + b.at[0]) / 2, (a.at[1] + b.at[1]) / 2);
    } else {
      known.at = now;
      if (known.touch) map.point(...map.toMap(...now));
      else if (known.moved > 4) map.pan(across, down);
    }
  });
  const up = (event) => {
    const known = map.pointers.get(event.pointerId);
    map.pointers.delete(event.pointerId);
    if (known && known.moved <= 4 && event.type === "pointerup") map.click(...place(event));
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    map.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...place(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (step) {
      event.preventDefault();
      if (event.shiftKey) {
        map.pan(-step[0] * 40, step[1] * 40);
        return;
      }
      const unit = Math.min(...map.size) / 40 / map.view.k;
      const [x, y] = map.cursor || [map.view.x, map.view.y];
      map.point(x + step[0] * unit, y + step[1] * unit);
      map.hold(true);
    } else if (event.key === "Enter") {
      map.hold(!map.held);
    } else if (event.key === "+" || event.key === "=") {
      map.zoom(1.3);
    } else if (event.key === "-") {
      map.zoom(1 / 1.3);
    }
  });
}
