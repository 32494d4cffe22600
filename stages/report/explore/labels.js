// Where names are given: a row for every factor of a set at a k, or of all sets.
"use strict";

const SLOTS = 9; // names that a digit gives

class NamingView {
  // `shown`: [rank, k] of what is to be named; `whole` when it is all sets.
  constructor(state, shown, whole) {
    Object.assign(this, { state, shown, whole, slots: [], current: null });
    this.rows = shown.flatMap(([rank, k]) =>
      Array.from({ length: k }, (_, j) => new NamingRow(this, rank, k, j)),
    );
    this.watched = new IntersectionObserver(
      (seen) => {
        for (const one of seen) {
          if (!one.isIntersecting) continue;
          this.watched.unobserve(one.target);
          one.target.row.fill().catch(App.failed);
        }
      },
      { rootMargin: "500px" },
    );
    this.bar = new NamingBar(this);
    this.headings = new Map();
    this.list = h("div.namings", { on: { keydown: (event) => this.rowKey(event) } });
    for (const [rank, k] of shown) this.list.append(...this.section(rank, k));
    this.slots = this.ranked();
    this.renamed([]);
  }

  section(rank, k) {
    const rows = this.rows.filter((row) => row.rank === rank).map((row) => row.element);
    if (!this.whole) return rows;
    const count = h("span.quiet", {});
    this.headings.set(rank, count);
    const href = App.link({ view: "names", set: rank, k, layer: Names.layer });
    return [h("h2", {}, h("a", { href }, App.run.sets[rank].name), " ", count), ...rows];
  }

  // The names that digits give: those used most, then annotated parts.
  ranked() {
    return [...new Set([...Names.used().keys(), ...Names.facts.parts])].slice(0, SLOTS);
  }

  // Names have changed: here, in another tab, or by a file.
  renamed(places) {
    const changed = new Set(places);
    for (const row of this.rows) {
      if (changed.has(row.place)) row.show();
      else if (changed.has(row.parent)) row.tell();
    }
    for (const [rank, count] of this.headings) {
      const { k } = this.rows.find((row) => row.rank === rank);
      count.textContent = `k = ${k}, ${Names.count(rank, k)} of ${k} named`;
    }
    this.fill();
    this.bar.show();
  }

  // A name keeps its digit; a new one gets a free one, or that of a name that nobody uses.
  fill() {
    const used = Names.used();
    for (const name of used.keys()) {
      if (this.slots.includes(name)) continue;
      const free =
        this.slots.length < SLOTS
          ? this.slots.length
          : this.slots.findLastIndex((one) => !used.has(one));
      if (free >= 0) this.slots[free] = name;
    }
  }

  get counted() {
    const named = this.rows.filter((row) => Names.of(row.place).length).length;
    return [named, this.rows.length];
  }

  at(row) {
    if (this.current) this.current.element.classList.remove("current");
    this.current = row;
    row.element.classList.add("current");
  }

  get visible() {
    return this.rows.filter((row) => !row.element.hidden);
  }

  marked() {
    this.bar.show();
  }

  get marks() {
    return this.rows.filter((row) => row.mark.checked);
  }

  told(text) {
    const [named, all] = this.counted;
    say(`${text}; ${named} of ${all} named`);
  }

  name(row, names) {
    if (Names.assign([[row.place, names]]))
      this.told(
        names.length ? `factor ${row.j}: ${Names.text(names)}` : `factor ${row.j}: no name`,
      );
  }

  // One name for all that are marked.
  unite(names) {
    const rows = this.marks;
    if (!rows.length) return;
    Names.assign(rows.map((row) => [row.place, names]));
    for (const row of rows) row.mark.checked = false;
    this.bar.show();
    this.told(`${rows.length} factors: ${names.length ? Names.text(names) : "no name"}`);
  }

  // The nth name: to what is marked, or to the row where one is.
  give(n, { field = false, stay = false } = {}) {
    const name = this.slots[n];
    if (name === undefined) return;
    if (this.marks.length) this.unite([name]);
    else if (this.current) {
      const row = this.current;
      row.field.reset();
      this.name(row, [name]);
      if (!stay) this.step(row, 1, field);
    } else this.bar.tell("First go to a row, or mark some.");
  }

  step(row, by, field) {
    const rows = this.visible,
      next = rows[rows.indexOf(row) + by];
    if (next) next.focus(field);
    else if (field) row.focus(true);
    return next;
  }

  undo(again = false) {
    const places = again ? Names.redo() : Names.undo();
    if (!places.length) {
      this.bar.tell(again ? "Nothing to do again." : "Nothing to undo.");
      return;
    }
    const [rank, k, j] = Names.where(places[0]),
      more = places.length > 1 ? ` and ${places.length - 1} more` : "";
    const what = `factor ${j} of ${App.run.sets[rank].name}, k = ${k}${more}`;
    this.told(`${again ? "Done again" : "Undone"}: ${what}`);
    // what one does not see is said to all
    if (this.shown.some(([one, at]) => one === rank && at === k)) this.bar.tell();
    else this.bar.tell(`${again ? "Done again" : "Undone"} in another view: ${what}.`);
    const row = this.rows.find((one) => one.place === places[0] && !one.element.hidden);
    if (row && this.list.contains(document.activeElement))
      row.focus(document.activeElement.tagName === "INPUT");
  }

  // Ctrl+Z and Ctrl+Y, with Cmd too.
  undoKey(event) {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return false;
    const letter = event.key.toLowerCase();
    if (letter !== "z" && letter !== "y") return false;
    this.undo(letter === "y" || event.shiftKey);
    return true;
  }

