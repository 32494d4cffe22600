// The view of all image sets, and of what was run.
"use strict";

const CARDS = 60;

Views.overview = async (state) => {
  const { run } = App;
  const own = Inside.own(run),
    cards = own.map((rank) => ({ set: run.sets[rank], rank, element: null }));
  const list = h("div.cards", {}),
    end = h("p.more", {});
  const watched = new IntersectionObserver(
    (seen) =>
      seen.forEach((one) => {
        if (one.isIntersecting) {
          watched.unobserve(one.target);
          one.target.fill();
        }
      }),
    { rootMargin: "400px" },
  );
  const best = (set, what) => {
    const row = set.scores.find((one) => one.k === set.k);
    return row ? row[what] : null;
  };
  const card = ({ set, rank }) => {
    const sheet = h("div.sheet", {}),
      href = App.link({ view: "set", set: rank }),
      inside = Inside.below(run, rank);
    const facts = [
      Format.shown(set),
      `k = ${set.k}${set.suggested ? ", suggested" : ""}`,
      `${Format.number(best(set, "explained"), 1)} % explained`,
    ];
    if (best(set, "object") !== null)
      facts.push(`object IoU ${Format.number(best(set, "object"), 1)}`);
    if (best(set, "part") !== null) facts.push(`part IoU ${Format.number(best(set, "part"), 1)}`);
    const made = h(
      "article.card",
      {},
      h("h2", {}, h("a", { href }, set.name)),
      h("p.quiet", {}, facts.join(" · ")),
      inside.length
        ? h(
            "p.divided",
            {},
            "divided further: ",
            inside.map((one) =>
              h("a.chip", { href: App.link({ view: "set", set: one }) }, run.sets[one].name),
            ),
          )
        : null,
      sheet,
    );
    made.fill = async () => {
      try {
        const opened = await App.run.set(rank),
          of = opened.factorization(0, set.k);
        await of.tops();
        const count = Math.min(6, opened.count);
        const images = [
          ...new Set(
            Array.from({ length: count }, (_, n) =>
              Math.round((n * (opened.count - 1)) / Math.max(1, count - 1)),
            ),
          ),
        ];
        const wide = Math.floor((sheet.clientWidth - 12) / 3);
        sheet.append(
          ...images.map((i) => {
            const picture = new Picture(of, i, strongest(of), {
              width: wide,
              height: Math.round(0.75 * wide),
            });
            picture.draw({ mode: "heat", opacity: 1, begins: null });
            return h(
              "a",
              { href: App.link({ view: "image", set: rank, image: i }), title: opened.images[i] },
              picture.box,
            );
          }),
        );
      } catch (error) {
        App.failed(error);
      }
    };
    watched.observe(made);
    return made;
  };
  const sorts = {
    order: () => 0,
    name: (a, b) => a.set.name.localeCompare(b.set.name),
    images: (a, b) => b.set.total - a.set.total,
    explained: (a, b) => best(b.set, "explained") - best(a.set, "explained"),
    object: (a, b) => (best(b.set, "object") ?? -1) - (best(a.set, "object") ?? -1),
  };
  // Cards of so many sets at a time, the next ones when the last of these are near: a page of ten
  // thousand would take half a minute to appear.
  const more = (shown, from) => {
    const next = shown.slice(from, from + CARDS);
    for (const one of next) one.element = one.element || card(one);
    list.append(...next.map((one) => one.element));
    end.replaceChildren();
    const left = shown.length - from - next.length;
    if (!left) return;
    const go = () => {
      if (button.isConnected) more(shown, from + CARDS);
    };
    const button = h("button", { on: { click: go } }, `${left.toLocaleString("en")} more`);
    button.fill = go;
    end.append(button);
    watched.observe(button);
  };
  const arrange = () => {
    const words = state.q.toLowerCase();
    const shown = cards
      .filter(({ set }) => set.name.toLowerCase().includes(words))
      .sort(sorts[state.sort] || sorts.order);
    list.replaceChildren();
    more(shown, 0);
    say(`${shown.length} image sets`);
  };
  const scored = cards.some(({ set }) => best(set, "object") !== null);
  const sort = h(
    "select",
    {
      on: {
        change: () => {
          state.sort = sort.value;
          App.keep();
          arrange();
        },
      },
    },
    [
      ["order", "as they are"],
      ["name", "name"],
      ["images", "number of images"],
      ["explained", "share explained"],
      ...(scored ? [["object", "object IoU"]] : []),
    ].map(([value, title]) => h("option", { value, selected: state.sort === value }, title)),
  );
  const search = h("input", {
    type: "search",
    value: state.q,
    on: {
      input: () => {
        state.q = search.value;
        App.keep();
        arrange();
      },
    },
  });
  arrange();
  return {
    title: "Image sets",
    close: () => watched.disconnect(),
    element: h(
      "div",
      {},
      h(
        "h1",
        {},
        own.length === 1 ? "One image set" : `${own.length.toLocaleString("en")} image sets`,
      ),
      h(
        "section.controls.loose",
        { "aria-label": "Controls" },
        h("label", {}, h("span", {}, "find "), search),
        h("label", {}, h("span", {}, "sort by "), sort),
      ),
      list,
      end,
      Views.about(run),
    ),
  };
};

const tables = (run) => [
  h("h2", {}, "Tables"),
  h(
    "dl.files",
    {},
    run.tables.map(([href, label, meaning, rows]) =>
      h(
        "div",
        {},
        h(
          "dt",
          {},
          h("a", { href }, label),
          rows === null ? "" : ` ${rows.toLocaleString("en")} rows`,
        ),
        h("dd", {}, meaning),
      ),
    ),
  ),
];

Views.about = (run) =>
  h(
    "section.about",
    {},
    h("h2", {}, "This run"),
    h(
      "dl.facts",
      {},
      run.facts.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value))),
    ),
    run.leftOut.map((some) =>
      h(
        "details",
        {},
        h("summary", {}, `${some.title} (${some.count})`),
        some.meaning ? h("p.quiet", {}, some.meaning) : null,
        h(
          "ul",
          {},
          some.rows.map(([name, reason]) => h("li", {}, h("b", {}, name), ` ${reason}`)),
        ),
      ),
    ),
    tables(run),
  );
