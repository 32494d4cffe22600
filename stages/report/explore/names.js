// What factors are called: what labels.yaml said when the report was made, and what was typed here
// since. What was typed is kept in the browser until a report has it.
"use strict";

const KEPT = "dff-names:";

const Names = {
  layer: -1, // the one that is named, among the run's
  typed: new Map(), // place -> { now, was }: lists of names, and what they replaced
  done: [], // for undo: lists of { place, from, to }
  undone: [],
  kept: true, // whether the browser keeps anything
  older: [], // what was typed for other factors that this page once had
  directions: new Map(), // set and k -> text; kept with what was typed
};

Names.place = (rank, k, j) => `${rank}/${k}/${j}`;
Names.where = (place) => place.split("/").map(Number);
Names.same = (a, b) => a.length === b.length && a.every((one, n) => one === b[n]);
Names.text = (names) => names.join(" + ");

// As stages.naming.labels.clean: one line, and what is no character is U+FFFD.
Names.clean = (text) =>
  text
    .replace(/[\t-\r\x1c-\x1f\x85\p{Z}]+/gu, " ")
    .replace(/[\p{Cc}\p{Cs}]/gu, "\ufffd")
    .replace(/^ | $/g, "");

// What is typed into a field: several names have a plus between spaces between them.
Names.parse = (text) => [
  ...new Set(
    Names.clean(text)
      .split(/(?:^| )\+(?= |$)/)
      .map(Names.clean)
      .filter((name) => name),
  ),
];

Names.given = (place) => {
  const [rank, k, j] = Names.where(place),
    by_k = Names.facts.names[rank];
  return (by_k && Object.hasOwn(by_k, k) && by_k[k][j]) || [];
};
Names.of = (place) => {
  const typed = Names.typed.get(place);
  return typed ? typed.now : Names.given(place);
};
Names.list = (rank, k, from = Names.of) =>
  Array.from({ length: k }, (_, j) => from(Names.place(rank, k, j)));
Names.was = (place) => (Names.typed.get(place) || { was: Names.given(place) }).was;

// How many factors of a set at a k have a name.
Names.count = (rank, k) => Names.list(rank, k).filter((names) => names.length).length;

// Every name that is used, with how many factors have it, the most used first.
Names.used = () => {
  const found = new Map();
  App.run.sets.forEach((_, rank) => {
    for (const k of App.run.ks)
      for (const names of Names.list(rank, k))
        for (const name of names) found.set(name, (found.get(name) || 0) + 1);
  });
  return new Map([...found].sort((a, b) => b[1] - a[1]));
};

// Names that labels.yaml has changed since they were changed here.
Names.disputed = () =>
  [...Names.typed.keys()].filter(
    (place) => !Names.same(Names.given(place), Names.typed.get(place).was),
  );

Names.open = () => {
  Names.facts = App.run.naming;
  Names.layer = App.run.layers.indexOf(Names.facts.layer);
  Names.key = `${KEPT}${Names.facts.factors}:${Names.facts.seed}:${Names.facts.layer}`;
  Names.read();
  addEventListener("storage", (event) => {
    if (event.key !== Names.key) return;
    const before = [...Names.typed.keys()];
    Names.read();
    Names.show([...new Set([...before, ...Names.typed.keys()])]);
  });
};

// Take over what the browser has kept: of these factors what no report has yet.
Names.read = () => {
  const { sets, ks } = App.run;
  Names.typed.clear();
  Names.older = [];
  try {
    for (let n = 0; n < localStorage.length; n++) {
      const key = localStorage.key(n);
      if (!key.startsWith(KEPT)) continue;
      const kept = JSON.parse(localStorage.getItem(key));
      if (key !== Names.key) {
        if (kept.page === location.pathname && kept.groups.length) Names.older.push({ key, kept });
        continue;
      }
      for (const { rank, k, now, was, directions } of kept.groups) {
        if (!sets[rank] || !ks.includes(k)) continue;
        if (directions) Names.directions.set(`${rank}/${k}`, directions);
        now.forEach((names, j) => {
          const place = Names.place(rank, k, j);
          if (!Names.same(names, was[j]) && !Names.same(names, Names.given(place)))
            Names.typed.set(place, { now: names, was: was[j] });
        });
      }
    }
  } catch {
    Names.kept = false; // the page says so
  }
};

// What is kept is whole: it can become a file also when the report has other factors.
Names.keep = () => {
  const groups = new Map();
  for (const place of Names.typed.keys()) {
    const [rank, k] = Names.where(place),
      key = `${rank}/${k}`;
    if (groups.has(key)) continue;
    groups.set(key, {
      rank,
      set: App.run.sets[rank].name,
      k,
      now: Names.list(rank, k),
      was: Names.list(rank, k, Names.was),
      directions: Names.directions.get(key) || null,
    });
  }
  const { layer, seed, factors } = Names.facts,
    all = [...groups.values()];
  const put = (some) => {
    const kept = { page: location.pathname, layer, seed, factors, groups: some };
    try {
      if (some.length) localStorage.setItem(Names.key, JSON.stringify(kept));
      else localStorage.removeItem(Names.key);
      return true;
    } catch {
      return false;
    }
  };
  // where there is no room for all, names come before what only other factors need
  Names.kept = put(all) || put(all.map((group) => ({ ...group, directions: null })));
  for (const { rank, k } of groups.values()) Names.direct(rank, k);
};

