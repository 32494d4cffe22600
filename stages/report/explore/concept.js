// The view of a concept: where it is strong and weak, where it sits, what it goes with.
"use strict";

const correlation = (of, a, b) => {
  const n = of.set.count,
    mean = [a, b].map((j) => meanOf(of, "means", j));
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    const u = of.stat("means", i, a) - mean[0],
      v = of.stat("means", i, b) - mean[1];
    ab += u * v;
    aa += u * u;
    bb += v * v;
  }
  return aa > 0 && bb > 0 ? ab / Math.sqrt(aa * bb) : null;
};

Views.concept = async (state) => {
  const set = await App.run.set(state.set),
    of = await set.factorization(state.layer, state.k).open();
  const j = Math.min(state.factor, of.k - 1),
    factor = of.factors[j],
    { ks } = set.layers[state.layer];
  const order = Array.from({ length: set.count }, (_, i) => i).sort(
    (a, b) => of.stat("means", b, j) - of.stat("means", a, j) || a - b,
  );
  const many = Math.min(12, Math.ceil(set.count / 3)),
    middle = Math.max(0, Math.floor((set.count - many) / 2));
  const href = (i) => App.link({ view: "image", image: i }),
    strength = (i) => Format.percent(of.stat("means", i, j));
  const rows = h("div", {});
  const draw = () => {
    const strongest = order.slice(0, many);
    const part = (title, images) => [
      h("h2", {}, title),
      row(of, images, [factor], painted(state), href, strength),
    ];
    rows.replaceChildren(
      ...part("Strongest", strongest),
      h("h2", {}, "Cut out around its boxes"),
      h(
        "div.crops.loose",
        {},
        strongest.map((i) => cutout(of, i, factor, 104, href(i))),
      ),
      ...(set.count > many ? part("In the middle", order.slice(middle, middle + many)) : []),
      ...(set.count > many ? part("Weakest", order.slice(-many).reverse()) : []),
    );
  };
  const to = (k, n) => {
    const other = set.factorization(state.layer, k).factors[n];
    return h(
      "a.chip",
      { href: App.link({ view: "concept", k, factor: n }) },
      swatch(other),
      `k = ${k}: ${other.title}`,
    );
  };
  const children = ks.flatMap((one) =>
    one.factors
      .filter(({ parent }) => parent && parent[0] === of.k && parent[1] === j)
      .map((child) => to(one.k, child.number)),
  );
  const together = of.factors
    .filter((other) => other !== factor)
    .map((other) => [other, correlation(of, j, other.number)])
    .filter(([, value]) => value !== null)
    .sort((a, b) => b[1] - a[1]);
  let [x, y, weight] = [0, 0, 0];
  for (let i = 0; i < set.count; i++) {
    const area = of.stat("raw", i, j);
    x += area * of.stat("x", i, j);
    y += area * of.stat("y", i, j);
    weight += area;
  }
  const facts = [
    ["energy", `${Format.number(factor.energy, 1)} % of the factors’`],
    [
      "masks",
      `raw ${Format.percent(meanOf(of, "raw", j), 1)}, refined ${Format.percent(meanOf(of, "refined", j), 1)} of all pixels`,
    ],
  ];
  facts.push(["cells that have it", `${Format.number(factor.nonzero, 1)} % of all`]);
  if (factor.stability !== null)
    facts.push([
      "stability",
      `${Format.number(factor.stability, 2)}: mean cosine with its counterparts in runs on halves of the images`,
    ]);
  if (factor.iou !== null)
    facts.push([`IoU with ${factor.part}`, `${Format.number(factor.iou, 1)} %`]);
  if (weight > 0)
    facts.push([
      "where its masks are",
      `${Format.percent(x / weight)} from the left, ${Format.percent(y / weight)} from the top, on average`,
    ]);
  draw();
  const heading = h("bdi", {}, factor.title);
  return {
    title: `${factor.title}, ${set.name}`,
    renamed: () => {
      heading.textContent = factor.title;
      App.bar(state);
    },
    element: h(
      "div",
      {},
      h("h1.with-swatch", {}, swatch(factor), heading, Names.button(of, factor)),
      h(
        "p.quiet",
        {},
        "k = ",
        String(of.k),
        ", ",
        h("a", { href: App.link({ view: "set" }) }, set.name),
      ),
      Meaning.hint(of, factor),
      h(
        "dl.facts",
        {},
        facts.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value))),
        factor.parent
          ? h(
              "div",
              {},
              h("dt", {}, "splits from"),
              h(
                "dd",
                {},
                to(factor.parent[0], factor.parent[1]),
                ` cosine ${Format.number(factor.parent[2], 2)}`,
              ),
            )
          : null,
        children.length ? h("div", {}, h("dt", {}, "goes on as"), h("dd", {}, children)) : null,
        Inside.told(of, factor)
          ? h("div", {}, h("dt", {}, "divided further"), h("dd", {}, Inside.link(of, factor)))
          : null,
        together.length
          ? h(
              "div",
              {},
              h("dt", {}, "strong on the same images (correlation)"),
              h(
                "dd",
                {},
                together.map(([other, value]) =>
                  h(
                    "a.chip",
                    { href: App.link({ view: "concept", factor: other.number }) },
                    swatch(other),
                    Format.number(value, 2),
                  ),
                ),
              ),
            )
          : null,
      ),
      controls(of, state, () => {
        App.keep();
        draw();
      }),
      rows,
      Meaning.section(of, factor),
    ),
  };
};
