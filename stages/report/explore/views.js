// The views: overview, a set, a concept, an image. Each gives an element and what updates it.
"use strict";

const Views = {};
const MODES = [["photo", "Photo"], ["heat", "Heat"], ["raw", "Raw masks"], ["refined", "Refined"]];

// What is painted, as Draw.paint takes it.
const painted = (state) => ({ mode: state.mode, opacity: state.opacity / 100, begins: state.t === null ? null : state.t / 100 });
const shownFactors = (of, state) => of.factors.filter((factor) => !state.off.has(factor.number));

// -- the controls that set, concept and image share -------------------------------------------------

const range = (label, properties, text, input) => {
  const output = h("output", {}, text(properties.value));
  const slider = h("input", { type: "range", ...properties, "aria-label": label, on: { input: () => {
    output.textContent = text(Number(slider.value));
    slider.setAttribute("aria-valuetext", output.textContent);
    input(Number(slider.value));
  } } });
  slider.setAttribute("aria-valuetext", output.textContent);
  slider.value = properties.value; // once min and max are known
  return h("label.range", {}, h("span", {}, label), slider, output);
};

// `another` is told of another k while its slider is drawn; without it the view is made anew when the
// slider is let go.
const controls = (of, state, changed, more = [], another = null) => {
  const { set } = of, { ks } = set.layers[state.layer];
  const suggested = ks.find((one) => one.suggested);
  const k = ks.length > 1 ? range("k", { min: 0, max: ks.length - 1, step: 1, value: ks.indexOf(of) }, (n) => String(ks[n].k), (n) => another && another(ks[n].k)) : null;
  if (k && !another) k.children[1].addEventListener("change", (event) => App.go({ k: ks[event.target.value].k }, { keepFocus: "k" }));
  const own = of.factors.filter((factor) => factor.start > 0).map((factor) => factor.start);
  const middle = own.length ? own.reduce((a, b) => a + b) / own.length : 0.5;
  const threshold = range("mask from", { min: 1, max: 150, step: 1, value: state.t === null ? Math.round(100 * middle) : state.t },
    (n) => (state.t === null ? "its own" : `${n} %`), (n) => { state.t = n; threshold.lastChild.textContent = `${n} %`; reset.hidden = false; changed(); });
  threshold.title = "Where raw masks begin, in per cent of full colour; at first where the pipeline has them begin, each factor at its own";
  const reset = h("button.small", { type: "button", hidden: state.t === null, on: { click: () => {
    state.t = null;
    threshold.children[1].value = Math.round(100 * middle);
    threshold.lastChild.textContent = "its own";
    reset.hidden = true;
    changed();
  } } }, "reset");
  const opacity = range("opacity", { min: 10, max: 100, step: 5, value: state.opacity }, (n) => `${n} %`, (n) => { state.opacity = n; changed(); });
  const fits = () => { threshold.hidden = state.mode !== "raw"; reset.hidden = state.mode !== "raw" || state.t === null; opacity.hidden = state.mode === "photo"; };
  const modes = h("fieldset.modes", {}, h("legend.visually-hidden", {}, "What is painted"), MODES.map(([mode, title]) => h("label", {},
    h("input", { type: "radio", name: "mode", value: mode, checked: state.mode === mode, on: { change: () => { state.mode = mode; fits(); changed(); } } }), h("span", {}, title))));
  const layers = set.layers.length > 1 ? h("label", {}, h("span", {}, "layer "), h("select", { on: { change: (event) => App.go({ layer: Number(event.target.value) }) } },
    set.layers.map((layer, n) => h("option", { value: n, selected: n === state.layer }, layer.name)))) : null;
  fits();
  const jump = suggested ? h("button.small", { type: "button", hidden: suggested === of, on: { click: () => App.go({ k: suggested.k }, { keepFocus: "k" }) } }, `suggested: ${suggested.k}`) : null;
  const made = h("section.controls", { "aria-label": "Controls" }, layers, k, jump, modes, opacity, threshold, reset, more);
  made.jump = jump || {};
  return made;
};

// -- overview ----------------------------------------------------------------------------------------

