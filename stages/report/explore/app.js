// Where one is, as the page's address says, and what is shown there.
"use strict";

// One run, or two that are compared: `dff beside` says so in the page.
const BASES = document.documentElement.dataset.runs;
const App = {
  runs: (BASES || "").split(" ").map((base) => new Run(base)),
  shown: null,
  state: null,
};
[App.run] = App.runs;

const BEGIN = {
  view: "overview",
  set: 0,
  layer: 0,
  k: null,
  factor: 0,
  image: 0,
  mode: "heat",
  opacity: 100,
  t: null,
  off: new Set(),
  sort: "order",
  q: "",
  x: "",
  y: "",
};
const SHORT = {
  layer: "l",
  k: "k",
  mode: "m",
  opacity: "o",
  t: "t",
  sort: "sort",
  q: "q",
  x: "x",
  y: "y",
  sides: null, // of a comparison: see sides.js
};

// #/s0/i12?k=4&m=raw: a view that can be sent as a link.
App.parse = (hash) => {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const state = { ...BEGIN, off: new Set() },
    asked = new URLSearchParams(query);
  const found = /^s(\d+)(?:\/([ci])(\d+))?(?:\/(map|vs|names))?$/.exec(path);
  if (found) {
    state.set = Number(found[1]);
    state.view = { undefined: "set", c: "concept", i: "image" }[found[2]];
    if (found[2]) state[state.view === "concept" ? "factor" : "image"] = Number(found[3]);
    if (found[4] === "vs" || BASES) state.view = state.view === "image" ? "versus" : "pairs";
    else if (found[4]) state.view = found[4];
  } else if (BASES) {
    state.view = "beside";
  } else if (path === "names") state.view = "allNames";
  else if (Inside.own(App.run).length === 1 && path !== "all") state.view = "set";
  for (const [name, short] of Object.entries(SHORT)) {
    const value = asked.get(short);
    if (value !== null) state[name] = typeof BEGIN[name] === "string" ? value : Number(value);
  }
  for (const one of (asked.get("off") || "").split(".")) if (one !== "") state.off.add(Number(one));
  App.checked(state);
  if (["pairs", "versus"].includes(state.view)) Sides.parse(state, asked);
  return state;
};

// The state with everything within what there is.
App.checked = (state) => {
  const { run } = App,
    within = (value, most) => (Number.isInteger(value) && value >= 0 && value < most ? value : 0);
  state.set = within(state.set, run.sets.length);
  state.layer = within(state.layer, run.layers.length);
  if (!run.ks.includes(state.k)) state.k = run.sets[state.set].k;
  state.factor = within(state.factor, state.k);
  state.image = within(state.image, run.sets[state.set].count);
  if (!MODES.some(([mode]) => mode === state.mode)) state.mode = BEGIN.mode;
  state.opacity = Math.min(Math.max(state.opacity || 100, 10), 100);
  if (state.t !== null)
    state.t = Number.isFinite(state.t) ? Math.min(Math.max(state.t, 1), 150) : null;
  return state;
};

App.hash = (state) => {
  const path = {
    overview: "all",
    set: `s${state.set}`,
    names: `s${state.set}/names`,
    allNames: "names",
    concept: `s${state.set}/c${state.factor}`,
    image: `s${state.set}/i${state.image}`,
    map: `s${state.set}/map`,
    beside: "all",
    pairs: `s${state.set}/vs`,
    versus: `s${state.set}/i${state.image}/vs`,
  }[state.view];
  const asked = new URLSearchParams();
  const compared = ["pairs", "versus"].includes(state.view),
    few = compared || ["overview", "beside", "allNames"].includes(state.view);
  for (const [name, short] of Object.entries(SHORT)) {
    // which k is shown first may be another in the report of tomorrow: a link says its own
    const usual = name === "k" && App.run.ks.length === 1 ? state.k : BEGIN[name];
    if (state[name] !== usual && !(few && !["sort", "q"].includes(name)))
      asked.set(short, state[name]);
  }
  if (compared) Sides.write(state, asked);
  if (state.off.size && !few) asked.set("off", [...state.off].sort((a, b) => a - b).join("."));
  const query = asked.toString();
  return `#/${path}${query ? `?${query}` : ""}`;
};

