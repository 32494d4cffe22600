// One factor where names are given: what it shows, and a field for its name.
"use strict";

const NAMING_CROP = 76;

class NamingRow {
  // `view` is told of what is done with the row: see NamingView.
  constructor(view, rank, k, j) {
    Object.assign(this, { view, rank, k, j, place: Names.place(rank, k, j) });
    const said = (this.said = `factor ${j} of ${App.run.sets[rank].name}, k = ${k}`);
    this.mark = h("input", {
      type: "checkbox",
      "aria-label": `Mark ${said}`,
      on: { change: () => view.marked() },
    });
    this.field = nameField({
      label: `Name of ${said}`,
      value: Names.text(Names.of(this.place)),
      commit: (text) => view.name(this, Names.parse(text)),
      key: (event) => view.fieldKey(this, event),
      hints: () => this.looks,
    });
    this.head = h("span.naming-swatch", {}, String(j));
    this.crops = h("div.crops", {});
    this.hints = h("div.naming-hints", {});
    this.clear = h(
      "button.small",
      {
        type: "button",
        "aria-label": `No name for ${said}`,
        on: { click: () => view.name(this, []) },
      },
      "no name",
    );
    this.element = h(
      "div.naming",
      {
        role: "group",
        "aria-label": said,
        tabIndex: -1,
        on: { focusin: () => view.at(this) },
      },
      h("label.naming-mark", {}, this.mark),
      this.head,
      h(
        "div.naming-name",
        {},
        h("div.naming-line", {}, this.field.element, this.clear),
        this.hints,
      ),
      this.crops,
    );
    this.element.row = this;
    this.show();
  }

  show() {
    const names = Names.of(this.place);
    this.field.show(Names.text(names));
    this.element.setAttribute("aria-label", `${this.said}: ${Names.text(names) || "no name"}`);
    this.clear.style.visibility = names.length ? "" : "hidden"; // its room stays
    this.tell();
  }

  // Once it is in sight: its colour, the images in which it is strongest, and what it comes from.
  async fill() {
    const set = await App.run.set(this.rank);
    this.of = set.factorization(Names.layer, this.k);
    await this.of.tops();
    const factor = this.of.factors[this.j],
      to = { set: this.rank, layer: Names.layer, k: this.k };
    this.factor = factor;
    const link = h(
      "a",
      {
        href: App.link({ ...to, view: "concept", factor: this.j }),
        "aria-label": `Look at factor ${this.j}`,
      },
      swatch(factor),
    );
    this.head.replaceChildren(link);
    this.crops.replaceChildren(
      ...factor.tops.map((i) =>
        crop(this.of, i, factor, NAMING_CROP, App.link({ ...to, view: "image", image: i })),
      ),
    );
    // the factor's own link leads there, too: Tab goes from field to field
    for (const one of this.crops.children) one.tabIndex = -1;
    this.tell();
  }

  // Beside the field: the part that its masks fit, and the concept that it splits from.
  tell() {
    if (!this.factor) return;
    const hints = [],
      { part, iou, parent } = this.factor;
    const offer = (before, names, label) =>
      h(
        "button.small",
        {
          type: "button",
          "aria-label": label,
          on: { click: () => this.view.name(this, names) },
        },
        before,
        h("bdi", {}, Names.text(names)),
      );
    if (parent) {
      const names = this.parentNames;
      const from = `splits from factor ${parent[1]} of k = ${parent[0]}`;
      hints.push(h("span", {}, `${from} `));
      if (names.length)
        hints.push(offer("as it: ", names, `Name it as what it ${from}: ${Names.text(names)}`));
    }
    if (part)
      hints.push(
        offer(
          `fits, IoU ${Format.number(iou, 0)}: `,
          [part],
          `Name it as the annotated part ${part}`,
        ),
      );
    this.looks.slice(0, 2).forEach((name, n) => {
      const before = n ? "or " : "looks to the network like: ";
      hints.push(offer(before, [name], `Name it ${name}, which it looks like to the network`));
    });
    this.hints.replaceChildren(...hints);
  }

  // What it looks like to the network; nothing before it is in sight.
  get looks() {
    return this.factor ? Meaning.hints(this.of, this.factor) : [];
  }

  // The place of the factor that this one splits from.
  get parent() {
    const parent = this.factor && this.factor.parent;
    return parent ? Names.place(this.rank, parent[0], parent[1]) : null;
  }

  get parentNames() {
    return this.parent ? Names.of(this.parent) : [];
  }

  focus(field) {
    const target = field ? this.field.input : this.element;
    target.focus({ preventScroll: true });
    if (field) target.select();
    this.element.scrollIntoView({ block: "nearest" });
  }
}
