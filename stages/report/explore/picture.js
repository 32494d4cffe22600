// Photographs under their concepts: one, cut-outs, and a row of them.
"use strict";

// A photograph under its concepts, within a box of CSS pixels, never larger than the picture is.
class Picture {
  constructor(of, i, factors, { width, height, grow = false, coarse = false }) {
    Object.assign(this, { of, i, factors });
    const { set } = of,
      w = set.width(i),
      t = set.height(i);
    const scale = Math.min(width / w, height / t, grow ? Infinity : 1);
    this.wide = Math.max(1, Math.round(w * scale));
    this.tall = Math.max(1, Math.round(t * scale));
    const dense = Math.min(1, scale * (window.devicePixelRatio || 1));
    this.pixels = [Math.max(1, Math.round(w * dense)), Math.max(1, Math.round(t * dense))];
    // heat is smooth, so in a grid half the pixels do
    this.coarse = coarse ? this.pixels.map((side) => Math.ceil(side / 2)) : this.pixels;
    this.photo = h("img", {
      src: set.src(i),
      alt: set.nameless[i],
      width: this.wide,
      height: this.tall,
      decoding: "async",
      draggable: false,
    });
    this.canvas = h("canvas", { "aria-hidden": "true", width: 1, height: 1 });
    this.box = h(
      "div.picture",
      { style: { width: `${this.wide}px`, height: `${this.tall}px` } },
      this.photo,
      this.canvas,
    );
  }

  // Draw what the state says; `done` gets the share of the image that is in masks, or null.
  draw(state, done) {
    const turn = (this.turn = (this.turn || 0) + 1);
    this.box.classList.toggle("faded", state.mode === "heat" && this.factors.length > 0);
    Later.add(async () => {
      if (turn !== this.turn || !this.box.isConnected) return;
      const painting = Draw.paint(
        this.canvas,
        this.of,
        this.i,
        this.factors,
        state,
        ...(state.mode === "heat" ? this.coarse : this.pixels),
      );
      // what has to be loaded first holds nothing up
      const finished = painting.then((share) => {
        if (turn === this.turn && done) done(share);
      });
      Later.loading++;
      finished.catch(App.failed).finally(() => {
        Later.loading--;
      });
      if (this.loaded(state)) await finished;
    });
  }

  loaded(state) {
    if (state.mode === "truth") return this.of.set.truth.has(this.i);
    return (state.mode === "refined" ? this.of.masks : this.of.coefficients).has(this.i);
  }
}

// A square cut out where a factor is strongest on an image.
const crop = (of, i, factor, side, href) => {
  const { set } = of,
    w = set.width(i),
    t = set.height(i);
  const half = Math.min(0.275 * Math.max(w, t), w / 2, t / 2),
    scale = side / (2 * half);
  const picture = new Picture(of, i, [factor], { width: w * scale, height: t * scale, grow: true });
  const link = h(
    "a.crop",
    {
      href,
      "aria-label": `${set.nameless[i]}, where ${factor.title} is strong`,
      title: set.images[i],
      style: { width: `${side}px`, height: `${side}px` },
    },
    picture.box,
  );
  of.need(i)
    .then((entry) => {
      const cells = entry.width * entry.height,
        start = factor.number * cells;
      let most = 0;
      for (let c = 1; c < cells; c++)
        if (entry.levels[start + c] > entry.levels[start + most]) most = c;
      const x = (((most % entry.width) + 0.5) / entry.width) * w,
        y = ((Math.floor(most / entry.width) + 0.5) / entry.height) * t;
      const within = (at, size) => Math.min(Math.max(at - half, 0), size - 2 * half);
      picture.box.style.left = `${-within(x, w) * scale}px`;
      picture.box.style.top = `${-within(y, t) * scale}px`;
    })
    .catch(App.failed);
  picture.draw({ mode: "heat", opacity: 0.75, begins: null });
  return link;
};

// A few cells that all exist.
const row = (of, images, factors, state, href, caption, side = 132) =>
  h(
    "div.row",
    { role: "list" },
    images.map((i) => {
      const picture = new Picture(of, i, factors, { width: side, height: side });
      const value = h("span.value", {}, caption ? caption(i) : "");
      picture.draw(state);
      return h(
        "div",
        { role: "listitem" },
        h(
          "a.cell",
          { href: href(i), title: of.set.images[i] },
          h("span.box", {}, picture.box),
          h("span.cap", {}, h("span.name", {}, of.set.nameless[i]), value),
        ),
      );
    }),
  );
