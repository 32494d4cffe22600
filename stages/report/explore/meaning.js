// What concepts mean to the network: hints at names, importance for its classes, and what is left
// of these while concepts are taken away.
"use strict";

const Meaning = {
  // Classes that a factor's direction alone looks like; none where nobody knows.
  hints: (of, factor) => (of.meaning ? of.meaning.hints[factor.number] : []),

  // One line under a concept without a name; null where there is none.
  hint: (of, factor) => {
    const names = Meaning.hints(of, factor);
    if (!names.length) return null;
    return h("p.hint", {}, "looks to the network like: ", h("bdi", {}, names.join(", ")));
  },

  // The part of a concept's view.
  section: (of, factor) => {
    const { meaning, reasons, assumed } = {
      reasons: [],
      ...of.set.run.meaning,
      meaning: of.meaning,
    };
    if (!meaning) {
      const reason = reasons[of.layer];
      return reason
        ? h("p.quiet", {}, `What it means to the network is not known: ${reason}.`)
        : null;
    }
    const about = `On ${Format.images(meaning.images)} of the set, concepts are weakened in many ways. Importance is the share of the changes of a class’s logit that this concept has a part in (total Sobol index ± standard error); effect is how many logits it adds.`;
    return h(
      "section.meaning",
      { "aria-label": "What it means to the network" },
      h("h2", {}, "What it means to the network"),
      h("p.quiet", {}, about),
      h(
        "div.meanings",
        {},
        meaning.classes.map((one) => meaningOfClass(of, factor, one)),
      ),
      h(
        "p.quiet",
        {},
        `What the ${of.k} concepts explain keeps the network’s first class on ${Format.percent(meaning.kept)} of these images.`,
        assumed ? ` Names: ${assumed}.` : "",
      ),
    );
  },
};

const meaningOfClass = (of, factor, one) => {
  const largest = Math.max(1, ...one.total.map((total, j) => total + (one.error[j] || 0)));
  const share = (value) => `${((100 * value) / largest).toFixed(1)}%`;
  const line = (other) => {
    const j = other.number,
      error = one.error[j];
    const said = `${Format.percent(one.total[j])}${error === null ? "" : ` ± ${Format.number(100 * error)}`}`;
    const effect = one.effect[j],
      signed = `${effect < 0 ? "−" : "+"}${Math.abs(effect).toFixed(1)}`;
    return h(
      "li",
      { className: other === factor ? "here" : "" },
      swatch(other),
      h("a.name", { href: App.link({ view: "concept", factor: j }) }, other.title),
      h(
        "span.bar",
        { "aria-hidden": "true" },
        h("i", { style: { width: share(one.total[j]), "background-color": other.colour } }),
        error === null
          ? null
          : h("b", {
              style: {
                left: share(Math.max(0, one.total[j] - error)),
                width: share(Math.min(one.total[j], error) + error),
              },
            }),
      ),
      h("span.value", { title: "total Sobol index, and its standard error" }, said),
      h("span.value", { title: "logits that it adds, on average" }, signed),
    );
  };
  return h(
    "figure.meaning-class",
    {},
    h("figcaption", {}, h("bdi", {}, one.name), ` first on ${Format.percent(one.share)} of them`),
    h("ul.importance", {}, of.factors.map(line)),
    stepsPlot(one),
  );
};

// Logits while concepts are added or taken away, the best first, beside the mean over all orders.
const stepsPlot = (one) => {
  const [wide, tall, left, right, top, bottom] = [280, 130, 34, 12, 10, 20];
  const steps = one.insertion.length - 1,
    every = [...one.insertion, ...one.deletion, ...one.orders];
  const [low, high] = [Math.min(0, ...every), Math.max(...every)];
  const x = (step) => left + (step / steps) * (wide - left - right);
  const y = (logit) => top + ((high - logit) / Math.max(high - low, 1e-9)) * (tall - top - bottom);
  const line = (values, name) =>
    svg("polyline", {
      class: name,
      points: values.map((value, n) => `${x(n).toFixed(1)},${y(value).toFixed(1)}`).join(" "),
    });
  const text = (value) => value.toFixed(Math.abs(high) < 10 ? 1 : 0);
  const said = (values) => values.map(text).join(", ");
  const tick = (step) =>
    svg("text", { x: x(step), y: tall - 4, "text-anchor": "middle" }, String(step));
  const nth = Math.ceil(steps / 8);
  return h(
    "div.steps-plot",
    {},
    svg(
      "svg",
      {
        viewBox: `0 0 ${wide} ${tall}`,
        width: wide,
        height: tall,
        role: "img",
        "aria-label": `Logit of ${one.name} with 0 to ${steps} concepts added: ${said(one.insertion)}; taken away: ${said(one.deletion)}; added in any order: ${said(one.orders)}`,
      },
      svg("line", { x1: left, x2: wide - right, y1: y(0), y2: y(0) }),
      svg("text", { x: left - 5, y: y(high) + 4, "text-anchor": "end" }, text(high)),
      svg("text", { x: left - 5, y: y(low) + 4, "text-anchor": "end" }, text(low)),
      Array.from({ length: steps + 1 }, (_, n) => (n % nth === 0 ? tick(n) : null)),
      line(one.orders, "orders"),
      line(one.deletion, "deletion"),
      line(one.insertion, "insertion"),
    ),
    h(
      "p.quiet.steps-key",
      {},
      h("span", {}, "logit with so many concepts:"),
      h("span.key.insertion", {}, "added, best first"),
      h("span.key.deletion", {}, "taken away"),
      h("span.key.orders", {}, "added in any order"),
    ),
  );
};