// The state after a change. Another set begins anew; with another k, what was off stays off by its
// colour, which is the concept's.
App.changed = (change) => {
  const before = App.state,
    next = { ...before, off: new Set(before.off), ...change };
  const whole = (one) => one.view === "overview" || one.view === "allNames"; // of no one set
  if (whole(next) || whole(before) || next.set !== before.set) {
    Object.assign(next, { sort: "order", q: "", x: "", y: "", off: new Set(), ...change });
    if (!("k" in change)) next.k = App.run.sets[next.set].k;
  } else if (next.k !== before.k || next.layer !== before.layer) {
    const set = App.run.here.get(before.set);
    const factors = (one) => set.factorization(one.layer, one.k).factors;
    const colours = new Set([...before.off].map((j) => factors(before)[j]?.colour));
    next.off = new Set(
      next.layer === before.layer
        ? factors(next)
            .filter((factor) => colours.has(factor.colour))
            .map((factor) => factor.number)
        : [],
    );
    if (/^[fmrg]\d+$/.test(next.sort)) {
      const followed = factors(before)[Number(next.sort.slice(1))]?.colour,
        now = factors(next).find((factor) => factor.colour === followed);
      next.sort = now ? next.sort[0] + now.number : "order";
    }
  }
  App.checked(next);
  if (["pairs", "versus"].includes(next.view)) Sides.changed(before, next, change);
  return next;
};

App.link = (change) => App.hash(App.changed(change));

// Note what a control changed in the address, without another step in the history.
App.keep = () => history.replaceState(null, "", App.hash(App.state));

App.go = (change, { keepFocus = false } = {}) => {
  const hash = App.link(change);
  if (hash === location.hash) return;
  if (keepFocus) {
    history.replaceState(null, "", hash);
    App.show(keepFocus);
  } else location.hash = hash;
};

App.failed = (error) => {
  console.error(error);
  const line = document.querySelector(".failed") || h("p.note.failed", { role: "alert" });
  line.textContent = String(error.message || error);
  document.getElementById("content").prepend(line);
};

App.bar = (state) => {
  const { run } = App,
    set = run.sets[state.set];
  const crumbs = [
    h(
      "a",
      {
        href: "#/all",
        "aria-current": ["overview", "beside"].includes(state.view) ? "page" : null,
      },
      BASES ? "Two runs" : Inside.own(run).length === 1 ? "This run" : "All sets",
    ),
  ];
  const whole = BASES ? "pairs" : "set";
  if (!["overview", "allNames", "beside"].includes(state.view))
    crumbs.push(
      ...Inside.above(run, state.set).map((rank) =>
        h("a", { href: App.link({ view: whole, set: rank }) }, run.sets[rank].name),
      ),
      h(
        "a",
        { href: App.link({ view: whole }), "aria-current": state.view === whole ? "page" : null },
        set.name,
      ),
    );
  if (state.view === "map") crumbs.push(h("span", {}, "map"));
  if (["pairs", "versus"].includes(state.view) && !BASES)
    crumbs.push(h("a", { href: App.link({ view: "pairs" }) }, "A and B"));
  if (state.view === "concept") {
    const { title } = run.here.get(state.set).factorization(state.layer, state.k).factors[
      state.factor
    ];
    crumbs.push(h("span", {}, h("bdi", {}, title)));
  }
  if (["image", "versus"].includes(state.view))
    crumbs.push(h("span", {}, `image ${state.image + 1}`));
  document
    .getElementById("bar")
    .replaceChildren(
      h("nav.crumbs", { "aria-label": "Where you are" }, crumbs),
      ...(BASES
        ? []
        : [
            Names.link(state),
            h("a.report", { href: state.view === "overview" ? "index.html" : set.href }, "report"),
          ]),
    );
};

App.show = async (keepFocus = false) => {
  const state = (App.state = App.parse(location.hash)),
    content = document.getElementById("content");
  const turn = (App.turn = (App.turn || 0) + 1);
  try {
    const view = await Views[state.view](state);
    if (turn !== App.turn) {
      if (view.close) view.close();
      return;
    }
    if (App.shown && App.shown.close) App.shown.close();
    const scrolled = scrollY;
    App.shown = view;
    App.bar(state);
    document.title = `${view.title} · concepts`;
    content.replaceChildren(view.element);
    content.dataset.view = state.view;
    scrollTo(0, keepFocus ? scrolled : App.places.get(location.hash) || 0);
    if (keepFocus === "k")
      content.querySelector("input[aria-label=k]")?.focus({ preventScroll: true });
    else if (!keepFocus && App.moved) content.focus({ preventScroll: true });
    App.moved = true;
    if (view.shown) await view.shown();
    if (!keepFocus && turn === App.turn && App.places.has(location.hash))
      scrollTo(0, App.places.get(location.hash));
    content.dataset.ready = String(turn);
  } catch (error) {
    App.failed(error);
  }
};

// Where each view was scrolled to, for the way back.
App.places = new Map();
addEventListener(
  "scroll",
  () => {
    if (App.state) App.places.set(location.hash, scrollY);
  },
  { passive: true },
);

addEventListener("hashchange", () => App.show());
document
  .getElementById("skip")
  .addEventListener("click", () => document.getElementById("content").focus());
history.scrollRestoration = "manual";
// Of two runs that are compared no names are given.
App.begin = async () => {
  if (BASES) return Sides.begin();
  App.run.arrived = (set) => Names.dress(set);
  await App.run.open();
  return Names.open();
};
App.begin()
  .then(() => App.show())
  .catch(App.failed);
