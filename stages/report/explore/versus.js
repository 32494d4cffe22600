// One image with both sides: one over the other with a line to move between them, or side by side.
"use strict";

// Which pixels are in any mask of a side, at the size of what it paints; null where it shows no masks.
Sides.inside = async (side, i) => {
  const { state, of, at } = side,
    { set } = of,
    here = at(i);
  if (state.mode === "refined")
    return Draw.runLabels(await of.needMask(here), shownFactors(of, state));
  if (state.mode === "truth") {
    const truth = await set.truthOf(here);
    return truth && Draw.runLabels(truth, [{ number: 0 }]);
  }
  if (state.mode !== "raw") return null;
  const { begins } = painted(state),
    size = [set.width(here), set.height(here)];
  return Draw.rawLabels(await of.need(here), shownFactors(of, state), begins, ...size);
};

// Shares of an image in both, only the first, only the second of two masks, which may be of two sizes.
Sides.overlap = (a, b) => {
  const across = Int32Array.from({ length: a.width }, (_, x) =>
    Math.floor(((x + 0.5) * b.width) / a.width),
  );
  let [both, first, second] = [0, 0, 0];
  for (let y = 0, p = 0; y < a.height; y++) {
    const row = Math.floor(((y + 0.5) * b.height) / a.height) * b.width;
    for (let x = 0; x < a.width; x++, p++) {
      const one = a.labels[p] > 0,
        other = b.labels[row + across[x]] > 0;
      if (one && other) both++;
      else if (one) first++;
      else if (other) second++;
    }
  }
  const union = both + first + second;
  return [...[both, first, second].map((n) => n / a.labels.length), union ? both / union : null];
};

// Two pictures in one place: the second begins where the line is. It can be moved by pointer and keys.
const swipe = (pictures, state, titles) => {
  const [wide, tall] = ["wide", "tall"].map((side) =>
    Math.max(...pictures.map((one) => one[side])),
  );
  const handle = h("div.handle", {
    role: "slider",
    tabIndex: 0,
    "aria-label": "Where side B begins",
    "aria-valuemin": "0",
    "aria-valuemax": "100",
  });
  const stage = h(
    "div.swipe",
    { style: { width: `${wide}px`, height: `${tall}px` } },
    h("div.under", {}, pictures[0].box),
    h("div.over", {}, pictures[1].box),
    h("span.tag.left", { "aria-hidden": "true" }, titles[0]),
    h("span.tag.right", { "aria-hidden": "true" }, titles[1]),
    handle,
  );
  let later = null;
  const move = (at) => {
    state.at = Math.round(Math.min(Math.max(at, 0), 100) * 10) / 10;
    stage.style.setProperty("--at", `${state.at}%`);
    handle.setAttribute("aria-valuenow", state.at);
    handle.setAttribute("aria-valuetext", `A to ${Math.round(state.at)} %, then B`);
    clearTimeout(later); // browsers refuse an address that changes a hundred times a second
    later = setTimeout(() => App.state === state && stage.isConnected && App.keep(), 120);
  };
  const to = (event) => {
    const around = stage.getBoundingClientRect();
    move((100 * (event.clientX - around.left)) / around.width);
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    to(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) to(event);
  });
  const steps = {
    ArrowLeft: -2,
    ArrowDown: -2,
    ArrowRight: 2,
    ArrowUp: 2,
    PageDown: -10,
    PageUp: 10,
  };
  handle.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const ends = { Home: 0, End: 100 }[event.key];
    if (ends === undefined && !(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation(); // arrows go from image to image elsewhere
    move(ends ?? state.at + steps[event.key]);
  });
  move(state.at);
  return stage;
};

