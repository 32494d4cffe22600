// What all views share: which pictures are painted, and the controls that say so.
"use strict";

const Views = {};
const MODES = [
  ["photo", "Photo"],
  ["heat", "Heat"],
  ["raw", "Raw masks"],
  ["refined", "Refined"],
];

// What is painted, as Draw.paint takes it.
const painted = (state) => ({
  mode: state.mode,
  opacity: state.opacity / 100,
  begins: state.t === null ? null : state.t / 100,
});
const shownFactors = (of, state) => of.factors.filter((factor) => !state.off.has(factor.number));
// Those of a small picture: no more than are told apart by colour. The strongest come first.
const strongest = (of) => of.factors.slice(0, Draw.most);

const range = (label, properties, text, input) => {
  const output = h("output", {}, text(properties.value));
  const slider = h("input", {
    type: "range",
    ...properties,
    "aria-label": label,
    on: {
      input: () => {
        output.textContent = text(Number(slider.value));
        slider.setAttribute("aria-valuetext", output.textContent);
        input(Number(slider.value));
      },
    },
  });
  slider.setAttribute("aria-valuetext", output.textContent);
  slider.value = properties.value; // once min and max are known
  return h("label.range", {}, h("span", {}, label), slider, output);
};

// Where raw masks begin: a slider, and a button for where the pipeline has them begin.
const thresholdOf = (of, state, changed) => {
  const own = of.factors.filter((factor) => factor.start > 0).map((factor) => factor.start);
  const middle = own.length ? own.reduce((a, b) => a + b) / own.length : 0.5;
  const threshold = range(
    "mask from",
    { min: 1, max: 150, step: 1, value: state.t === null ? Math.round(100 * middle) : state.t },
    (n) => (state.t === null ? "its own" : `${n} %`),
    (n) => {
      state.t = n;
      threshold.lastChild.textContent = `${n} %`;
      reset.hidden = false;
      changed();
    },
  );
  threshold.title =
    "Where raw masks begin, in per cent of full colour; at first where the pipeline has them begin, each factor at its own";
  const reset = h(
    "button.small",
    {
      type: "button",
      hidden: state.t === null,
      on: {
        click: () => {
          state.t = null;
          threshold.children[1].value = Math.round(100 * middle);
          threshold.lastChild.textContent = "its own";
          reset.hidden = true;
          changed();
        },
      },
    },
    "reset",
  );
  return [threshold, reset];
};

// How what is painted is painted: modes, opacity, threshold, each shown where it says something.
const paintControls = (of, state, changed, modes = MODES, name = "mode") => {
  const [threshold, reset] = thresholdOf(of, state, changed);
  const opacity = range(
    "opacity",
    { min: 10, max: 100, step: 5, value: state.opacity },
    (n) => `${n} %`,
    (n) => {
      state.opacity = n;
      changed();
    },
  );
  const fits = () => {
    threshold.hidden = state.mode !== "raw";
    reset.hidden = state.mode !== "raw" || state.t === null;
    opacity.hidden = state.mode === "photo";
  };
  const choice = choices("What is painted", name, modes, state.mode, (mode) => {
    state.mode = mode;
    fits();
    changed();
  });
  fits();
  return [choice, opacity, threshold, reset];
};

// `another` is told of another k while its slider is drawn; without it the view is made anew when the
// slider is let go.
const controls = (of, state, changed, more = [], another = null) => {
  const { set } = of,
    { ks } = set.layers[state.layer];
  const suggested = ks.find((one) => one.suggested);
  const k =
    ks.length > 1
      ? range(
          "k",
          { min: 0, max: ks.length - 1, step: 1, value: ks.indexOf(of) },
          (n) => String(ks[n].k),
          (n) => another && another(ks[n].k),
        )
      : null;
  if (k && !another)
    k.children[1].addEventListener("change", (event) =>
      App.go({ k: ks[event.target.value].k }, { keepFocus: "k" }),
    );
  const layers =
    set.layers.length > 1
      ? h(
          "label",
          {},
          h("span", {}, "layer "),
          h(
            "select",
            { on: { change: (event) => App.go({ layer: Number(event.target.value) }) } },
            set.layers.map((layer, n) =>
              h("option", { value: n, selected: n === state.layer }, layer.name),
            ),
          ),
        )
      : null;
  const jump = suggested
    ? h(
        "button.small",
        {
          type: "button",
          hidden: suggested === of,
          on: { click: () => App.go({ k: suggested.k }, { keepFocus: "k" }) },
        },
        `suggested: ${suggested.k}`,
      )
    : null;
  const made = h(
    "section.controls",
    { "aria-label": "Controls" },
    layers,
    k,
    jump,
    paintControls(of, state, changed),
    more,
  );
  made.jump = jump || {};
  return made;
};
