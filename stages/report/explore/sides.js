// Two sides of a comparison: each has its run, layer, k and what is painted. With one report both are
// of it; with two (`dff beside`) image sets and images are matched by name.
"use strict";

const Sides = { letters: ["A", "B"], modes: [...MODES, ["truth", "Annotated"]] };
const SIDE_SHORT = { run: "r", layer: "l", k: "k", mode: "m", opacity: "o", t: "t" };

// An image set that every run has, with the images that every run has: numbered as in the first run.
class Pair {
  constructor(sets) {
    this.sets = sets;
    const places = sets.map((set) => new Map(set.images.map((name, i) => [name, i])));
    this.images = [];
    this.places = sets.map(() => new Map());
    sets[0].images.forEach((name, i) => {
      if (!places.every((of) => of.has(name))) return;
      this.images.push(i);
      places.forEach((of, run) => this.places[run].set(i, of.get(name)));
    });
    // names that not all have, by run
    this.only = sets.map((set) => set.images.filter((name) => !places.every((of) => of.has(name))));
  }

  get name() {
    return this.sets[0].name;
  }
  // The number in a run's own set of an image.
  at(run, i) {
    return this.places[run].get(i);
  }
}

// Its number in each run, or null where one has it not.
Sides.ranks = (rank) => {
  const { name } = App.run.sets[rank],
    found = App.runs.map((run, n) => (n ? run.sets.findIndex((one) => one.name === name) : rank));
  return found.includes(-1) ? null : found;
};

Sides.pair = async (rank) => {
  const ranks = Sides.ranks(rank);
  if (!ranks)
    throw new Error(`${App.run.sets[rank].name}: only ${App.run.label} has this image set`);
  const sets = await Promise.all(App.runs.map((run, n) => run.set(ranks[n])));
  Sides.pairs.set(rank, Sides.pairs.get(rank) || new Pair(sets));
  return Sides.pairs.get(rank);
};
Sides.pairs = new Map();

// What a side is at first.
Sides.usual = (n, rank) => {
  const two = App.runs.length > 1,
    run = two ? n : 0,
    ranks = Sides.ranks(rank);
  return {
    run,
    layer: 0,
    k: App.runs[run].sets[ranks ? ranks[run] : 0].k,
    mode: two || n ? "refined" : "raw",
    opacity: 100,
    t: null,
    off: new Set(),
  };
};

// Both sides of a set's image, from the view of one run: as it is, beside its refined masks.
Sides.from = (state) => {
  const own = { layer: state.layer, k: state.k, opacity: state.opacity, off: new Set(state.off) };
  const modes = state.mode === "refined" ? ["raw", "refined"] : [state.mode, "refined"];
  if (state.mode === "photo") modes[0] = "heat";
  return modes.map((mode, n) => ({
    ...Sides.usual(n, state.set),
    ...own,
    off: new Set(own.off),
    mode,
    t: n ? null : state.t,
  }));
};

const sideName = (short, n) => (n ? `${short}2` : short);

Sides.parse = (state, asked) => {
  state.sides = [0, 1].map((n) => {
    const side = Sides.usual(n, state.set);
    for (const [name, short] of Object.entries(SIDE_SHORT)) {
      const value = asked.get(sideName(short, n));
      if (value !== null) side[name] = name === "mode" ? value : Number(value);
    }
    for (const one of (asked.get(sideName("off", n)) || "").split("."))
      if (one !== "") side.off.add(Number(one));
    return Sides.checked(side, n, state.set);
  });
  const at = Number(asked.get("at") ?? 50);
  state.at = at >= 0 && at <= 100 ? at : 50;
  state.together = asked.get("as") !== "two";
};

