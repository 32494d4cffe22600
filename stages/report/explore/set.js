// The view of an image set: its concepts, and all of its images under them.
"use strict";

const about = (of) => {
  const facts = [`${Format.number(of.explained, 1)} % of the activations’ energy explained`];
  if (of.stability !== null) facts.push(`stability ${Format.number(of.stability, 2)}`);
  if (of.object !== null) facts.push(`object IoU ${Format.number(of.object, 1)} %`);
  if (of.part !== null) facts.push(`mean best-part IoU ${Format.number(of.part, 1)} %`);
  if (of.suggested) facts.push(`suggested: ${of.reason}`);
  else if (of.reason) facts.push(`no k is suggested: ${of.reason}`);
  return facts.join(" · ");
};

const meanOf = (of, name, j) => {
  let total = 0;
  for (let i = 0; i < of.set.count; i++) total += of.stat(name, i, j);
  return total / of.set.count;
};

const conceptRow = (of, factor, state, changed) => {
  const j = factor.number,
    side = innerWidth < 600 ? Math.floor((innerWidth - 100) / Math.max(1, factor.tops.length)) : 64,
    strip = h("canvas.strip", {
      role: "img",
      "aria-label": `Strength of ${factor.title} over the images of the set, in their order`,
    });
  const facts = [
    ["energy", `${Format.number(factor.energy)} %`, "share of the factors’ energy"],
    [
      "mask",
      Format.percent(meanOf(of, "refined", j), 0),
      "of all pixels are in its refined masks, on average",
    ],
  ];
  if (factor.stability !== null)
    facts.push([
      "stable",
      Format.number(factor.stability, 2),
      "mean cosine with its counterparts in runs on halves of the images; 1 is perfect",
    ]);
  if (factor.iou !== null)
    facts.push([
      `IoU ${factor.part}`,
      Format.number(factor.iou, 0),
      "IoU of its refined masks with the annotated part that they fit best, per cent",
    ]);
  const box = h("input", {
    type: "checkbox",
    checked: !state.off.has(j),
    "aria-label": `Show ${factor.title}`,
    on: {
      change: () => {
        if (box.checked) state.off.delete(j);
        else state.off.add(j);
        changed();
      },
    },
  });
  const made = h(
    "li.concept",
    { style: { "--c": factor.colour } },
    h(
      "div.concept-head",
      {},
      box,
      swatch(factor),
      h("a.name", { href: App.link({ view: "concept", factor: j }) }, factor.name || `factor ${j}`),
      Names.button(of, factor),
      Inside.told(of, factor) ? h("span.below", {}, Inside.link(of, factor)) : null,
      factor.name ? null : Meaning.hint(of, factor),
    ),
    strip,
    h(
      "dl.small-facts",
      {},
      facts.map(([label, value, title]) =>
        h("div", { title }, h("dt", {}, label), h("dd", {}, value)),
      ),
    ),
    h(
      "div.crops",
      {},
      factor.tops.map((i) =>
        crop(of, i, factor, Math.min(side, 64), App.link({ view: "image", image: i })),
      ),
    ),
  );
  Later.add(() => made.isConnected && Draw.strip(strip, of, j, factor.colour));
  return made;
};

const ordered = (of, state) => {
  const { set } = of,
    words = state.q.toLowerCase();
  const images = [];
  for (let i = 0; i < set.count; i++)
    if (!words || set.images[i].toLowerCase().includes(words)) images.push(i);
  const match = /^([fmrg])(\d+)$/.exec(state.sort);
  if (state.sort === "name")
    images.sort((a, b) => set.images[a].localeCompare(set.images[b], undefined, { numeric: true }));
  else if (match && match[1] === "g" && Number(match[2]) < of.k) {
    // those without annotation last
    const j = Number(match[2]),
      agreed = (i) => of.agreed(i, j) ?? 2;
    images.sort((a, b) => agreed(a) - agreed(b) || a - b);
  } else if (match && Number(match[2]) < of.k) {
    const name = { f: "means", m: "refined", r: "raw" }[match[1]],
      j = Number(match[2]);
    images.sort((a, b) => of.stat(name, b, j) - of.stat(name, a, j) || a - b);
  } else if (state.sort === "d") images.sort((a, b) => moved(of, b) - moved(of, a) || a - b);
  return images;
};

// How much refinement changes the masks' sizes on an image, as a share of its pixels.
const moved = (of, i) =>
  of.factors.reduce(
    (sum, { number: j }) => sum + Math.abs(of.stat("raw", i, j) - of.stat("refined", i, j)),
    0,
  );

const sortSelect = (of, state, changed) => {
  const group = (letter, title, what) =>
    h(
      "optgroup",
      { label: title },
      of.factors.map((factor) =>
        h(
          "option",
          {
            value: `${letter}${factor.number}`,
            selected: state.sort === `${letter}${factor.number}`,
          },
          `${what} ${factor.title}`,
        ),
      ),
    );
  const select = h(
    "select",
    {
      on: {
        change: () => {
          state.sort = select.value;
          changed();
        },
      },
    },
    h("option", { value: "order", selected: state.sort === "order" }, "order in the set"),
    h("option", { value: "name", selected: state.sort === "name" }, "name"),
    group("f", "strongest", "strength of"),
    group("m", "largest refined mask", "mask of"),
    group("r", "largest raw mask", "raw mask of"),
    of.set.annotated ? group("g", "least agreement with the annotation", "disagreement of") : null,
    h("option", { value: "d", selected: state.sort === "d" }, "change by refinement"),
  );
  return h("label", {}, h("span", {}, "sort by "), select);
};