Views.overview = async (state) => {
  const { run } = DFF;
  const cards = run.sets.map((set, rank) => ({ set, rank, element: null }));
  const list = h("div.cards", {});
  const watched = new IntersectionObserver((seen) => seen.forEach((one) => {
    if (one.isIntersecting) { watched.unobserve(one.target); one.target.fill(); }
  }), { rootMargin: "400px" });
  const best = (set, what) => { const row = set.scores.find((one) => one.k === set.k); return row ? row[what] : null; };
  const card = ({ set, rank }) => {
    const sheet = h("div.sheet", {}), href = App.link({ view: "set", set: rank });
    const facts = [Format.images(set.count), `k = ${set.k}${set.suggested ? ", suggested" : ""}`, `${Format.number(best(set, "explained"), 1)} % explained`];
    if (best(set, "object") !== null) facts.push(`object IoU ${Format.number(best(set, "object"), 1)}`);
    if (best(set, "part") !== null) facts.push(`part IoU ${Format.number(best(set, "part"), 1)}`);
    const made = h("article.card", {}, h("h2", {}, h("a", { href }, set.name)), h("p.quiet", {}, facts.join(" · ")), sheet);
    made.fill = async () => {
      try {
        const opened = await App.set(rank), of = opened.factorization(0, set.k);
        await of.tops();
        const count = Math.min(6, opened.count);
        const images = [...new Set(Array.from({ length: count }, (_, n) => Math.round((n * (opened.count - 1)) / Math.max(1, count - 1))))];
        const wide = Math.floor((sheet.clientWidth - 12) / 3);
        sheet.append(...images.map((i) => {
          const picture = new Picture(of, i, of.factors, { width: wide, height: Math.round(0.75 * wide) });
          picture.draw({ mode: "heat", opacity: 1, begins: null });
          return h("a", { href: App.link({ view: "image", set: rank, image: i }), title: opened.images[i] }, picture.box);
        }));
      } catch (error) { App.failed(error); }
    };
    watched.observe(made);
    return made;
  };
  const sorts = { order: () => 0, name: (a, b) => a.set.name.localeCompare(b.set.name), images: (a, b) => b.set.count - a.set.count,
    explained: (a, b) => best(b.set, "explained") - best(a.set, "explained"), object: (a, b) => (best(b.set, "object") ?? -1) - (best(a.set, "object") ?? -1) };
  const arrange = () => {
    const words = state.q.toLowerCase();
    const shown = cards.filter(({ set }) => set.name.toLowerCase().includes(words)).sort(sorts[state.sort] || sorts.order);
    for (const one of shown) one.element = one.element || card(one);
    list.replaceChildren(...shown.map((one) => one.element));
    say(`${shown.length} image sets`);
  };
  const scored = run.sets.some((set) => best(set, "object") !== null);
  const sort = h("select", { on: { change: () => { state.sort = sort.value; App.keep(); arrange(); } } },
    [["order", "as they are"], ["name", "name"], ["images", "number of images"], ["explained", "share explained"], ...(scored ? [["object", "object IoU"]] : [])].map(
      ([value, title]) => h("option", { value, selected: state.sort === value }, title)));
  const search = h("input", { type: "search", value: state.q, on: { input: () => { state.q = search.value; App.keep(); arrange(); } } });
  arrange();
  return { title: "Image sets", close: () => watched.disconnect(), element: h("div", {},
    h("h1", {}, run.sets.length === 1 ? "One image set" : `${run.sets.length} image sets`),
    h("section.controls.loose", { "aria-label": "Controls" }, h("label", {}, h("span", {}, "find "), search), h("label", {}, h("span", {}, "sort by "), sort)),
    list, Views.about(run)) };
};

Views.about = (run) => h("section.about", {}, h("h2", {}, "This run"),
  h("dl.facts", {}, run.facts.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value)))),
  run.leftOut.map((some) => h("details", {}, h("summary", {}, `${some.title} (${some.count})`), some.meaning ? h("p.quiet", {}, some.meaning) : null,
    h("ul", {}, some.rows.map(([name, reason]) => h("li", {}, h("b", {}, name), ` ${reason}`))))));

// -- a set -------------------------------------------------------------------------------------------

const about = (of) => {
  const facts = [`${Format.number(of.explained, 1)} % of the activations’ energy explained`];
  if (of.stability !== null) facts.push(`stability ${Format.number(of.stability, 2)}`);
  if (of.object !== null) facts.push(`object IoU ${Format.number(of.object, 1)} %`);
  if (of.part !== null) facts.push(`mean best-part IoU ${Format.number(of.part, 1)} %`);
  if (of.suggested) facts.push(`suggested: ${of.reason}`);
  return facts.join(" · ");
};

