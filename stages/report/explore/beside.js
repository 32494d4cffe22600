// Two runs: what differs between them, and their scores side by side.
"use strict";

const MEASURES = [
  ["explained", "explained, %", 1],
  ["stability", "stability", 2],
  ["object", "object IoU, %", 1],
  ["part", "part IoU, %", 1],
];

// Both reports, and what was found when they were put beside each other.
Sides.begin = async () => {
  const told = await new Run().load("beside");
  if (told.format !== DFF.format)
    throw new Error(`data/beside.js has format ${told.format}, and this page reads ${DFF.format}`);
  App.beside = told;
  App.runs.forEach((run, n) => (run.label = told.names[n]));
  await Promise.all(App.runs.map((run) => run.open()));
};

// One number of A and of B, and the difference in words that need no colour.
const scoreCell = (label, digits, a, b) => {
  const difference = a === null || b === null ? null : Number((b - a).toFixed(digits));
  const text =
    difference === null
      ? ""
      : difference === 0
        ? "same"
        : `${difference > 0 ? "+" : "−"}${Math.abs(difference).toFixed(digits)}`;
  return h(
    "td",
    {},
    h("span.label", { "aria-hidden": "true" }, label),
    h("span.number", {}, Format.number(a, digits)),
    h("span.number", {}, Format.number(b, digits)),
    h("b.number", {}, text),
  );
};

const rowOf = (run, rank, layer, k) =>
  run.sets[rank].scores.find((one) => (one.layer || 0) === layer && one.k === k) || {};

const score = (row, what) => row[what] ?? null;

// The table of scores: a row for each set and k that either run has, and means over the sets.
const scoreTable = (layers, which) => {
  const { runs, beside } = App;
  const rows = beside.sets.flatMap(({ ranks }) => {
    const of = runs.map((run, n) =>
      run.sets[ranks[n]].scores.filter((one) => (one.layer || 0) === layers[n]),
    );
    const ks = [...new Set(of.flat().map((one) => one.k))].sort((a, b) => a - b);
    const own = runs.map((run, n) => run.sets[ranks[n]].k);
    if (which === "own") return [{ ranks, ks: own }];
    return ks
      .filter((k) => which === "all" || k === Number(which))
      .map((k) => ({ ranks, ks: [k, k] }));
  });
  for (const row of rows)
    row.of = runs.map((run, n) => rowOf(run, row.ranks[n], layers[n], row.ks[n]));
  const known = MEASURES.filter(([what]) =>
    rows.some(({ of }) => of.some((one) => score(one, what) !== null)),
  );
  // over the sets of which both runs have the number
  const mean = (some, what) => {
    const both = some.filter(
      ({ of, ranks }) =>
        !runs[0].sets[ranks[0]].within && of.every((one) => score(one, what) !== null),
    );
    if (!both.length) return [null, null];
    return [0, 1].map((n) => both.reduce((sum, { of }) => sum + of[n][what], 0) / both.length);
  };
  const cells = (values) =>
    known.map(([what, label, digits]) => scoreCell(label, digits, ...values(what)));
  const kText = ([a, b]) => (a === b ? String(a) : `${a} | ${b}`);
  const groups = new Map();
  for (const row of rows) {
    const key = which === "own" ? "own" : row.ks[0];
    groups.set(key, [...(groups.get(key) || []), row]);
  }
  const means =
    beside.sets.length > 1
      ? [...groups]
          .filter(([, some]) => known.some(([what]) => mean(some, what)[0] !== null))
          .map(([k, some]) =>
            h(
              "tr.mean",
              {},
              h("th", { scope: "row" }, "mean of the sets"),
              h("td.k", {}, h("span.label", {}, "k"), k === "own" ? "each its own" : String(k)),
              ...cells((what) => mean(some, what)),
            ),
          )
      : [];
  return h(
    "table.scores",
    {},
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "image set"),
        h("th", { scope: "col" }, "k"),
        ...known.map(([, label]) =>
          h(
            "th",
            { scope: "col" },
            label,
            h("span.heads", {}, h("i", {}, "A"), h("i", {}, "B"), h("i", {}, "B − A")),
          ),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      ...means,
      ...rows.map(({ ranks, ks, of }) => {
        const { sets } = App.runs[0];
        const sides = runs.map((run, n) => ({
          ...Sides.usual(n, ranks[0]),
          layer: layers[n],
          ...(rowOf(run, ranks[n], layers[n], ks[n]).k ? { k: ks[n] } : {}),
        }));
        return h(
          "tr",
          {},
          h(
            "th",
            { scope: "row" },
            h(
              "a",
              { href: App.link({ view: "pairs", set: ranks[0], sides }) },
              sets[ranks[0]].name,
            ),
          ),
          h("td.k", {}, h("span.label", {}, "k"), kText(ks)),
          ...cells((what) => of.map((one) => score(one, what))),
        );
      }),
    ),
  );
};

