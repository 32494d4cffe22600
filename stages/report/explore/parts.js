// Pieces that views are put together from. Names come from people's disks: they become text nodes and
// properties, never markup.
"use strict";

// An element: h("a.big", {href: "#/"}, "text", another, ...). What is null is left out.
const h = (what, properties, ...children) => {
  const [tag, ...classes] = what.split(".");
  const made = document.createElement(tag || "div");
  if (classes.length) made.className = classes.join(" ");
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined) continue;
    if (name === "style")
      for (const [key, one] of Object.entries(value)) made.style.setProperty(key, one);
    else if (name === "on")
      for (const [event, call] of Object.entries(value)) made.addEventListener(event, call);
    else if (name.startsWith("aria-") || name === "role" || name === "for" || name === "list")
      made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
};

const Format = {
  percent: (share, digits = 0) =>
    share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)} %`,
  number: (value, digits = 0) =>
    value === null || value === undefined ? "–" : value.toFixed(digits),
  images: (n) => `${n.toLocaleString("en")} ${n === 1 ? "image" : "images"}`,
  // of an image set: of a large one the page has some images only
  shown: ({ count, total }) =>
    count < total
      ? `${count.toLocaleString("en")} of ${Format.images(total)} shown`
      : Format.images(count),
};

const say = (text) => {
  document.getElementById("said").textContent = text;
};

// Whether black is read on a colour better than white.
const isLight = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b > 140;

// A factor's colour with its number in it: colour alone says nothing to some.
const swatch = (factor) => {
  const ink = isLight(factor.rgb) ? "#000" : "#fff";
  return h(
    "span.swatch",
    {
      "aria-hidden": "true",
      title: factor.title,
      style: { "background-color": factor.colour, color: ink },
    },
    String(factor.number),
  );
};

// Work that is done a few milliseconds at a time, so that scrolling goes on meanwhile.
const Later = {
  waiting: [],
  running: false,
  loading: 0, // pictures that wait for their data, or are being painted
  add(work) {
    Later.waiting.push(work);
    if (!Later.running) {
      Later.running = true;
      requestAnimationFrame(Later.run);
    }
  },
  async run() {
    const end = performance.now() + 8;
    while (Later.waiting.length && performance.now() < end) {
      try {
        await Later.waiting.shift()();
      } catch (error) {
        App.failed(error);
      }
    }
    Later.running = Later.waiting.length > 0;
    if (Later.running) requestAnimationFrame(Later.run);
  },
};

// One of several that exclude each other: [[value, title], ...]; `pick` is told of the one chosen.
const choices = (legend, name, of, current, pick) =>
  h(
    "fieldset.modes",
    {},
    h("legend.visually-hidden", {}, legend),
    of.map(([value, title]) =>
      h(
        "label",
        {},
        h("input", {
          type: "radio",
          name,
          value: String(value),
          checked: value === current,
          on: { change: () => pick(value) },
        }),
        h("span", {}, title),
      ),
    ),
  );
