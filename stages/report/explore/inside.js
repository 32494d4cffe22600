// Image sets that lie within a factor of another one: in run.sets, `within` says of which set, k and
// factor; their images are those of that set. See stages/artifacts/within.py.
"use strict";

const Inside = {
  // The collection's own image sets, by their numbers.
  own: (run) => [...run.sets.keys()].filter((rank) => !run.sets[rank].within),

  // The sets within each that has some, by their numbers; of 10,000 sets it is made once.
  children: (run) => {
    if (!run.children) {
      run.children = new Map();
      run.sets.forEach(({ within }, n) => {
        if (!within) return;
        if (!run.children.has(within.set)) run.children.set(within.set, []);
        run.children.get(within.set).push(n);
      });
    }
    return run.children;
  },

  // Those within a set and within these in turn, each followed by those within its factors.
  below: (run, rank) =>
    (Inside.children(run).get(rank) || []).flatMap((n) => [n, ...Inside.below(run, n)]),

  // All sets by their numbers, each followed by those within its factors.
  nested: (run) => Inside.own(run).flatMap((rank) => [rank, ...Inside.below(run, rank)]),

  // The number of the set within a factor, -1 for none.
  of: (run, rank, k, factor) =>
    (Inside.children(run).get(rank) || []).find((n) => {
      const { within } = run.sets[n];
      return within.k === k && within.factor === factor;
    }) ?? -1,

  // Where a set lies, the outermost set first: the numbers of the sets.
  above: (run, rank) => {
    const { within } = run.sets[rank];
    return within ? [...Inside.above(run, within.set), within.set] : [];
  },

  // What is said at a factor that is divided further: text and address, or null.
  told: (of, factor) => {
    const rank = Inside.of(of.set.run, of.set.rank, of.k, factor.number);
    if (rank < 0 || App.runs.length > 1) return null;
    const { k, name } = of.set.run.sets[rank];
    return { text: `split into ${k}`, k, name, href: App.link({ view: "set", set: rank }) };
  },

  link: (of, factor) => {
    const told = Inside.told(of, factor);
    return told && h("a.chip.inside", { href: told.href, title: told.name }, told.text);
  },

  // The way back, above a set: of which factor it is a part.
  back: (state) => {
    const { within } = App.run.sets[state.set];
    if (!within) return null;
    const { set, k, factor } = within;
    const href = App.link({ view: "concept", set, k, factor });
    return h(
      "p.part-of",
      {},
      "Part of ",
      h("a", { href }, `${App.run.sets[set].name}, k = ${k}, factor ${factor}`),
      ": its places, factorized again.",
    );
  },
};