const meanOf = (of, name, j) => {
  let total = 0;
  for (let i = 0; i < of.set.count; i++) total += of.stat(name, i, j);
  return total / of.set.count;
};

const conceptRow = (of, factor, state, changed) => {
  const j = factor.number, side = innerWidth < 600 ? Math.floor((innerWidth - 100) / Math.max(1, factor.tops.length)) : 64, strip = h("canvas.strip", { role: "img", "aria-label": `Strength of ${factor.title} over the images of the set, in their order` });
  const facts = [["energy", `${Format.number(factor.energy)} %`, "share of the factors’ energy"],
    ["mask", Format.percent(meanOf(of, "refined", j), 0), "of all pixels are in its refined masks, on average"]];
  if (factor.iou !== null) facts.push([`IoU ${factor.part}`, Format.number(factor.iou, 0), "IoU of its refined masks with the annotated part that they fit best, per cent"]);
  const box = h("input", { type: "checkbox", checked: !state.off.has(j), "aria-label": `Show ${factor.title}`, on: { change: () => {
    if (box.checked) state.off.delete(j); else state.off.add(j);
    changed();
  } } });
  const made = h("li.concept", { style: { "--c": factor.colour } },
    h("div.concept-head", {}, box, swatch(factor), h("a.name", { href: App.link({ view: "concept", factor: j }) }, factor.name || `factor ${j}`)),
    strip,
    h("dl.small-facts", {}, facts.map(([label, value, title]) => h("div", { title }, h("dt", {}, label), h("dd", {}, value)))),
    h("div.crops", {}, factor.tops.map((i) => crop(of, i, factor, Math.min(side, 64), App.link({ view: "image", image: i })))));
  Later.add(() => made.isConnected && Draw.strip(strip, of, j, factor.colour));
  return made;
};

const ordered = (of, state) => {
  const { set } = of, words = state.q.toLowerCase();
  const images = [];
  for (let i = 0; i < set.count; i++) if (!words || set.images[i].toLowerCase().includes(words)) images.push(i);
  const match = /^(f|m|r)(\d+)$/.exec(state.sort);
  if (state.sort === "name") images.sort((a, b) => set.images[a].localeCompare(set.images[b], undefined, { numeric: true }));
  else if (match && Number(match[2]) < of.k) {
    const name = { f: "means", m: "refined", r: "raw" }[match[1]], j = Number(match[2]);
    images.sort((a, b) => of.stat(name, b, j) - of.stat(name, a, j) || a - b);
  } else if (state.sort === "d") images.sort((a, b) => moved(of, b) - moved(of, a) || a - b);
  return images;
};

// How much refinement changes the masks' sizes on an image, as a share of its pixels.
const moved = (of, i) => of.factors.reduce((sum, { number: j }) => sum + Math.abs(of.stat("raw", i, j) - of.stat("refined", i, j)), 0);

const sortSelect = (of, state, changed) => {
  const group = (letter, title, what) => h("optgroup", { label: title }, of.factors.map((factor) => h("option", { value: `${letter}${factor.number}`, selected: state.sort === `${letter}${factor.number}` }, `${what} ${factor.title}`)));
  const select = h("select", { on: { change: () => { state.sort = select.value; changed(); } } },
    h("option", { value: "order", selected: state.sort === "order" }, "order in the set"), h("option", { value: "name", selected: state.sort === "name" }, "name"),
    group("f", "strongest", "strength of"), group("m", "largest refined mask", "mask of"), group("r", "largest raw mask", "raw mask of"),
    h("option", { value: "d", selected: state.sort === "d" }, "change by refinement"));
  return h("label", {}, h("span", {}, "sort by "), select);
};

// What a set begins with: numbers of every image, coefficients of the strongest ones.
const begun = async (of) => { await Promise.all([of.open(), of.tops()]); return of; };

