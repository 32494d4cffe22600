// Curves over k, losses, and how concepts split: small drawings whose points are links.
"use strict";

const svg = (tag, attributes, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {}))
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
};

// A curve: points are {x, y, label, href, here}. What is said of it in words is its title, for those
// who listen, and every point's value stands at it for those who look.
const curve = (title, points, text, { wide = 230, dots = true } = {}) => {
  const tall = 112,
    [left, right, top, bottom] = [14, 14, 26, 20];
  const ys = points.map((point) => point.y),
    xs = points.map((point) => point.x);
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const x = (value) =>
    left + ((value - xs[0]) / Math.max(xs[xs.length - 1] - xs[0], 1e-9)) * (wide - left - right);
  const y = (value) =>
    high > low ? top + ((high - value) / (high - low)) * (tall - top - bottom) : tall / 2;
  const line = points.map((point) => `${x(point.x).toFixed(1)},${y(point.y).toFixed(1)}`).join(" ");
  const every = Math.ceil(points.length / 6);
  const mark = (point, n) => {
    const near = point.here || n === 0 || n === points.length - 1 || n % every === 0;
    const reach = Math.min(60, (wide - left - right) / Math.max(1, points.length - 1));
    const drawn = [
      // what can be hit: a column around the point
      svg("rect", {
        x: x(point.x) - reach / 2,
        y: 0,
        width: reach,
        height: tall,
        fill: "transparent",
      }),
      dots || point.here
        ? svg("circle", { cx: x(point.x), cy: y(point.y), r: point.here ? 6 : 3.5 })
        : null,
      near && (dots || point.here || n === 0 || n === points.length - 1)
        ? svg("text", { x: x(point.x), y: y(point.y) - 9, class: "value" }, text(point.y))
        : null,
      near ? svg("text", { x: x(point.x), y: tall - 4, class: "at" }, point.label) : null,
    ];
    const said = `${title}, ${point.label}: ${text(point.y)}`;
    return point.href
      ? svg("a", { href: point.href, class: point.here ? "here" : null, "aria-label": said }, drawn)
      : svg("g", { class: point.here ? "here" : null }, drawn);
  };
  return h(
    "figure.curve",
    {},
    h("figcaption", {}, title),
    svg(
      "svg",
      {
        viewBox: `0 0 ${wide} ${tall}`,
        width: wide,
        height: tall,
        role: "group",
        "aria-label": title,
      },
      svg("polyline", { points: line }),
      points.map(mark),
    ),
  );
};

// What helps to choose k: each measure that there is, over k. Needs two.
const curvesOverK = (of, state) => {
  const { ks } = of.set.layers[state.layer];
  const over = (title, value, text) => {
    const points = ks
      .filter((one) => value(one) !== null)
      .map((one) => ({
        x: one.k,
        y: value(one),
        label: `k = ${one.k}`,
        href: App.link({ k: one.k }),
        here: one === of,
      }));
    return points.length > 1 ? curve(title, points, text) : null;
  };
  const percent = (value) => `${value.toFixed(1)} %`;
  return [
    over("energy explained", (one) => one.explained, percent),
    over(
      "stability",
      (one) => one.stability,
      (value) => value.toFixed(2),
    ),
    over(
      "held-out error",
      (one) => one.heldOut,
      (value) => value.toFixed(3),
    ),
    over(
      "cells in which a factor takes part",
      (one) => (one.nonzero === null ? null : 100 * one.nonzero),
      percent,
    ),
    over("IoU of the object", (one) => one.object, percent),
    over("mean IoU of the best parts", (one) => one.part, percent),
  ].filter((one) => one !== null);
};

const lossCurve = (of) => {
  const points = of.loss.map((y, n) => ({ x: n, y, label: String(n + 1), here: false }));
  return points.length > 1
    ? curve("relative error after each update", points, (value) => value.toFixed(3), {
        dots: false,
      })
    : null;
};

// At a concept that is divided further: the way to what it is divided into.
const branch = (of, factor, x, y) => {
  const told = Inside.told(of, factor);
  if (!told) return null;
  return svg(
    "a",
    {
      href: told.href,
      class: "branch",
      "aria-label": `k = ${of.k}, ${factor.title}: ${told.text}`,
    },
    svg("title", {}, `${told.text}: ${told.name}`),
    svg("rect", { x: x + 16, y: y - 9, width: 70, height: 18, rx: 9 }),
    svg("text", { x: x + 51, y: y + 4 }, told.text),
  );
};

// The concepts of every k, each beside the one of the smaller k that it goes on from.
const familyTree = (of, state) => {
  const { ks } = of.set.layers[state.layer];
  if (ks.length < 2) return null;
  const most = Math.max(...ks.map((one) => one.k)),
    [across, down] = [108, 36];
  const x = (column) => 26 + column * across,
    y = (one, j) => 16 + ((j + 0.5) * most * down) / one.k;
  const divided = ks.some((one) => one.factors.some((factor) => Inside.told(one, factor)));
  const wide = x(ks.length - 1) + (divided ? 96 : 26),
    tall = most * down + 32;
  const lines = [],
    nodes = [];
  ks.forEach((one, column) => {
    one.factors.forEach((factor, j) => {
      const before = factor.parent && ks.findIndex(({ k }) => k === factor.parent[0]);
      if (factor.parent && before >= 0)
        lines.push(
          svg("line", {
            x1: x(before),
            y1: y(ks[before], factor.parent[1]),
            x2: x(column),
            y2: y(one, j),
            stroke: factor.colour,
            "stroke-width": (1 + 5 * Math.max(0, factor.parent[2])).toFixed(1),
          }),
        );
      const light = isLight(factor.rgb);
      nodes.push(
        svg(
          "a",
          {
            href: App.link({ view: "concept", k: one.k, factor: j }),
            class: one === of ? "here" : null,
            "aria-label": `k = ${one.k}, ${factor.title}`,
          },
          svg("title", {}, `k = ${one.k}: ${factor.title}`),
          svg("circle", { cx: x(column), cy: y(one, j), r: 13, fill: factor.colour }),
          svg("text", { x: x(column), y: y(one, j) + 4, fill: light ? "#000" : "#fff" }, String(j)),
        ),
      );
    });
    nodes.push(svg("text", { x: x(column), y: tall - 2, class: "at" }, `k = ${one.k}`));
    one.factors.forEach((factor, j) => nodes.push(branch(one, factor, x(column), y(one, j))));
  });
  return h(
    "div.family",
    { tabIndex: 0, role: "region", "aria-label": "Which concept goes on from which" },
    svg(
      "svg",
      {
        viewBox: `0 0 ${wide} ${tall}`,
        width: wide,
        height: tall,
        role: "group",
        "aria-label": "Concepts by k",
      },
      lines,
      nodes,
    ),
  );
};
