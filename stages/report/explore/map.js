// The map of a set's images: two directions of concept strengths, to find groups and oddities.
"use strict";

// Points on a canvas, some of them as small photographs when few are in sight.
class Scatter {
  constructor(of, axes, changed) {
    Object.assign(this, { of, axes, changed });
    this.strongest = Uint8Array.from({ length: of.set.count }, (_, i) => {
      let most = 0;
      for (let j = 1; j < of.k; j++)
        if (of.stat("means", i, j) > of.stat("means", i, most)) most = j;
      return most;
    });
    this.photos = new Map();
    this.canvas = h("canvas.scatter", {
      tabIndex: 0,
      role: "img",
      "aria-label":
        "Map of the images. Arrow keys move it, plus and minus zoom; the images in sight are listed under it.",
      on: {
        keydown: (event) => this.key(event),
        pointerdown: (event) => this.press(event),
        pointermove: (event) => this.move(event),
        pointerup: (event) => this.release(event),
        pointerleave: () => this.point(null),
        wheel: (event) => this.wheel(event),
      },
    });
    this.tip = h("div.tip", { hidden: true, "aria-hidden": "true" });
    this.element = h("div.map", {}, this.canvas, this.tip);
    this.onResize = () => this.draw();
    addEventListener("resize", this.onResize);
    this.whole();
  }

  close() {
    removeEventListener("resize", this.onResize);
  }

  // The axes of the state, all in sight.
  place(x, y) {
    const scaled = (values) => {
      const [low, high] = values.reduce(
        ([a, b], value) => [Math.min(a, value), Math.max(b, value)],
        [Infinity, -Infinity],
      );
      return values.map((value) => (high > low ? (value - low) / (high - low) : 0.5));
    };
    this.x = scaled(this.axes.values(x));
    this.y = scaled(this.axes.values(y)).map((value) => 1 - value);
    this.ends = [this.axes.ends(x), this.axes.ends(y)];
    this.whole();
  }

  whole() {
    this.view = { x: -0.03, y: -0.03, size: 1.06 };
  }

  // Positions of the images in sight.
  inSight() {
    const { view } = this,
      found = [];
    for (let i = 0; i < this.x.length; i++) {
      const [u, v] = [(this.x[i] - view.x) / view.size, (this.y[i] - view.y) / view.size];
      if (u >= 0 && u <= 1 && v >= 0 && v <= 1) found.push(i);
    }
    return found;
  }

  at(i) {
    const { view, wide, tall } = this;
    return [((this.x[i] - view.x) / view.size) * wide, ((this.y[i] - view.y) / view.size) * tall];
  }

  draw() {
    const ratio = window.devicePixelRatio || 1,
      { canvas } = this;
    [this.wide, this.tall] = [canvas.clientWidth, canvas.clientHeight];
    if (!this.wide) return;
    Object.assign(canvas, { width: this.wide * ratio, height: this.tall * ratio });
    const context = canvas.getContext("2d"),
      style = getComputedStyle(canvas);
    context.scale(ratio, ratio);
    const seen = this.inSight(),
      side = 46;
    const few = seen.length <= (this.wide * this.tall) / (side * side * 2.5);
    // a number in each point where there is room: colours alone say nothing to some
    const radius = seen.length <= 800 ? 8 : 4.5;
    Object.assign(context, { font: `600 10px ${style.fontFamily}`, textAlign: "center" });
    for (const i of seen) {
      const [x, y] = this.at(i),
        factor = this.of.factors[this.strongest[i]];
      if (few && this.photo(i)) {
        const image = this.photo(i),
          scale = side / Math.max(image.naturalWidth, image.naturalHeight);
        const [w, t] = [image.naturalWidth * scale, image.naturalHeight * scale];
        context.fillStyle = factor.colour;
        context.fillRect(x - w / 2 - 2, y - t / 2 - 2, w + 4, t + 4);
        context.drawImage(image, x - w / 2, y - t / 2, w, t);
      } else {
        context.beginPath();
        context.arc(x, y, radius, 0, 2 * Math.PI);
        context.fillStyle = factor.colour;
        context.fill();
        context.lineWidth = 1;
        context.strokeStyle = style.color;
        context.stroke();
        if (radius < 8) continue;
        context.fillStyle = isLight(factor.rgb) ? "#000" : "#fff";
        context.fillText(String(factor.number), x, y + 3.5);
      }
    }
    context.font = `13px ${style.fontFamily}`;
    context.fillStyle = style.color;
    const [[left, right], [bottom, top]] = this.ends;
    context.textAlign = "left";
    context.fillText(`← ${left}`, 8, this.tall - 8);
    context.fillText(`↑ ${top}`, 8, 18);
    context.textAlign = "right";
    context.fillText(`${right} →`, this.wide - 8, this.tall - 8);
    context.fillText(`${bottom} ↓`, this.wide - 8, this.tall - 26);
    this.changed(seen);
  }

  // A loaded photograph, or null while it is not there yet.
  photo(i) {
    if (!this.photos.has(i)) {
      const image = new Image();
      this.photos.set(i, image);
      image.onload = () => {
        if (!this.waiting)
          this.waiting = requestAnimationFrame(() => {
            this.waiting = 0;
            this.draw();
          });
      };
      image.src = this.of.set.src(i);
    }
    const image = this.photos.get(i);
    return image.complete && image.naturalWidth ? image : null;
  }

  zoom(factor, u = 0.5, v = 0.5) {
    const { view } = this,
      size = Math.min(Math.max(view.size * factor, 0.01), 1.06);
    this.view = { size, x: view.x + u * (view.size - size), y: view.y + v * (view.size - size) };
    this.within();
  }

  pan(u, v) {
    this.view.x += u * this.view.size;
    this.view.y += v * this.view.size;
    this.within();
  }