Views.set = async (state) => {
  const set = await App.set(state.set), of = await begun(set.factorization(state.layer, state.k));
  const found = h("span.quiet", {}), said = h("p.quiet", {}), title = h("h2", {}), list = h("ul.concepts", {}), place = h("div", {}), sorts = h("span", {});
  let grid = null, now = of;
  const caption = (i, share) => {
    if (share !== null) return `${Format.percent(share)} masked`;
    const match = /^f(\d+)$/.exec(state.sort);
    return match && Number(match[1]) < now.k ? Format.percent(now.stat("means", i, Number(match[1]))) : "";
  };
  const arrange = () => { found.textContent = Format.images(grid.order.length) + (grid.order.length < set.count ? ` of ${set.count.toLocaleString("en")}` : ""); };
  const changed = () => { App.keep(); grid.redraw(shownFactors(now, state)); };
  const resorted = () => { App.keep(); grid.reorder(ordered(now, state)); arrange(); say(found.textContent); };
  const search = h("input", { type: "search", value: state.q, on: { input: () => { state.q = search.value; resorted(); } } });
  const fill = () => {
    if (grid) grid.close();
    grid = new Grid({ of: now, factors: shownFactors(now, state), state: () => painted(state), order: ordered(now, state), href: (i) => App.link({ view: "image", image: i }), caption });
    said.textContent = about(now);
    title.textContent = now.k === 1 ? "One concept" : `${now.k} concepts`;
    list.replaceChildren(...now.factors.map((factor) => conceptRow(now, factor, state, changed)));
    sorts.replaceChildren(sortSelect(now, state, resorted));
    place.replaceChildren(grid.element);
    arrange();
    grid.place();
  };
  const another = async (k) => {
    try {
      const next = await begun(set.factorization(state.layer, k));
      if (App.state !== state) return;
      Object.assign(state, App.changed({ k }));
      App.keep();
      now = next;
      bar.jump.hidden = next.suggested;
      fill();
    } catch (error) { App.failed(error); }
  };
  const bar = controls(of, state, () => changed(), [], another);
  const element = h("div", {}, h("h1", {}, set.name), bar, said, title, list, h("h2", {}, "Images ", found),
    h("section.controls.loose", { "aria-label": "Which images, in which order" }, sorts, h("label", {}, h("span", {}, "name has "), search)), place,
    h("p.quiet.end", {}, "Keys: arrows go from image to image, Enter opens one."));
  return { title: set.name, element, close: () => grid && grid.close(), shown: async () => fill() };
};

// -- a concept ---------------------------------------------------------------------------------------

const correlation = (of, a, b) => {
  const n = of.set.count, mean = [a, b].map((j) => meanOf(of, "means", j));
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    const u = of.stat("means", i, a) - mean[0], v = of.stat("means", i, b) - mean[1];
    ab += u * v; aa += u * u; bb += v * v;
  }
  return aa > 0 && bb > 0 ? ab / Math.sqrt(aa * bb) : null;
};