Sides.checked = (side, n, rank) => {
  const usual = Sides.usual(n, rank);
  if (!App.runs[side.run]) side.run = usual.run;
  const run = App.runs[side.run];
  if (!run.layers[side.layer]) side.layer = 0;
  if (!run.ks.includes(side.k)) side.k = run.sets[(Sides.ranks(rank) || [0, 0])[side.run]].k;
  if (!Sides.modes.some(([mode]) => mode === side.mode)) side.mode = usual.mode;
  side.opacity = Math.min(Math.max(side.opacity || 100, 10), 100);
  if (side.t !== null) side.t = side.t >= 1 ? Math.min(side.t, 150) : null;
  return side;
};

// After a change: sides are taken over, or begin from the view of one run, or anew with another set.
Sides.changed = (before, next, change) => {
  const sides =
    "sides" in change
      ? change.sides
      : next.set === before.set
        ? before.sides || (["image", "set"].includes(before.view) && Sides.from(before))
        : null;
  next.sides = [0, 1].map((n) => {
    const side = (sides || [])[n] || Sides.usual(n, next.set);
    return Sides.checked({ ...side, off: new Set(side.off) }, n, next.set);
  });
  next.at = before.at ?? 50;
  next.together = before.together ?? true;
};

Sides.write = (state, asked) => {
  state.sides.forEach((side, n) => {
    const usual = Sides.usual(n, state.set);
    for (const [name, short] of Object.entries(SIDE_SHORT))
      if (side[name] !== usual[name] || (name === "k" && App.runs[side.run].ks.length > 1))
        asked.set(sideName(short, n), side[name]);
    if (side.off.size) asked.set(sideName("off", n), [...side.off].sort((a, b) => a - b).join("."));
  });
  if (!state.together) asked.set("as", "two");
  if (state.at !== 50 && state.view === "versus") asked.set("at", state.at);
};

// The way from the view of one run to both sides: of what is shown when it is followed.
Sides.link = (view) =>
  h(
    view === "versus" ? "a.chip" : "a",
    {
      href: App.link({ view }),
      title: "Two layers, k or kinds of masks of the same photographs, side by side",
      on: {
        pointerdown: (event) => (event.currentTarget.href = App.link({ view })),
        focus: (event) => (event.currentTarget.href = App.link({ view })),
      },
    },
    "compare",
  );

// What one side shows of a pair: its factorization, opened.
Sides.open = async (pair, state, n) => {
  const { ks } = pair.sets[state.run].layers[state.layer];
  const of = ks.find((one) => one.k === state.k) || ks[ks.length - 1];
  state.k = of.k;
  if (state.mode === "truth" && !of.set.annotated) state.mode = "refined";
  await of.open();
  return { letter: Sides.letters[n], state, of, at: (i) => pair.at(state.run, i) };
};

Sides.title = ({ letter, state, of }) => {
  const parts = [`k = ${of.k}`, Sides.modes.find(([mode]) => mode === state.mode)[1].toLowerCase()];
  if (of.set.layers.length > 1) parts.unshift(of.set.layers[state.layer].name);
  if (App.runs.length > 1) parts.unshift(App.runs[state.run].label);
  return `${letter}: ${parts.join(", ")}`;
};

const badge = (letter) => h(`span.badge.side-${letter}`, { "aria-hidden": "true" }, letter);

// Whether a side shows masks whose areas are in the data: not those of another threshold.
const hasAreas = ({ mode, t }) => mode === "refined" || (mode === "raw" && t === null);

// How much of an image each factor's mask takes, or null.
const areasOf = ({ state, of, at }, i) =>
  hasAreas(state)
    ? of.factors.map(({ number: j }) => (state.off.has(j) ? 0 : of.stat(state.mode, at(i), j)))
    : null;

// How much the masks of two sides differ in size on an image, a share of its pixels; of factors that
// are the same each counts, else all together. Null where that is not known.
Sides.difference = ([a, b], i) => {
  const [one, other] = [areasOf(a, i), areasOf(b, i)];
  if (!one || !other) return null;
  if (a.of === b.of) return one.reduce((sum, area, j) => sum + Math.abs(area - other[j]), 0);
  const total = (areas) => areas.reduce((sum, area) => sum + area, 0);
  return Math.abs(total(one) - total(other));
};