  within() {
    for (const axis of ["x", "y"])
      this.view[axis] = Math.min(Math.max(this.view[axis], -0.03), 1.03 - this.view.size);
    this.draw();
  }

  key(event) {
    const pans = {
      ArrowLeft: [-0.2, 0],
      ArrowRight: [0.2, 0],
      ArrowUp: [0, -0.2],
      ArrowDown: [0, 0.2],
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in pans) this.pan(...pans[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(0.7);
    else if (event.key === "-") this.zoom(1 / 0.7);
    else if (event.key === "0") {
      this.whole();
      this.draw();
    } else return;
    event.preventDefault();
  }

  // Only with Ctrl, as for a page's own zoom, so that the page can be scrolled over the map.
  wheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const { left, top } = this.canvas.getBoundingClientRect();
    this.zoom(
      event.deltaY < 0 ? 0.8 : 1.25,
      (event.clientX - left) / this.wide,
      (event.clientY - top) / this.tall,
    );
  }

  press(event) {
    this.pressed = { x: event.clientX, y: event.clientY, moved: false };
    this.canvas.setPointerCapture(event.pointerId);
  }

  move(event) {
    const { pressed } = this;
    if (!pressed) return this.point(event);
    const [dx, dy] = [event.clientX - pressed.x, event.clientY - pressed.y];
    if (!pressed.moved && Math.hypot(dx, dy) < 5) return;
    Object.assign(pressed, { x: event.clientX, y: event.clientY, moved: true });
    this.pan(-dx / this.wide, -dy / this.tall);
  }

  release(event) {
    const { pressed } = this;
    this.pressed = null;
    if (!pressed || pressed.moved) return;
    const i = this.nearest(event);
    if (i !== null) App.go({ view: "image", image: i });
  }

  // The image at the pointer, or null.
  nearest(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - left, event.clientY - top];
    let [best, found] = [28, null];
    for (const i of this.inSight()) {
      const [x, y] = this.at(i),
        far = Math.hypot(x - px, y - py);
      if (far < best) [best, found] = [far, i];
    }
    return found;
  }

  point(event) {
    const i = event === null ? null : this.nearest(event);
    this.tip.hidden = i === null;
    this.canvas.style.cursor = i === null ? "grab" : "pointer";
    if (i === null || i === this.told) return;
    this.told = i;
    const [x, y] = this.at(i);
    const picture = new Picture(this.of, i, this.of.factors, { width: 150, height: 120 });
    this.tip.replaceChildren(picture.box, h("span", {}, this.of.set.nameless[i]));
    this.tip.style.left = `${Math.min(Math.max(x - 80, 0), this.wide - 170)}px`;
    this.tip.style.top = `${y > this.tall / 2 ? y - 175 : y + 20}px`;
    picture.draw({ mode: "heat", opacity: 1, begins: null });
  }
}

Views.map = async (state) => {
  const set = await App.run.set(state.set),
    of = await begun(set.factorization(state.layer, state.k), state);
  const axes = new Axes(of),
    known = axes.names.map(([name]) => name);
  const chosen = [state.x, state.y].map((name, n) => (known.includes(name) ? name : axes.usual[n]));
  const found = h("span.quiet", {}),
    odd = axes.oddness();
  let listed = "";
  const scatter = new Scatter(of, axes, (seen) => {
    const order = seen.sort((a, b) => odd[b] - odd[a] || a - b);
    if (listed === order.join()) return;
    listed = order.join();
    found.textContent = `${Format.images(order.length)} in sight, the oddest first`;
    grid.reorder(order);
  });
  const grid = new Grid({
    of,
    factors: shownFactors(of, state),
    state: () => painted(state),
    order: [],
    href: (i) => App.link({ view: "image", image: i }),
    caption: (i, share) => (share === null ? "" : `${Format.percent(share)} masked`),
    small: true,
  });
  const select = (label, n) => {
    const made = h(
      "select",
      {
        "aria-label": label,
        on: {
          change: () => {
            chosen[n] = made.value;
            [state.x, state.y] = chosen;
            App.keep();
            scatter.place(...chosen);
            scatter.draw();
          },
        },
      },
      axes.names.map(([value, title]) =>
        h("option", { value, selected: value === chosen[n] }, title),
      ),
    );
    return h("label", {}, h("span", {}, `${label} `), made);
  };
  const button = (title, label, click) =>
    h("button.small", { type: "button", "aria-label": label, on: { click } }, title);
  scatter.place(...chosen);
  const legend = h(
    "p.quiet",
    {},
    "A point’s colour is that of the image’s strongest concept: ",
    of.factors.map((factor) =>
      h(
        "a.chip",
        { href: App.link({ view: "concept", factor: factor.number }) },
        swatch(factor),
        factor.name || `factor ${factor.number}`,
      ),
    ),
  );
  const bar = controls(of, state, () => {
    App.keep();
    grid.redraw(shownFactors(of, state));
  });
  return {
    title: `map of ${set.name}`,
    scatter,
    close: () => {
      scatter.close();
      grid.close();
    },
    shown: async () => scatter.draw(),
    element: h(
      "div",
      {},
      h("h1", {}, `Map of ${set.name}`),
      bar,
      h(
        "section.controls.loose",
        { "aria-label": "The map" },
        select("across", 0),
        select("up", 1),
        button("+", "Zoom in", () => scatter.zoom(0.7)),
        button("−", "Zoom out", () => scatter.zoom(1 / 0.7)),
        button("all", "Show all images", () => {
          scatter.whole();
          scatter.draw();
        }),
      ),
      scatter.element,
      legend,
      h("h2", {}, "Images ", found),
      grid.element,
    ),
  };
};