Views.concept = async (state) => {
  const set = await App.set(state.set), of = await set.factorization(state.layer, state.k).open();
  const j = Math.min(state.factor, of.k - 1), factor = of.factors[j], { ks } = set.layers[state.layer];
  const order = Array.from({ length: set.count }, (_, i) => i).sort((a, b) => of.stat("means", b, j) - of.stat("means", a, j) || a - b);
  const many = Math.min(12, Math.ceil(set.count / 3)), middle = Math.max(0, Math.floor((set.count - many) / 2));
  const href = (i) => App.link({ view: "image", image: i }), strength = (i) => Format.percent(of.stat("means", i, j));
  const rows = h("div", {});
  const draw = () => {
    const part = (title, images) => [h("h2", {}, title), row(of, images, [factor], painted(state), href, strength)];
    rows.replaceChildren(...part("Strongest", order.slice(0, many)), ...(set.count > many ? part("In the middle", order.slice(middle, middle + many)) : []), ...(set.count > many ? part("Weakest", order.slice(-many).reverse()) : []));
  };
  const to = (k, n) => { const other = set.factorization(state.layer, k).factors[n]; return h("a.chip", { href: App.link({ view: "concept", k, factor: n }) }, swatch(other), `k = ${k}: ${other.title}`); };
  const children = ks.flatMap((one) => one.factors.filter(({ parent }) => parent && parent[0] === of.k && parent[1] === j).map((child) => to(one.k, child.number)));
  const together = of.factors.filter((other) => other !== factor).map((other) => [other, correlation(of, j, other.number)]).filter(([, value]) => value !== null).sort((a, b) => b[1] - a[1]);
  let [x, y, weight] = [0, 0, 0];
  for (let i = 0; i < set.count; i++) { const area = of.stat("raw", i, j); x += area * of.stat("x", i, j); y += area * of.stat("y", i, j); weight += area; }
  const facts = [["energy", `${Format.number(factor.energy, 1)} % of the factors’`], ["masks", `raw ${Format.percent(meanOf(of, "raw", j), 1)}, refined ${Format.percent(meanOf(of, "refined", j), 1)} of all pixels`]];
  if (factor.iou !== null) facts.push([`IoU with ${factor.part}`, `${Format.number(factor.iou, 1)} %`]);
  if (weight > 0) facts.push(["where its masks are", `${Format.percent(x / weight)} from the left, ${Format.percent(y / weight)} from the top, on average`]);
  draw();
  return { title: `${factor.title}, ${set.name}`, element: h("div", {},
    h("h1.with-swatch", {}, swatch(factor), factor.title), h("p.quiet", {}, "k = ", String(of.k), ", ", h("a", { href: App.link({ view: "set" }) }, set.name)),
    h("dl.facts", {}, facts.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value))),
      factor.parent ? h("div", {}, h("dt", {}, "splits from"), h("dd", {}, to(factor.parent[0], factor.parent[1]), ` cosine ${Format.number(factor.parent[2], 2)}`)) : null,
      children.length ? h("div", {}, h("dt", {}, "goes on as"), h("dd", {}, children)) : null,
      together.length ? h("div", {}, h("dt", {}, "strong on the same images (correlation)"), h("dd", {}, together.map(([other, value]) => h("a.chip", { href: App.link({ view: "concept", factor: other.number }) }, swatch(other), Format.number(value, 2))))) : null),
    controls(of, state, () => { App.keep(); draw(); }), rows) };
};

// -- an image ----------------------------------------------------------------------------------------

const truthPanel = async (set, i, box) => {
  const mask = await set.truthOf(i);
  if (!mask) return null;
  const panel = new Picture({ set }, i, [], box), found = Draw.runLabels(mask, [{ number: 0 }]);
  Draw.labels(panel.canvas, found, [[255, 255, 255]], 0.6);
  return panel;
};