// What the order of the images takes.
const sortable = (of, state) =>
  Promise.all([of.open(), /^g/.test(state.sort) && of.openAgreement()]);

// What a set begins with: numbers of every image, coefficients of the strongest ones.
const begun = async (of, state) => {
  await Promise.all([sortable(of, state), of.tops()]);
  return of;
};

// Curves that help to choose k, what splits into what, the losses.
const overK = (of, state) => {
  const tree = familyTree(of, state);
  return [
    tree ? h("h3", {}, "Which concept goes on from which") : null,
    tree,
    h("h3", {}, tree ? "Which k, and how the factorization went" : "How the factorization went"),
    h("div.curves", {}, curvesOverK(of, state), lossCurve(of)),
  ].filter((one) => one !== null);
};

Views.set = async (state) => {
  const set = await App.run.set(state.set),
    of = await begun(set.factorization(state.layer, state.k), state);
  const found = h("span.quiet", {}),
    said = h("p.quiet", {}),
    title = h("h2", {}),
    list = h("ul.concepts", {}),
    place = h("div", {}),
    under = h("div", {}),
    more = h("details.more", {}, h("summary", {}, "Concepts over k, and curves"), under),
    sorts = h("span", {});
  let grid = null,
    now = of;
  const caption = (i, share) => {
    const match = /^([fg])(\d+)$/.exec(state.sort);
    if (!match || Number(match[2]) >= now.k)
      return share === null ? "" : `${Format.percent(share)} masked`;
    const j = Number(match[2]);
    return match[1] === "g"
      ? `IoU ${Format.percent(now.agreed(i, j))}`
      : Format.percent(now.stat("means", i, j));
  };
  const arrange = () => {
    found.textContent =
      Format.images(grid.order.length) +
      (grid.order.length < set.count ? ` of ${set.count.toLocaleString("en")}` : "");
  };
  const changed = () => {
    App.keep();
    grid.redraw(shownFactors(now, state));
  };
  const resorted = async () => {
    App.keep();
    try {
      await sortable(now, state);
      grid.reorder(ordered(now, state));
      arrange();
      say(found.textContent);
    } catch (error) {
      App.failed(error);
    }
  };
  const search = h("input", {
    type: "search",
    value: state.q,
    on: {
      input: () => {
        state.q = search.value;
        resorted();
      },
    },
  });
  const fill = () => {
    if (grid) grid.close();
    grid = new Grid({
      of: now,
      factors: shownFactors(now, state),
      state: () => painted(state),
      order: ordered(now, state),
      href: (i) => App.link({ view: "image", image: i }),
      caption,
    });
    said.textContent = about(now);
    title.textContent = now.k === 1 ? "One concept" : `${now.k} concepts`;
    list.replaceChildren(...now.factors.map((factor) => conceptRow(now, factor, state, changed)));
    sorts.replaceChildren(sortSelect(now, state, resorted));
    place.replaceChildren(grid.element);
    under.replaceChildren(...overK(now, state));
    arrange();
    grid.place();
    Names.link.refresh();
  };
  let asked = state.k; // where the slider is: another k may arrive later than this one
  const another = async (k) => {
    asked = k;
    try {
      const next = await begun(set.factorization(state.layer, k), state);
      if (App.state !== state || k !== asked) return;
      Object.assign(state, App.changed({ k }));
      App.keep();
      now = next;
      bar.jump.hidden = next.suggested;
      fill();
    } catch (error) {
      App.failed(error);
    }
  };
  const bar = controls(of, state, () => changed(), [], another);
  const { count, total } = App.run.sets[state.set];
  const element = h(
    "div",
    {},
    h("h1", {}, set.name),
    Inside.back(state),
    bar,
    said,
    title,
    list,
    more,
    h("h2", {}, "Images ", found),
    count < total
      ? h(
          "p.quiet",
          {},
          `The set has ${Format.images(total)}. Here are those in which its concepts are strongest and others spread evenly over it (report.most in params.yaml); means and curves are of these.`,
        )
      : null,
    h(
      "section.controls.loose",
      { "aria-label": "Which images, in which order" },
      sorts,
      h("label", {}, h("span", {}, "name has "), search),
      set.count > 2 ? h("a", { href: App.link({ view: "map" }) }, "map of the images") : null,
      Sides.link("pairs"),
    ),
    place,
    h(
      "p.quiet.end",
      {},
      "A concept’s strength on an image is its mean there, in per cent of what gets full colour. Keys: arrows go from image to image, Enter opens one.",
    ),
  );
  // only what says a name is made anew: what one is about to click must stay
  const renamed = (places) => {
    for (const { number } of now.factors)
      if (places.includes(Names.place(state.set, now.k, number)) && state.layer === Names.layer)
        list.children[number].replaceWith(conceptRow(now, now.factors[number], state, changed));
    const options = sortSelect(now, state, resorted).querySelectorAll("option");
    sorts.querySelectorAll("option").forEach((option, n) => {
      option.textContent = options[n].textContent;
    });
    under.replaceChildren(...overK(now, state));
  };
  return {
    title: set.name,
    element,
    renamed,
    now: () => now,
    close: () => grid && grid.close(),
    shown: async () => fill(),
  };
};