  // In a field: what is typed stays typed, so commands are other keys than letters.
  fieldKey(row, event) {
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
    if (event.altKey && digit && !event.ctrlKey && !event.metaKey)
      this.give(Number(digit[1]) - 1, { field: true });
    else if (!row.field.dirty() && this.undoKey(event)) event.stopPropagation();
    else if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    else if (event.key === "Enter" || event.key === "ArrowDown" || event.key === "ArrowUp") {
      row.field.settle();
      this.step(row, event.key === "ArrowUp" || event.shiftKey ? -1 : 1, true);
    } else if (event.key === "Escape") {
      row.field.reset();
      row.focus(false);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // On a row, not in its field.
  rowKey(event) {
    const row = event.target.row;
    if (!row) return;
    if (this.undoKey(event)) {
      event.preventDefault();
      return;
    }
    if (event.ctrlKey || event.metaKey) return;
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
    const acts = {
      ArrowDown: () => this.step(row, 1, false),
      ArrowUp: () => this.step(row, -1, false),
      Home: () => this.visible[0].focus(false),
      End: () => this.visible.at(-1).focus(false),
      Enter: () => row.focus(true),
      Delete: () => this.name(row, []),
      x: () => {
        row.mark.checked = !row.mark.checked;
        this.marked();
        say(row.mark.checked ? "marked" : "not marked");
      },
      m: () => this.bar.unite(),
      p: () => row.parentNames.length && this.name(row, row.parentNames),
      n: () => this.next(row),
      u: () => this.undo(),
      U: () => this.undo(true),
    };
    if (digit && !event.shiftKey) this.give(Number(digit[1]) - 1);
    else if (Object.hasOwn(acts, event.key) && !event.altKey) acts[event.key]();
    else return;
    event.preventDefault();
  }

  // The next one without a name, from the first again after the last.
  next(row) {
    const rows = this.visible,
      from = rows.indexOf(row) + 1;
    const found = [...rows.slice(from), ...rows.slice(0, from)].find(
      (one) => !Names.of(one.place).length,
    );
    if (found) found.focus(row !== null && document.activeElement.tagName === "INPUT");
    else this.bar.tell("All of these have a name.");
  }

  filter(open) {
    for (const row of this.rows) row.element.hidden = open && Names.of(row.place).length > 0;
  }

  close() {
    for (const row of this.rows) row.field.settle();
    this.watched.disconnect();
    this.bar.close();
  }

  begin() {
    for (const row of this.rows) this.watched.observe(row.element);
  }
}

// The names of one set, or of all; `k` of each.
const namingView = (state, shown, whole) => {
  const title = whole ? "Names of all sets" : `Names of ${App.run.sets[state.set].name}`;
  if (Names.layer < 0)
    return { title, element: h("p.note", {}, "The layer that is named is not in this report.") };
  const view = new NamingView(state, shown, whole);
  return {
    title,
    element: h("div", {}, h("h1", {}, title), view.bar.element, view.list, namingHelp()),
    renamed: (places) => view.renamed(places),
    close: () => view.close(),
    shown: async () => view.begin(),
  };
};

Views.names = async (state) => {
  await App.run.set(state.set); // which links to other k need
  return namingView(state, [[state.set, state.k]], false);
};

const NAMED_AT_ONCE = 200; // sets: of ten thousand the fields would take minutes to appear

// All sets: each at its suggested k, or all at one.
Views.allNames = async (state) => {
  const asked = /^k(\d+)$/.exec(state.sort),
    one = asked && App.run.ks.includes(Number(asked[1])) ? Number(asked[1]) : null,
    every = Inside.nested(App.run),
    shown = every.slice(0, NAMED_AT_ONCE);
  const view = namingView(
    state,
    shown.map((rank) => [rank, one || App.run.sets[rank].k]),
    true,
  );
  if (every.length > shown.length)
    view.element.append(
      h(
        "p.note",
        {},
        `These are the first ${shown.length} of ${every.length.toLocaleString("en")} image sets. The link “names” on the page of any other names its factors.`,
      ),
    );
  return view;
};

const namingHelp = () => {
  const keys = [
    ["Enter, ↓", "the next field"],
    ["↑", "the one before"],
    ["Alt + 1 … 9", "one of the names above"],
    ["Ctrl + Z, Ctrl + Y", "undo, do again"],
    ["Esc", "from the field to its row; there:"],
    ["1 … 9", "one of the names above, and on"],
    ["↑, ↓, n", "to other rows, to the next without a name"],
    ["x, m", "mark it; name all that are marked"],
    ["p", "the name of what it splits from"],
    ["Delete", "no name"],
    ["u, U", "undo, do again"],
  ];
  return h(
    "details.naming-help",
    {},
    h("summary", {}, "Keys, and what names do"),
    h(
      "p",
      {},
      "Any words are a name. Several names of one factor stand with a plus between spaces: ",
      h("b", {}, "head + leg"),
      " is the union of two annotated parts, or just two words.",
    ),
    h(
      "p",
      {},
      "Factors of one name, in a set at a k, are one concept: masks and boxes that are exported, and scores, are of all of them together. To merge factors, give them one name.",
    ),
    h(
      "p",
      {},
      "Names of annotated parts, object and background are scored; what is called background is not exported.",
    ),
    h(
      "dl.keys",
      {},
      keys.map(([key, what]) => h("div", {}, h("dt", {}, key), h("dd", {}, what))),
    ),
  );
};
