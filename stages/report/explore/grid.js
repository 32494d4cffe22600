// All images of a set, however many: of the cells only those in sight exist.
"use strict";

// Cells of all images of a set, of which only those in sight exist.
class Grid {
  constructor({ of, factors, state, order, href, caption, small = false }) {
    Object.assign(this, { of, factors, state, order, href, caption, small });
    this.cells = new Map();
    this.active = 0;
    this.element = h("div.grid", {
      role: "list",
      "aria-label": "Images",
      on: { keydown: (event) => this.key(event) },
    });
    this.onScroll = () => {
      if (!this.asked) {
        this.asked = true;
        requestAnimationFrame(() => {
          this.asked = false;
          this.show();
        });
      }
    };
    this.onResize = () => this.place();
    addEventListener("scroll", this.onScroll, { passive: true });
    addEventListener("resize", this.onResize);
  }

  // How wide cells are about, how many stand side by side at least, and their pictures' shape.
  shape(wide) {
    return { target: this.small ? 120 : wide < 600 ? 150 : 196, least: 2, ratio: 0.78 };
  }

  // What a cell shows.
  picture(i) {
    const box = { width: this.wide, height: this.boxTall, coarse: true, named: true };
    return new Picture(this.of, i, this.factors, box);
  }

  close() {
    removeEventListener("scroll", this.onScroll);
    removeEventListener("resize", this.onResize);
  }

  // Begin anew: after a change of the order, of the size, or when first put on the page.
  place() {
    const wide = this.element.clientWidth,
      gap = 12;
    if (!wide) return;
    const { target, least, ratio } = this.shape(wide);
    this.columns = Math.max(least, Math.floor((wide + gap) / (target + gap)));
    this.wide = Math.floor((wide - gap * (this.columns - 1)) / this.columns);
    this.boxTall = Math.round(this.wide * ratio);
    this.tall = this.boxTall + 44;
    this.step = [this.wide + gap, this.tall + gap];
    this.element.style.height = `${Math.max(0, Math.ceil(this.order.length / this.columns) * this.step[1] - gap)}px`;
    for (const { element } of this.cells.values()) element.remove();
    this.cells.clear();
    this.active = Math.min(this.active, Math.max(0, this.order.length - 1));
    this.show();
  }

  reorder(order) {
    this.order = order;
    this.active = 0;
    this.place();
  }

  show() {
    if (!this.columns) return;
    const top = this.element.getBoundingClientRect().top,
      beyond = 300;
    const first = Math.max(0, Math.floor((-top - beyond) / this.step[1])) * this.columns;
    const last = Math.min(
      this.order.length,
      Math.ceil((innerHeight - top + beyond) / this.step[1]) * this.columns,
    );
    for (const [at, { element }] of this.cells) {
      if ((at < first || at >= last) && !element.contains(document.activeElement)) {
        element.remove();
        this.cells.delete(at);
      }
    }
    for (let at = first; at < last; at++) if (!this.cells.has(at)) this.add(at);
  }

  add(at) {
    const i = this.order[at],
      { set } = this.of;
    const picture = this.picture(i);
    const value = h("span.value");
    const link = h(
      "a.cell",
      {
        href: this.href(i),
        title: set.images[i],
        tabIndex: at === this.active ? 0 : -1,
        on: { focus: () => this.activate(at) },
      },
      h("span.box", { style: { height: `${this.boxTall}px` } }, picture.box),
      h("span.cap", {}, h("span.name", {}, set.nameless[i]), value),
    );
    const element = h(
      "div.slot",
      {
        role: "listitem",
        "aria-setsize": this.order.length,
        "aria-posinset": at + 1,
        style: {
          left: `${(at % this.columns) * this.step[0]}px`,
          top: `${Math.floor(at / this.columns) * this.step[1]}px`,
          width: `${this.wide}px`,
        },
      },
      link,
    );
    // in the order of the images, so that a reader who listens hears them in it
    let next = null;
    for (const [other, cell] of this.cells)
      if (other > at && (next === null || other < next)) next = other;
    this.element.insertBefore(element, next === null ? null : this.cells.get(next).element);
    this.cells.set(at, { element, link, picture, value });
    this.draw(at);
  }

  draw(at) {
    const { picture, value } = this.cells.get(at);
    picture.factors = this.factors;
    picture.draw(this.state(), (share) => {
      value.textContent = this.caption(picture.i, share);
    });
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
    const moves = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -this.columns,
      ArrowDown: this.columns,
      PageUp: -page,
      PageDown: page,
      Home: -Infinity,
      End: Infinity,
    };
    if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const at = Math.min(Math.max(this.active + moves[event.key], 0), this.order.length - 1);
    const top =
      this.element.getBoundingClientRect().top + Math.floor(at / this.columns) * this.step[1];
    const bar = document.querySelector(".controls");
    const above = bar && getComputedStyle(bar).position === "sticky" ? bar.offsetHeight + 8 : 8;
    if (top < above) scrollBy(0, top - above);
    else if (top + this.tall > innerHeight) scrollBy(0, top + this.tall - innerHeight + 8);
    this.show();
    this.cells.get(at).link.focus({ preventScroll: true });
  }
}
