// Photographs under their concepts: one, cut-outs, and a row of them.
"use strict";

// A photograph under its concepts, within a box of CSS pixels, never larger than the picture is.
class Picture {
  // `named`: whether the image's name stands beside it, so that it need not be said twice.
  constructor(of, i, factors, { width, height, grow, coarse, large, named }) {
    Object.assign(this, { of, i, factors });
    const { set } = of,
      [t, w] = large ? set.largest(i) : [set.height(i), set.width(i)];
    const scale = Math.min(width / w, height / t, grow ? Infinity : 1);
    this.wide = Math.max(1, Math.round(w * scale));
    this.tall = Math.max(1, Math.round(t * scale));
    const dense = Math.min(1, scale * (window.devicePixelRatio || 1));
    this.pixels = [Math.max(1, Math.round(w * dense)), Math.max(1, Math.round(t * dense))];
    // heat is smooth, so in a grid half the pixels do
    this.coarse = coarse ? this.pixels.map((side) => Math.ceil(side / 2)) : this.pixels;
    this.photo = h("img", {
      src: large ? set.largeSrc(i) : set.src(i),
      alt: named ? "" : set.nameless[i],
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
    const apart = this.factors.length > Draw.most && state.mode !== "photo";
    this.box.classList.toggle("faded", !apart && state.mode === "heat" && this.factors.length > 0);
    this.box.classList.toggle("apart", apart);
    Later.add(async () => {
      if (turn !== this.turn || !this.box.isConnected) return;
      const { canvas, of, i, factors } = this;
      const painting = apart
        ? Draw.multiples(canvas, this.photo, of, i, factors, state, ...this.pixels)
        : Draw.paint(
            canvas,
            of,
            i,
            factors,
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

// A square cut out around the box of a factor's refined mask on an image; nothing without a mask.
const cutout = (of, i, factor, side, href) => {
  const { set } = of,
    [w, t] = [set.width(i), set.height(i)];
  const link = h("a.crop", {
    href,
    hidden: true,
    "aria-label": `${set.nameless[i]}, around ${factor.title}`,
    title: set.images[i],
    style: { width: `${side}px`, height: `${side}px` },
  });
  Later.loading++;
  of.needMask(i)
    .then(() => {
      const box = of.box(i, factor.number);
      if (!box) return;
      const [top, left, bottom, right] = box;
      const half = Math.max(0.55 * Math.max((right - left) * w, (bottom - top) * t), side / 2),
        scale = side / (2 * half);
      const picture = new Picture(of, i, [factor], {
        width: w * scale,
        height: t * scale,
        grow: true,
      });
      picture.box.style.left = `${side / 2 - ((left + right) / 2) * w * scale}px`;
      picture.box.style.top = `${side / 2 - ((top + bottom) / 2) * t * scale}px`;
      link.append(picture.box);
      link.hidden = false;
      picture.draw({ mode: "refined", opacity: 0.6, begins: null });
    })
    .catch(App.failed)
    .finally(() => {
      Later.loading--;
    });
  return link;
};

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
      const picture = new Picture(of, i, factors, { width: side, height: side, named: true });
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
