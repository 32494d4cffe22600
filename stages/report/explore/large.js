// One picture as large as it is, over everything else.
"use strict";

const Large = {};

// Paint the photograph as wide as the window or the file allows; Esc or a click beside it closes.
Large.open = (of, i, factors, state, modes = MODES) => {
  const { set } = of,
    before = document.activeElement;
  const place = h("div.large-place", {}),
    own = { ...state };
  const draw = () => {
    const room = { width: innerWidth - 32, height: innerHeight - 150 };
    const picture = new Picture(of, i, factors, { ...room, large: true });
    place.replaceChildren(picture.box);
    picture.draw(own, (share) => {
      value.textContent = share === null ? "" : ` ${Format.percent(share, 1)} masked`;
    });
  };
  const value = h("span.value", {});
  const painting = choices("What is painted", "large-mode", modes, own.mode, (mode) => {
    own.mode = mode;
    draw();
  });
  const close = h("button", { type: "button", on: { click: () => dialog.close() } }, "Close");
  const dialog = h(
    "dialog.large",
    {
      "aria-label": set.images[i],
      on: {
        click: (event) => event.target === dialog && dialog.close(),
        close: () => {
          removeEventListener("resize", draw);
          dialog.remove();
          before?.focus({ preventScroll: true });
        },
      },
    },
    h("div.large-bar", {}, h("b", {}, set.nameless[i]), painting, value, close),
    place,
    set.large
      ? null
      : h(
          "p.quiet",
          {},
          `No larger photographs are kept of so many images; report.large_most in params.yaml says of how many.`,
        ),
  );
  document.body.append(dialog);
  dialog.showModal();
  addEventListener("resize", draw);
  draw();
};

// The button that opens it.
const enlarge = (what, open) =>
  h(
    "button.enlarge",
    { type: "button", title: "Large", "aria-label": `Show ${what} large`, on: { click: open } },
    "⤢",
  );
