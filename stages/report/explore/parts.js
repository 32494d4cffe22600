// Pieces that views are put together from. Names come from people's disks: they become text nodes and
// properties, never markup.
"use strict";

// An element: h("a.big", {href: "#/"}, "text", another, ...). What is null is left out.
const h = (what, properties, ...children) => {
  const [tag, ...classes] = what.split(".");
  const made = document.createElement(tag || "div");
  if (classes.length) made.className = classes.join(" ");
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined) continue;
    if (name === "style") for (const [key, one] of Object.entries(value)) made.style.setProperty(key, one);
    else if (name === "on") for (const [event, call] of Object.entries(value)) made.addEventListener(event, call);
    else if (name.startsWith("aria-") || name === "role" || name === "for" || name === "list") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
};

const Format = {
  percent: (share, digits = 0) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)} %`),
  number: (value, digits = 0) => (value === null || value === undefined ? "–" : value.toFixed(digits)),
  images: (n) => `${n.toLocaleString("en")} ${n === 1 ? "image" : "images"}`,
};

const say = (text) => { document.getElementById("said").textContent = text; };

// A factor's colour with its number in it: colour alone says nothing to some.
const swatch = (factor) => {
  const [r, g, b] = factor.rgb;
  const light = 0.299 * r + 0.587 * g + 0.114 * b > 140;
  return h("span.swatch", { "aria-hidden": "true", style: { "background-color": factor.colour, color: light ? "#000" : "#fff" } }, String(factor.number));
};

// Work that is done a few milliseconds at a time, so that scrolling goes on meanwhile.
const Later = {
  waiting: [],
  running: false,
  loading: 0, // pictures that wait for their data, or are being painted
  add(work) {
    Later.waiting.push(work);
    if (!Later.running) { Later.running = true; requestAnimationFrame(Later.run); }
  },
  async run() {
    const end = performance.now() + 8;
    while (Later.waiting.length && performance.now() < end) {
      try { await Later.waiting.shift()(); } catch (error) { App.failed(error); }
    }
    Later.running = Later.waiting.length > 0;
    if (Later.running) requestAnimationFrame(Later.run);
  },
};

// A photograph under its concepts, within a box of CSS pixels, never larger than the picture is.
class Picture {
  constructor(of, i, factors, { width, height, grow = false, coarse = false }) {
    Object.assign(this, { of, i, factors });
    const { set } = of, w = set.width(i), t = set.height(i);
    const scale = Math.min(width / w, height / t, grow ? Infinity : 1);
    this.wide = Math.max(1, Math.round(w * scale));
    this.tall = Math.max(1, Math.round(t * scale));
    const dense = Math.min(1, scale * (window.devicePixelRatio || 1));
    this.pixels = [Math.max(1, Math.round(w * dense)), Math.max(1, Math.round(t * dense))];
    // heat is smooth, so in a grid half the pixels do
    this.coarse = coarse ? this.pixels.map((side) => Math.ceil(side / 2)) : this.pixels;
    this.photo = h("img", { src: set.src(i), alt: set.nameless[i], width: this.wide, height: this.tall, decoding: "async", draggable: false });
    this.canvas = h("canvas", { "aria-hidden": "true", width: 1, height: 1 });
    this.box = h("div.picture", { style: { width: `${this.wide}px`, height: `${this.tall}px` } }, this.photo, this.canvas);
  }

  // Draw what the state says; `done` gets the share of the image that is in masks, or null.
  draw(state, done) {
    const turn = (this.turn = (this.turn || 0) + 1);
    this.box.classList.toggle("faded", state.mode === "heat" && this.factors.length > 0);
    Later.add(async () => {
      if (turn !== this.turn || !this.box.isConnected) return;
      const painting = Draw.paint(this.canvas, this.of, this.i, this.factors, state, ...(state.mode === "heat" ? this.coarse : this.pixels));
      // what has to be loaded first holds nothing up
      const finished = painting.then((share) => { if (turn === this.turn && done) done(share); });
      Later.loading++;
      finished.catch(App.failed).finally(() => { Later.loading--; });
      if (this.loaded(state)) await finished;
    });
  }

  loaded(state) {
    return (state.mode === "refined" ? this.of.masks : this.of.coefficients).has(this.i);
  }
}

// A square cut out where a factor is strongest on an image.
const crop = (of, i, factor, side, href) => {
  const { set } = of, w = set.width(i), t = set.height(i);
  const half = Math.min(0.275 * Math.max(w, t), w / 2, t / 2), scale = side / (2 * half);
  const picture = new Picture(of, i, [factor], { width: w * scale, height: t * scale, grow: true });
  const link = h("a.crop", { href, "aria-label": `${set.nameless[i]}, where ${factor.title} is strong`, title: set.images[i], style: { width: `${side}px`, height: `${side}px` } }, picture.box);
  of.need(i).then((entry) => {
    const cells = entry.width * entry.height, start = factor.number * cells;
    let most = 0;
    for (let c = 1; c < cells; c++) if (entry.levels[start + c] > entry.levels[start + most]) most = c;
    const x = ((most % entry.width) + 0.5) / entry.width * w, y = (Math.floor(most / entry.width) + 0.5) / entry.height * t;
    const within = (at, size) => Math.min(Math.max(at - half, 0), size - 2 * half);
    picture.box.style.left = `${-within(x, w) * scale}px`;
    picture.box.style.top = `${-within(y, t) * scale}px`;
  }).catch(App.failed);
  picture.draw({ mode: "heat", opacity: 0.75, begins: null });
  return link;
};

// Cells of all images of a set, of which only those in sight exist.
class Grid {
  constructor({ of, factors, state, order, href, caption, small = false }) {
    Object.assign(this, { of, factors, state, order, href, caption, small });
    this.cells = new Map();
    this.active = 0;
    this.element = h("div.grid", { role: "list", "aria-label": "Images", on: { keydown: (event) => this.key(event) } });
    this.onScroll = () => { if (!this.asked) { this.asked = true; requestAnimationFrame(() => { this.asked = false; this.show(); }); } };
    this.onResize = () => this.place();
    addEventListener("scroll", this.onScroll, { passive: true });
    addEventListener("resize", this.onResize);
  }

  close() {
    removeEventListener("scroll", this.onScroll);
    removeEventListener("resize", this.onResize);
  }

  // Begin anew: after a change of the order, of the size, or when first put on the page.
  place() {
    const wide = this.element.clientWidth, gap = 12;
    if (!wide) return;
    const target = this.small ? 120 : wide < 600 ? 150 : 196;
    this.columns = Math.max(2, Math.floor((wide + gap) / (target + gap)));
    this.wide = Math.floor((wide - gap * (this.columns - 1)) / this.columns);
    this.boxTall = Math.round(this.wide * 0.78);
    this.tall = this.boxTall + 44;
    this.step = [this.wide + gap, this.tall + gap];
    this.element.style.height = `${Math.max(0, Math.ceil(this.order.length / this.columns) * this.step[1] - gap)}px`;
    for (const { element } of this.cells.values()) element.remove();
    this.cells.clear();
    this.active = Math.min(this.active, Math.max(0, this.order.length - 1));
    this.show();
  }

  reorder(order) { this.order = order; this.active = 0; this.place(); }

  show() {
    if (!this.columns) return;
    const top = this.element.getBoundingClientRect().top, beyond = 300;
    const first = Math.max(0, Math.floor((-top - beyond) / this.step[1])) * this.columns;
    const last = Math.min(this.order.length, Math.ceil((innerHeight - top + beyond) / this.step[1]) * this.columns);
    for (const [at, { element }] of this.cells) {
      if ((at < first || at >= last) && !element.contains(document.activeElement)) { element.remove(); this.cells.delete(at); }
    }
    for (let at = first; at < last; at++) if (!this.cells.has(at)) this.add(at);
  }

  add(at) {
    const i = this.order[at], { set } = this.of;
    const picture = new Picture(this.of, i, this.factors, { width: this.wide, height: this.boxTall, coarse: true });
    const value = h("span.value");
    const link = h("a.cell", { href: this.href(i), title: set.images[i], tabIndex: at === this.active ? 0 : -1, on: { focus: () => this.activate(at) } },
      h("span.box", { style: { height: `${this.boxTall}px` } }, picture.box),
      h("span.cap", {}, h("span.name", {}, set.nameless[i]), value));
    const element = h("div.slot", { role: "listitem", "aria-setsize": this.order.length, "aria-posinset": at + 1, style: {
      left: `${(at % this.columns) * this.step[0]}px`, top: `${Math.floor(at / this.columns) * this.step[1]}px`, width: `${this.wide}px` } }, link);
    // in the order of the images, so that a reader who listens hears them in it
    let next = null;
    for (const [other, cell] of this.cells) if (other > at && (next === null || other < next)) next = other;
    this.element.insertBefore(element, next === null ? null : this.cells.get(next).element);
    this.cells.set(at, { element, link, picture, value });
    this.draw(at);
  }

  draw(at) {
    const { picture, value } = this.cells.get(at);
    picture.factors = this.factors;
    picture.draw(this.state(), (share) => { value.textContent = this.caption(picture.i, share); });
  }

  redraw(factors) {
    this.factors = factors;
    for (const at of this.cells.keys()) this.draw(at);
  }

  activate(at) {
    const before = this.cells.get(this.active);
    if (before) before.link.tabIndex = -1;
    this.active = at;
    this.cells.get(at).link.tabIndex = 0;
  }

  key(event) {
    const page = this.columns * Math.max(1, Math.floor(innerHeight / this.step[1]) - 1);
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
    if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const at = Math.min(Math.max(this.active + moves[event.key], 0), this.order.length - 1);
    const top = this.element.getBoundingClientRect().top + Math.floor(at / this.columns) * this.step[1];
    const bar = document.querySelector(".controls");
    const above = bar && getComputedStyle(bar).position === "sticky" ? bar.offsetHeight + 8 : 8;
    if (top < above) scrollBy(0, top - above);
    else if (top + this.tall > innerHeight) scrollBy(0, top + this.tall - innerHeight + 8);
    this.show();
    this.cells.get(at).link.focus({ preventScroll: true });
  }
}

// A few cells that all exist.
const row = (of, images, factors, state, href, caption, side = 132) => h("div.row", { role: "list" }, images.map((i) => {
  const picture = new Picture(of, i, factors, { width: side, height: side });
  const value = h("span.value", {}, caption ? caption(i) : "");
  picture.draw(state);
  return h("div", { role: "listitem" }, h("a.cell", { href: href(i), title: of.set.images[i] }, h("span.box", {}, picture.box), h("span.cap", {}, h("span.name", {}, of.set.nameless[i]), value)));
}));
