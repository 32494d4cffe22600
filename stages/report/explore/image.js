// The view of an image: all its concepts, one by one and together.
"use strict";

const truthPanel = async (set, i, box) => {
  const mask = await set.truthOf(i);
  if (!mask) return null;
  const panel = new Picture({ set }, i, [], box),
    found = Draw.runLabels(mask, [{ number: 0 }]);
  Draw.labels(panel.canvas, found, [[255, 255, 255]], 0.6);
  return panel;
};

Views.image = async (state) => {
  const set = await App.run.set(state.set),
    of = set.factorization(state.layer, state.k);
  await Promise.all([sortable(of, state), of.openAgreement()]);
  const i = state.image,
    order = ordered(of, state),
    at = order.indexOf(i);
  await of.need(i);
  const entry = of.coefficients.get(i),
    room = document.getElementById("content").clientWidth;
  // many concepts are shown apart, each on a photograph of its own: these take more room
  const many = of.k > Draw.most,
    few = room < 600 ? 1 : room < 1000 ? 2 : 3,
    usual = room < 600 ? 2 : room < 1000 ? 3 : set.annotated ? 5 : 4;
  const across = many ? few : usual,
    side = Math.floor((room - 13 * (across - 1)) / across),
    box = { width: side, height: 1.4 * side, large: many };
  const third = Math.min(side, set.width(i), Math.floor((room - 26) / 3)),
    thirds = { width: third, height: 1.4 * third };
  const panels = [],
    dots = [];
  const readout = h("ul.readout", {
    "aria-label": "Strength at the point, per cent of full colour",
  });
  const point = (event) => {
    const around = event.currentTarget.getBoundingClientRect();
    let x = Math.min(Math.max((event.clientX - around.left) / around.width, 0), 1),
      y = Math.min(Math.max((event.clientY - around.top) / around.height, 0), 1);
    if (event.currentTarget.classList.contains("apart")) {
      // within the photograph that is pointed at, of those that stand side by side
      const columns = Math.ceil(Math.sqrt(shownFactors(of, state).length));
      [x, y] = [x, y].map((share) => (share * columns) % 1);
    }
    for (const dot of dots) {
      dot.hidden = dot.parentElement.classList.contains("apart");
      dot.style.left = `${100 * x}%`;
      dot.style.top = `${100 * y}%`;
    }
    of.factors.forEach((factor, n) => {
      const value = Draw.at(entry, n, factor.full, x, y),
        line = readout.children[n];
      line.lastChild.textContent = Format.percent(value);
      line.style.setProperty("--v", `${Math.min(100, 100 * value)}%`);
    });
  };
  readout.append(
    ...of.factors.map((factor) =>
      h(
        "li",
        { style: { "--c": factor.colour } },
        swatch(factor),
        h("span.name", {}, factor.name || `factor ${factor.number}`),
        h("span.value", {}, "–"),
      ),
    ),
  );
  const framed = (picture, title) => {
    const dot = h("i.dot", { hidden: true });
    dots.push(dot);
    picture.box.append(dot);
    picture.box.addEventListener("pointermove", point);
    picture.box.addEventListener("pointerdown", point);
    const value = h("span.value", {}),
      shown = () => ({ ...painted(state), mode: picture.mode });
    const large = () => Large.open(of, i, picture.factors, shown());
    // a finger reads values where it touches; what it opens is the button
    if (picture.mode)
      picture.box.addEventListener("click", (event) => event.pointerType === "mouse" && large());
    const button = picture.mode ? enlarge(`${title} of ${set.nameless[i]}`, large) : null;
    return {
      value,
      figure: h("figure", {}, picture.box, h("figcaption", {}, title, " ", value, button)),
    };
  };
  const line = (title, factors, kinds) =>
    h(
      "section.line",
      {},
      title,
      h(
        "div.panels",
        {},
        kinds.map(([mode, name]) => {
          const picture = new Picture(of, i, factors || [], factors ? thirds : box);
          picture.mode = mode;
          const { figure, value } = framed(picture, name);
          panels.push({ picture, mode, value, all: factors === null });
          return figure;
        }),
      ),
    );
  const kinds = [
    ["heat", "heat"],
    ["raw", "raw masks"],
    ["refined", "refined"],
  ];
  const first = line(h("h2", {}, "All concepts"), null, [["photo", "photograph"], ...kinds]);
  const truth = truthPanel(set, i, box).then((panel) => {
    if (panel) first.lastChild.append(framed(panel, "annotated").figure);
  });
  const each =
    of.k > 1
      ? of.factors.map((factor) =>
          line(
            h(
              "h3.with-swatch",
              {},
              swatch(factor),
              h("a", { href: App.link({ view: "concept", factor: factor.number }) }, factor.title),
              h(
                "span.quiet",
                {},
                ` ${Format.percent(of.stat("means", i, factor.number))} strong on average` +
                  (of.agreed(i, factor.number) === null
                    ? ""
                    : `, IoU ${Format.percent(of.agreed(i, factor.number))} with the annotation`),
              ),
            ),
            [factor],
            kinds,
          ),
        )
      : [];
  const draw = () =>
    panels.forEach(({ picture, mode, value, all }) => {
      if (all) picture.factors = shownFactors(of, state);
      picture.draw({ ...painted(state), mode }, (share) => {
        value.textContent = share === null ? "" : Format.percent(share, 1);
      });
    });
  const near = nearest(of, i, 8);
  const step = (by) => {
    const next = order[at + by];
    if (at >= 0 && next !== undefined) App.go({ image: next }, { keepFocus: true });
  };
  const key = (event) => {
    if (
      document.querySelector("dialog") || // a large picture lies over it, whose keys these are
      event.altKey ||
      event.ctrlKey ||
      event.metaKey ||
      /^(INPUT|SELECT)$/.test(event.target.tagName)
    )
      return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "Escape") App.go({ view: "set" });
  };
  addEventListener("keydown", key);
  const go = (by, title) => {
    const next = at >= 0 ? order[at + by] : undefined;
    return h(
      "a.chip",
      {
        href: next === undefined ? null : App.link({ image: next }),
        "aria-disabled": next === undefined ? "true" : null,
      },
      title,
    );
  };
  const changed = () => {
    App.keep();
    draw();
  };
  const boxes = h(
    "div.toggles",
    {},
    of.factors.map((factor) => {
      const input = h("input", {
        type: "checkbox",
        checked: !state.off.has(factor.number),
        "aria-label": `Show ${factor.title}`,
        on: {
          change: () => {
            if (input.checked) state.off.delete(factor.number);
            else state.off.add(factor.number);
            changed();
          },
        },
      });
      return h("label", {}, input, swatch(factor));
    }),
  );
  const bar = controls(of, state, changed, [boxes]);
  bar.querySelector(".modes").remove();
  for (const one of bar.querySelectorAll("[hidden]"))
    one.hidden = one.tagName === "BUTTON" && state.t === null;
  return {
    title: `${set.nameless[i]}, ${set.name}`,
    close: () => removeEventListener("keydown", key),
    shown: async () => {
      draw();
      await truth;
    },
    element: h(
      "div",
      {},
      h("h1.file", {}, set.images[i]),
      h(
        "p.steps",
        {},
        go(-1, "← previous"),
        go(1, "next →"),
        Sides.link("versus"),
        h(
          "span.quiet",
          {},
          at >= 0
            ? `${(at + 1).toLocaleString("en")} of ${order.length.toLocaleString("en")}; keys ← → and Esc`
            : "not among the images that are filtered",
        ),
      ),
      bar,
      first,
      h("div.lines", { style: { "--line": `${3 * third + 28}px` } }, each),
      near.length
        ? [
            h("h2", {}, "Nearest by the strengths of concepts"),
            row(of, near, strongest(of), { mode: "heat", opacity: 1, begins: null }, (n) =>
              App.link({ image: n }),
            ),
          ]
        : [],
      h(
        "aside.point",
        { "aria-label": "Strength of the concepts at a point" },
        h("p.quiet", {}, "Point at a picture, or touch it: how strong each concept is there."),
        readout,
      ),
    ),
  };
};

// The images whose strengths are most like one image's: by the angle between them.
const nearest = (of, i, wanted) => {
  const own = of.factors.map(({ number: j }) => of.stat("means", i, j)),
    length = Math.hypot(...own);
  const cosine = (n) => {
    let [dot, other] = [0, 0];
    for (let j = 0; j < of.k; j++) {
      const value = of.stat("means", n, j);
      dot += value * own[j];
      other += value * value;
    }
    return other > 0 && length > 0 ? dot / Math.sqrt(other) / length : 0;
  };
  if (of.k < 2) return [];
  return Array.from({ length: of.set.count }, (_, n) => n)
    .filter((n) => n !== i)
    .map((n) => [cosine(n), n])
    .sort((a, b) => b[0] - a[0] || a[1] - b[1])
    .slice(0, wanted)
    .map(([, n]) => n);
};