// Facts of the reports, and params, that are not the same.
const differences = () => {
  const { runs, beside } = App,
    one = { Layers: "Layer", Seeds: "Seed" }, // reports count them
    facts = runs.map(
      (run) => new Map(run.facts.map(([label, value]) => [one[label] || label, value])),
    );
  const labels = [...new Set(facts.flatMap((one) => [...one.keys()]))];
  const rows = [
    ...labels.map((label) => [label, ...facts.map((one) => one.get(label) ?? null)]),
    ...beside.params,
  ].filter(([, a, b]) => a !== b);
  const cell = (value, n) =>
    h("td", {}, h("span.label", { "aria-hidden": "true" }, Sides.letters[n]), value ?? "–");
  return [
    rows.length
      ? h(
          "table.differ",
          {},
          h(
            "thead",
            {},
            h("tr", {}, ...["what", "A", "B"].map((one) => h("th", { scope: "col" }, one))),
          ),
          h(
            "tbody",
            {},
            ...rows.map(([name, ...values]) =>
              h("tr", {}, h("th", { scope: "row" }, name), ...values.map(cell)),
            ),
          ),
        )
      : h("p.quiet", {}, "None of the facts that reports tell."),
    beside.paramsKnown.includes(false)
      ? h(
          "p.quiet",
          {},
          `Params are compared where both are known: not those of ${runs
            .filter((_, n) => !beside.paramsKnown[n])
            .map((run) => run.label)
            .join(", ")}.`,
        )
      : null,
  ];
};

Views.beside = async () => {
  const { runs, beside } = App;
  const common = runs.map((_, n) => new Set(beside.sets.map(({ ranks }) => ranks[n])));
  const only = runs.flatMap((run, n) => {
    const names = run.sets.filter((_, rank) => !common[n].has(rank)).map((set) => set.name);
    return names.length
      ? [
          h(
            "details",
            {},
            h("summary", {}, `Image sets only in ${run.label} (${names.length})`),
            h("ul", {}, ...names.map((name) => h("li", {}, name))),
          ),
        ]
      : [];
  });
  const apart = beside.sets.flatMap(({ ranks, images }) => {
    const counts = runs.map((run, n) => run.sets[ranks[n]].count);
    return counts.every((count) => count === images)
      ? []
      : [
          h(
            "li",
            {},
            h(
              "a",
              { href: App.link({ view: "pairs", set: ranks[0], sides: null }) },
              runs[0].sets[ranks[0]].name,
            ),
            `: ${images} in both, ${counts[0] - images} only in A, ${counts[1] - images} only in B`,
          ),
        ];
  });
  const layers = [0, 0],
    ks = [...new Set(runs.flatMap((run) => run.ks))].sort((a, b) => a - b);
  let which = beside.sets.length * ks.length > 200 ? "own" : "all";
  const place = h("div", {});
  const fill = () => place.replaceChildren(scoreTable(layers, which));
  const select = (label, options, use) => {
    const made = h(
      "select",
      {
        "aria-label": label,
        on: {
          change: () => {
            use(made.value);
            fill();
          },
        },
      },
      options.map(([value, text, selected]) => h("option", { value, selected }, text)),
    );
    return h("label", {}, h("span", {}, `${label} `), made);
  };
  const bar = h(
    "section.controls.loose",
    { "aria-label": "Which scores" },
    select(
      "k",
      [["all", "all"], ["own", "each run’s own"], ...ks.map((k) => [k, String(k)])].map(
        ([value, text]) => [value, text, value === which],
      ),
      (value) => (which = value),
    ),
    ...runs.flatMap((run, n) =>
      run.layers.length > 1
        ? [
            select(
              `layer of ${Sides.letters[n]}`,
              run.layers.map((name, at) => [at, name, at === 0]),
              (value) => (layers[n] = Number(value)),
            ),
          ]
        : [],
    ),
  );
  fill();
  return {
    title: `${runs[0].label} and ${runs[1].label}`,
    element: h(
      "div",
      {},
      h("h1", {}, "Two runs"),
      h(
        "ul.runs",
        {},
        ...runs.map((run, n) =>
          h(
            "li",
            {},
            badge(Sides.letters[n]),
            h("b.name", {}, run.label),
            h("a", { href: `${run.base}index.html` }, "report"),
            h("a", { href: `${run.base}explore.html` }, "explore"),
          ),
        ),
      ),
      h("h2", {}, "What differs"),
      ...differences(),
      h("h2", {}, "Scores"),
      h("p.quiet", {}, "Of refined masks; a set’s name leads to its images, with both runs."),
      bar,
      place,
      ...only,
      apart.length
        ? h(
            "details",
            { open: apart.length < 6 },
            h(
              "summary",
              {},
              `Images that only one run has (in ${apart.length} ${apart.length === 1 ? "set" : "sets"})`,
            ),
            h("ul", {}, ...apart),
          )
        : null,
    ),
  };
};