Views.versus = async (state) => {
  const pair = await Sides.pair(state.set),
    sides = await Promise.all(state.sides.map((side, n) => Sides.open(pair, side, n)));
  const order = Sides.ordered(pair, sides, state),
    i = state.image,
    place = order.indexOf(i);
  if (pair.at(App.runs.length - 1, i) === undefined)
    throw new Error(`${pair.sets[0].images[i]}: only ${App.run.label} has this image`);
  const stage = h("div.stage", {}),
    said = h("p.quiet.agreement", { role: "status" });
  let pictures = [];

  let turns = 0;
  const agreement = async (turn) => {
    if (turn !== turns) return;
    const masks = await Promise.all(sides.map((side) => Sides.inside(side, i)));
    if (turn !== turns) return;
    said.hidden = !masks[0] || !masks[1];
    if (said.hidden) return;
    const [both, first, second, iou] = Sides.overlap(...masks);
    said.textContent =
      `Of all pixels ${Format.percent(both, 1)} are in masks of both, ` +
      `${Format.percent(first, 1)} only of A, ${Format.percent(second, 1)} only of B` +
      (iou === null ? "." : `: an IoU of ${Format.percent(iou, 1)}.`);
  };
  const draw = () => {
    pictures.forEach((picture, n) => {
      const { of, state: own } = sides[n];
      picture.factors = own.mode === "truth" ? [] : shownFactors(of, own);
      picture.draw(painted(own));
    });
    const turn = ++turns;
    Later.add(() => agreement(turn));
  };
  const lay = () => {
    whole.classList.toggle("abreast", !state.together);
    const room = stage.clientWidth,
      high = Math.max(260, Math.round(0.72 * innerHeight)),
      apart = room >= 560,
      wide = state.together || !apart ? room : Math.floor((room - 14) / 2);
    // both as large as the smaller of the two files: they lie on each other
    const own = Math.min(...sides.map(({ of, at }) => Math.max(...of.set.largest(at(i)))));
    const box = { width: Math.min(wide, own), height: Math.min(high, own), large: true };
    pictures = sides.map(({ of, at }) => new Picture(of, at(i), [], box));
    const titles = sides.map(Sides.title);
    stage.replaceChildren(
      ...(state.together
        ? [swipe(pictures, state, titles)]
        : [
            h(
              "div.two",
              {},
              pictures.map(({ box }, n) => h("figure", {}, box, h("figcaption", {}, titles[n]))),
            ),
          ]),
    );
    draw();
  };
  let resizing = null,
    width = innerWidth;
  const resized = () => {
    if (width === innerWidth) return; // a phone's bars come and go as one scrolls
    width = innerWidth;
    clearTimeout(resizing);
    resizing = setTimeout(lay, 100);
  };
  const retitled = () => {
    const where = stage.querySelectorAll(state.together ? ".tag" : "figcaption");
    sides.forEach((side, n) => (where[n].textContent = Sides.title(side)));
  };
  const panels = sides.map((side) =>
    Sides.panel(pair, side, {
      image: i,
      changed: () => {
        App.keep();
        for (const { tell } of panels) tell();
        retitled();
        draw();
      },
      another: Sides.another(state),
    }),
  );
  const step = (by) => {
    const next = order[place + by];
    if (place >= 0 && next !== undefined) App.go({ image: next }, { keepFocus: true });
  };
  const key = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
    if (/^(INPUT|SELECT)$/.test(event.target.tagName)) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "Escape") App.go({ view: "pairs" });
  };
  addEventListener("keydown", key);
  addEventListener("resize", resized);
  const go = (by, title) => {
    const next = place >= 0 ? order[place + by] : undefined;
    return h(
      "a.chip",
      {
        href: next === undefined ? null : App.link({ image: next }),
        "aria-disabled": next === undefined ? "true" : null,
      },
      title,
    );
  };
  const swap = () => {
    state.sides.reverse();
    App.keep();
    App.show(true);
  };
  const whole = h(
    "div.versus",
    {},
    panels[0].element,
    h("div.middle", {}, stage, said),
    panels[1].element,
  );
  return {
    title: `${pair.sets[0].nameless[i]}, A and B`,
    close: () => {
      removeEventListener("keydown", key);
      removeEventListener("resize", resized);
      clearTimeout(resizing);
    },
    shown: lay,
    element: h(
      "div",
      {},
      h("h1.file", {}, pair.sets[0].images[i]),
      h(
        "div.steps",
        {},
        go(-1, "← previous"),
        go(1, "next →"),
        Sides.layouts(state, () => {
          App.keep();
          lay();
        }),
        h("button.small", { type: "button", on: { click: swap } }, "swap A and B"),
        h(
          "span.quiet",
          {},
          place >= 0
            ? `${(place + 1).toLocaleString("en")} of ${order.length.toLocaleString("en")}; keys ← → and Esc`
            : "not among the images that are filtered",
        ),
        sides.map((side) => Sides.alone(side, i)),
      ),
      whole,
    ),
  };
};

const LAYOUTS = [
  [true, "Swipe"],
  [false, "Side by side"],
];

// Swipe, or side by side.
Sides.layouts = (state, changed) =>
  choices("How both sides are shown", "as", LAYOUTS, state.together, (together) => {
    state.together = together;
    changed();
  });

// A side has another run, layer or k: the view is made anew, and the control keeps the focus.
Sides.another = (state) => async (letter, label) => {
  state.sides.forEach((side, n) => Sides.checked(side, n, state.set));
  App.keep();
  await App.show(true);
  document
    .querySelector(`select[aria-label="${letter}: ${label}"]`)
    ?.focus({ preventScroll: true });
};

// The way to the view of one run alone.
Sides.alone = ({ letter, state, of, at }, i) => {
  const { set } = of,
    { run } = set;
  if (!run.base && letter === "B") return null;
  const asked = new URLSearchParams({ l: state.layer, k: of.k }),
    where = `s${set.rank}${i === null ? "" : `/i${at(i)}`}`;
  return h(
    "a.chip",
    { href: `${run.base}${run.base ? "explore.html" : ""}#/${where}?${asked}` },
    run.base ? `${letter} alone` : i === null ? "the set alone" : "all concepts one by one",
  );
};