Views.image = async (state) => {
  const set = await App.set(state.set), of = await set.factorization(state.layer, state.k).open();
  const i = state.image, order = ordered(of, state), at = order.indexOf(i);
  await of.need(i);
  const entry = of.coefficients.get(i), room = document.getElementById("content").clientWidth;
  const across = room < 600 ? 2 : room < 1000 ? 3 : set.annotated ? 5 : 4, side = Math.floor((room - 13 * (across - 1)) / across), box = { width: side, height: 1.4 * side };
  const third = Math.min(side, set.width(i), Math.floor((room - 26) / 3)), thirds = { width: third, height: 1.4 * third };
  const panels = [], dots = [];
  const readout = h("ul.readout", { "aria-label": "Strength at the point, per cent of full colour" });
  const point = (event) => {
    const around = event.currentTarget.getBoundingClientRect();
    const x = Math.min(Math.max((event.clientX - around.left) / around.width, 0), 1), y = Math.min(Math.max((event.clientY - around.top) / around.height, 0), 1);
    for (const dot of dots) { dot.hidden = false; dot.style.left = `${100 * x}%`; dot.style.top = `${100 * y}%`; }
    of.factors.forEach((factor, n) => {
      const value = Draw.at(entry, n, factor.full, x, y), line = readout.children[n];
      line.lastChild.textContent = Format.percent(value);
      line.style.setProperty("--v", `${Math.min(100, 100 * value)}%`);
    });
  };
  readout.append(...of.factors.map((factor) => h("li", { style: { "--c": factor.colour } }, swatch(factor), h("span.name", {}, factor.name || `factor ${factor.number}`), h("span.value", {}, "–"))));
  const framed = (picture, title) => {
    const dot = h("i.dot", { hidden: true });
    dots.push(dot);
    picture.box.append(dot);
    picture.box.addEventListener("pointermove", point);
    picture.box.addEventListener("pointerdown", point);
    const value = h("span.value", {});
    return { value, figure: h("figure", {}, picture.box, h("figcaption", {}, title, " ", value)) };
  };
  const line = (title, factors, kinds) => h("section.line", {}, title, h("div.panels", {}, kinds.map(([mode, name]) => {
    const picture = new Picture(of, i, factors || [], factors ? thirds : box), { figure, value } = framed(picture, name);
    panels.push({ picture, mode, value, all: factors === null });
    return figure;
  })));
  const kinds = [["heat", "heat"], ["raw", "raw masks"], ["refined", "refined"]];
  const first = line(h("h2", {}, "All concepts"), null, [["photo", "photograph"], ...kinds]);
  const truth = truthPanel(set, i, box).then((panel) => { if (panel) first.lastChild.append(framed(panel, "annotated").figure); });
  const each = of.k > 1 ? of.factors.map((factor) => line(h("h3.with-swatch", {}, swatch(factor), h("a", { href: App.link({ view: "concept", factor: factor.number }) }, factor.title),
    h("span.quiet", {}, ` ${Format.percent(of.stat("means", i, factor.number))} strong on average`)), [factor], kinds)) : [];
  const draw = () => panels.forEach(({ picture, mode, value, all }) => {
    if (all) picture.factors = shownFactors(of, state);
    picture.draw({ ...painted(state), mode }, (share) => { value.textContent = share === null ? "" : Format.percent(share, 1); });
  });
  const near = nearest(of, i, 8);
  const step = (by) => { const next = order[at + by]; if (at >= 0 && next !== undefined) App.go({ image: next }, { keepFocus: true }); };
  const key = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "Escape") App.go({ view: "set" });
  };
  addEventListener("keydown", key);
  const go = (by, title) => { const next = at >= 0 ? order[at + by] : undefined; return h("a.chip", { href: next === undefined ? null : App.link({ image: next }), "aria-disabled": next === undefined ? "true" : null }, title); };
  const changed = () => { App.keep(); draw(); };
  const boxes = h("div.toggles", {}, of.factors.map((factor) => { const input = h("input", { type: "checkbox", checked: !state.off.has(factor.number), "aria-label": `Show ${factor.title}`, on: { change: () => {
    if (input.checked) state.off.delete(factor.number); else state.off.add(factor.number);
    changed();
  } } }); return h("label", {}, input, swatch(factor)); }));
  const bar = controls(of, state, changed, [boxes]);
  bar.querySelector(".modes").remove();
  for (const one of bar.querySelectorAll("[hidden]")) one.hidden = one.tagName === "BUTTON" && state.t === null;
  return { title: `${set.nameless[i]}, ${set.name}`, close: () => removeEventListener("keydown", key), shown: async () => { draw(); await truth; }, element: h("div", {},
    h("h1.file", {}, set.images[i]),
    h("p.steps", {}, go(-1, "← previous"), go(1, "next →"), h("span.quiet", {}, at >= 0 ? `${(at + 1).toLocaleString("en")} of ${order.length.toLocaleString("en")}; keys ← → and Esc` : "not among the images that are filtered")),
    bar, first, h("div.lines", { style: { "--line": `${3 * third + 28}px` } }, each), near.length ? [h("h2", {}, "Nearest by the strengths of concepts"), row(of, near, of.factors, { mode: "heat", opacity: 1, begins: null }, (n) => App.link({ image: n }))] : [],
    h("aside.point", { "aria-label": "Strength of the concepts at a point" }, h("p.quiet", {}, "Point at a picture, or touch it: how strong each concept is there."), readout)) };
};

// The images whose strengths are most like one image's: by the angle between them.
const nearest = (of, i, wanted) => {
  const own = of.factors.map(({ number: j }) => of.stat("means", i, j)), length = Math.hypot(...own);
  const cosine = (n) => {
    let [dot, other] = [0, 0];
    for (let j = 0; j < of.k; j++) { const value = of.stat("means", n, j); dot += value * own[j]; other += value * value; }
    return other > 0 && length > 0 ? dot / Math.sqrt(other) / length : 0;
  };
  if (of.k < 2) return [];
  return Array.from({ length: of.set.count }, (_, n) => n).filter((n) => n !== i).map((n) => [cosine(n), n]).sort((a, b) => b[0] - a[0] || a[1] - b[1]).slice(0, wanted).map(([, n]) => n);
};