// The images of a pair in the order, and of the names, that were asked for.
Sides.ordered = (pair, sides, state) => {
  const words = state.q.toLowerCase(),
    names = pair.sets[0].images;
  const images = pair.images.filter((i) => !words || names[i].toLowerCase().includes(words));
  if (state.sort === "name")
    images.sort((a, b) => names[a].localeCompare(names[b], undefined, { numeric: true }));
  else if (
    state.sort === "d" &&
    pair.images.length &&
    Sides.difference(sides, images[0]) !== null
  ) {
    const far = new Map(images.map((i) => [i, Sides.difference(sides, i)]));
    images.sort((a, b) => far.get(b) - far.get(a) || a - b);
  }
  return images;
};

// The controls of one side. `painted` is told of what needs no other data, `other` of another run,
// layer or k, of which the view is made anew.
Sides.panel = (pair, side, { changed, another, image = null }) => {
  const { letter, state, of } = side,
    { set } = of;
  const select = (label, value, options, use) => {
    const made = h(
      "select",
      {
        "aria-label": `${letter}: ${label}`,
        on: {
          change: () => {
            use(Number(made.value));
            another(letter, label);
          },
        },
      },
      options.map(([one, text]) => h("option", { value: one, selected: one === value }, text)),
    );
    return h("label", {}, h("span", {}, `${label} `), made);
  };
  const anew = (change) => Object.assign(state, { off: new Set(), t: null, ...change });
  const { ks } = set.layers[state.layer],
    modes = set.annotated ? Sides.modes : MODES;
  const lines = of.factors.map((factor) => {
    const box = h("input", {
      type: "checkbox",
      checked: !state.off.has(factor.number),
      "aria-label": `${letter}: show ${factor.title}`,
      on: {
        change: () => {
          if (box.checked) state.off.delete(factor.number);
          else state.off.add(factor.number);
          changed();
        },
      },
    });
    const value = h("span.value", {});
    return {
      factor,
      value,
      element: h(
        "li",
        {},
        h(
          "label",
          {},
          box,
          swatch(factor),
          h("span.name", { title: factor.title }, factor.name || `factor ${factor.number}`),
        ),
        value,
      ),
    };
  });
  const legend = h("ul.legend", {}, ...lines.map(({ element }) => element));
  const element = h(
    `section.side`,
    { "aria-label": `Side ${letter}` },
    h(
      "h2",
      {},
      badge(letter),
      h("span.name", {}, App.runs.length > 1 ? set.run.label : `Side ${letter}`),
    ),
    h(
      "div.side-controls",
      {},
      App.runs.length > 1
        ? select(
            "run",
            state.run,
            App.runs.map((run, n) => [n, run.label]),
            (run) => {
              const layer = App.runs[run].layers[state.layer] ? state.layer : 0;
              anew({ run, layer });
            },
          )
        : null,
      set.layers.length > 1
        ? select(
            "layer",
            state.layer,
            set.layers.map((one, n) => [n, one.name]),
            (layer) => anew({ layer }),
          )
        : null,
      ks.length > 1
        ? select(
            "k",
            of.k,
            ks.map((one) => [one.k, `${one.k}${one.suggested ? " (suggested)" : ""}`]),
            (k) => anew({ k }),
          )
        : null,
      ...paintControls(of, state, () => changed(), modes, `mode-${letter}`),
    ),
    legend,
  );
  // What the numbers of the legend are follows what is painted.
  const tell = () => {
    const stat = hasAreas(state) ? state.mode : "means";
    legend.hidden = ["photo", "truth"].includes(state.mode);
    legend.title = stat === "means" ? "mean strength" : "share of the pixels in its mask";
    for (const { factor, value } of lines)
      value.textContent =
        image === null
          ? Format.percent(meanOf(of, stat, factor.number))
          : Format.percent(of.stat(stat, side.at(image), factor.number));
  };
  tell();
  return { element, tell };
};