// Have the directions of a set's factors kept, too: by them names find other factors.
Names.direct = async (rank, k) => {
  const key = `${rank}/${k}`;
  if (Names.directions.has(key)) return;
  Names.directions.set(key, null); // asked for once
  try {
    const found = await App.run.load(`${DFF.folder(rank)}/names`);
    for (const [one, text] of Object.entries(found)) Names.directions.set(`${rank}/${one}`, text);
    Names.keep();
  } catch {
    // said when a file is asked for, which needs them
  }
};

// Give factors names; all of it is one step to undo. Returns how many changed.
Names.assign = (pairs) => {
  const step = pairs
    .map(([place, to]) => ({ place, from: Names.of(place), to }))
    .filter(({ from, to }) => !Names.same(from, to));
  if (!step.length) return 0;
  Names.done.push(step);
  Names.undone = [];
  Names.put(step.map(({ place, to }) => [place, to]));
  return step.length;
};

Names.put = (pairs) => {
  for (const [place, names] of pairs) {
    const was = Names.was(place);
    if (Names.same(names, Names.given(place))) Names.typed.delete(place);
    else Names.typed.set(place, { now: names, was });
  }
  Names.keep();
  Names.show(pairs.map(([place]) => place));
};

// Undo the last step, or do it again: returns the factors that changed.
Names.back = (from, into, side) => {
  const step = from.pop();
  if (!step) return [];
  into.push(step);
  Names.put(step.map((one) => [one.place, one[side]]));
  return step.map(({ place }) => place);
};
Names.undo = () => Names.back(Names.done, Names.undone, "from");
Names.redo = () => Names.back(Names.undone, Names.done, "to");

// Of disputed names: keep those typed here, or take the report's.
Names.settle = (mine) => {
  const places = Names.disputed();
  if (!mine) {
    Names.assign(places.map((place) => [place, Names.given(place)]));
    return;
  }
  for (const place of places) Names.typed.get(place).was = Names.given(place);
  Names.keep();
  Names.show(places);
};

Names.forget = () => {
  for (const { key } of Names.older) localStorage.removeItem(key);
  Names.older = [];
};

// Let everything that is there show the names.
Names.show = (places) => {
  for (const set of App.run.here.values()) Names.dress(set);
  Names.link.refresh();
  if (App.shown && App.shown.renamed) App.shown.renamed(places);
};

// Give a set's factors the names they have now.
Names.dress = (set) => {
  if (Names.layer < 0) return;
  for (const { k, factors } of set.layers[Names.layer].ks)
    for (const factor of factors) {
      factor.name = Names.text(Names.of(Names.place(set.rank, k, factor.number)));
      DFF.entitle(factor);
    }
};

// What the bar says of names, on every view; it leads to where they are given.
Names.link = (state) => {
  const whole = state.view === "overview" || state.view === "allNames",
    count = h("span", {}, "");
  const link = h(
    "a.names",
    {
      "aria-current": state.view === "names" || state.view === "allNames" ? "page" : null,
    },
    "names ",
    count,
  );
  Names.link.refresh = () => {
    link.href = whole ? "#/names" : App.link({ view: "names", layer: Math.max(0, Names.layer) });
    const at = whole ? App.run.sets.map(({ k }, rank) => [rank, k]) : [[state.set, state.k]];
    const named = at.reduce((sum, [rank, k]) => sum + Names.count(rank, k), 0),
      disputed = Names.disputed().length;
    const all = at.reduce((sum, [, k]) => sum + k, 0);
    count.textContent = `${named} of ${all}${disputed ? `, ${disputed} disputed` : ""}`;
  };
  Names.link.refresh();
  return link;
};
Names.link.refresh = () => {};

// A button beside a factor's name that turns into a field.
Names.button = (of, factor) => {
  if (of.layer !== Names.layer || of.set.run !== App.run) return null;
  const place = Names.place(of.set.rank, of.k, factor.number);
  const holder = h("span.name-it", {});
  const closed = h(
    "button.small",
    { type: "button", "aria-label": `Name ${factor.title}`, on: { click: () => open() } },
    "name",
  );
  const open = () => {
    let over = false;
    const field = nameField({
      label: `Name of ${factor.title}`,
      value: factor.name,
      commit: (text) => finish(Names.parse(text)),
      key: (event) => {
        if (event.key === "Escape") finish(null);
        else if (event.key === "Enter") finish(Names.parse(field.input.value), true);
        else return;
        event.preventDefault();
      },
    });
    const finish = (names, focus = names === null) => {
      if (over) return;
      over = true;
      holder.replaceChildren(closed);
      if (names && Names.assign([[place, names]]))
        say(names.length ? `Named ${Names.text(names)}` : "No name");
      if (focus) (document.querySelector(`[data-name="${place}"] button`) || closed).focus();
    };
    holder.replaceChildren(field.element);
    field.input.focus();
    field.input.select();
  };
  holder.dataset.name = place;
  holder.append(closed);
  return holder;
};
