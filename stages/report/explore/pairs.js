// The images of a set with both sides in each cell.
"use strict";

class PairPicture {
  constructor(sides, i, { width, height }) {
    const box = {
      width: Math.floor((width - 4) / 2),
      height,
      grow: true,
      coarse: true,
      named: true,
    };
    Object.assign(this, { sides, i });
    this.parts = sides.map(
      ({ of, at, state }) => new Picture(of, at(i), shownFactors(of, state), box),
    );
    this.box = h("span.pair", {}, ...this.parts.map((part) => part.box));
  }

  // Draws both; `done` gets the shares of the image in masks, or null, as they are known.
  draw(_, done) {
    const shares = [null, null];
    this.parts.forEach((part, n) => {
      const { of, state } = this.sides[n];
      part.factors = state.mode === "truth" ? [] : shownFactors(of, state);
      part.draw(painted(state), (share) => {
        shares[n] = share;
        done(shares);
      });
    });
  }
}

class PairGrid extends Grid {
  shape(wide) {
    return { target: wide < 600 ? 300 : 320, least: 1, ratio: 0.38 };
  }
  picture(i) {
    return new PairPicture(this.sides, i, { width: this.wide, height: this.boxTall });
  }
}

Views.pairs = async (state) => {
  const pair = await Sides.pair(state.set),
    sides = await Promise.all(state.sides.map((side, n) => Sides.open(pair, side, n))),
    [first] = pair.sets;
  const found = h("span.quiet", {}),
    place = h("div", {}), // of the grid
    sorts = h("span", {});
  const caption = (i, shares) =>
    shares.includes(null) ? "" : shares.map((share) => Format.percent(share)).join(" | ");
  const grid = new PairGrid({
    of: { set: first },
    factors: [],
    state: () => null,
    order: Sides.ordered(pair, sides, state),
    href: (i) => App.link({ view: "versus", image: i }),
    caption,
  });
  grid.sides = sides;
  const arrange = () => {
    const many = grid.order.length;
    found.textContent =
      Format.images(many) +
      (many < pair.images.length ? ` of ${pair.images.length.toLocaleString("en")}` : "");
  };
  const reordered = () => {
    App.keep();
    grid.reorder(Sides.ordered(pair, sides, state));
    arrange();
    say(found.textContent);
  };
  const sortable = () => pair.images.length && Sides.difference(sides, pair.images[0]) !== null;
  const fill = () => {
    const select = h(
      "select",
      {
        on: {
          change: () => {
            state.sort = select.value;
            reordered();
          },
        },
      },
      [
        ["order", "order in the set"],
        ["name", "name"],
        ...(sortable() ? [["d", "how much the masks differ in size"]] : []),
      ].map(([value, title]) => h("option", { value, selected: state.sort === value }, title)),
    );
    sorts.replaceChildren(h("label", {}, h("span", {}, "sort by "), select));
  };
  const titles = sides.map(() => h("span", {})),
    title = () => sides.forEach((side, n) => (titles[n].textContent = Sides.title(side)));
  const panels = sides.map((side) =>
    Sides.panel(pair, side, {
      changed: () => {
        App.keep();
        for (const { tell } of panels) tell();
        title();
        fill();
        if (state.sort === "d") reordered();
        else grid.redraw([]);
      },
      another: Sides.another(state),
    }),
  );
  const search = h("input", {
    type: "search",
    value: state.q,
    on: {
      input: () => {
        state.q = search.value;
        reordered();
      },
    },
  });
  title();
  fill();
  arrange();
  place.append(grid.element);
  const only = pair.only.flatMap((names, run) =>
    names.length
      ? [
          h(
            "details",
            {},
            h(
              "summary",
              {},
              `Only in ${App.runs[run].label} (${names.length.toLocaleString("en")})`,
            ),
            h("ul", {}, ...names.map((name) => h("li", {}, name))),
          ),
        ]
      : [],
  );
  return {
    title: `${pair.name}, A and B`,
    close: () => grid.close(),
    shown: async () => grid.place(),
    element: h(
      "div",
      {},
      h("h1", {}, pair.name),
      h(
        "details.both",
        { open: innerWidth >= 600 },
        h("summary", {}, titles[0], " · ", titles[1]),
        h("div.panels-of-sides", {}, ...panels.map((panel) => panel.element)),
      ),
      h(
        "div.steps",
        {},
        sides.map((side) => Sides.alone(side, null)),
      ),
      h("h2", {}, "Images ", found),
      h(
        "section.controls.loose",
        { "aria-label": "Which images, in which order" },
        sorts,
        h("label", {}, h("span", {}, "name has "), search),
      ),
      pair.images.length ? null : h("p.note", {}, "No image of the same name is in both."),
      place,
      ...only,
      h(
        "p.quiet.end",
        {},
        "Left A, right B. Keys: arrows go from image to image, Enter opens one.",
      ),
    ),
  };
};
