// A text field for names, with those that are used already to choose from.
"use strict";

const SUGGESTED = 7;
let fields = 0;

// `commit(text)` when the text is changed and left; `key(event)` for keys that the list does not take;
// `hints()` are names that nobody has given, only the network: they come last, and are marked.
const nameField = ({
  label,
  value,
  commit,
  key = () => {},
  hints = () => [],
  placeholder = "no name",
}) => {
  const id = `names-${fields++}`;
  let chosen = -1,
    before = value;
  const list = h("ul.suggestions", { id, role: "listbox", "aria-label": "Names", hidden: true });
  const input = h("input", {
    type: "text",
    value,
    placeholder,
    autocomplete: "off",
    spellcheck: false,
    dir: "auto",
    enterKeyHint: "next",
    role: "combobox",
    "aria-label": label,
    "aria-autocomplete": "list",
    "aria-expanded": "false",
    "aria-controls": id,
    on: {
      input: () => offer(),
      blur: () => {
        close();
        settle();
      },
      keydown: (event) => {
        if (!pick(event)) key(event);
      },
    },
  });
  // of several names, the one being typed
  const cut = () => {
    const at = input.value.lastIndexOf(" + ");
    return at < 0 ? ["", input.value] : [input.value.slice(0, at + 3), input.value.slice(at + 3)];
  };
  const close = () => {
    list.hidden = true;
    chosen = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const settle = () => {
    if (input.value === before) return;
    before = input.value;
    commit(input.value);
  };
  const take = (name) => {
    input.value = cut()[0] + name;
    close();
  };
  const offer = () => {
    const typed = Names.clean(cut()[1]).toLowerCase(),
      known = [...new Set([...Names.used().keys(), ...Names.facts.parts])];
    const begins = (name) => (name.toLowerCase().startsWith(typed) ? 0 : 1);
    const found = typed
      ? known
          .filter((name) => name.toLowerCase().includes(typed))
          .sort((a, b) => begins(a) - begins(b))
          .slice(0, SUGGESTED)
      : [];
    const given = found.length;
    found.push(
      ...hints().filter((name) => !found.includes(name) && name.toLowerCase().includes(typed)),
    );
    close();
    if (!found.length || (found.length === 1 && found[0] === cut()[1])) return;
    list.replaceChildren(
      ...found.map((name, n) =>
        h(
          "li",
          {
            id: `${id}-${n}`,
            role: "option",
            "aria-selected": "false",
            suggested: name,
            on: {
              // the field keeps the focus
              pointerdown: (event) => event.preventDefault(),
              click: () => {
                take(name);
                input.focus();
              },
            },
          },
          h("bdi", {}, name),
          n < given ? null : h("span.quiet", {}, " looks like it to the network"),
        ),
      ),
    );
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
  };
  const choose = (by) => {
    const count = list.children.length;
    chosen = chosen < 0 && by < 0 ? count - 1 : (chosen + by + count + 1) % (count + 1);
    if (chosen === count) chosen = -1; // back to what is typed
    [...list.children].forEach((one, n) => one.setAttribute("aria-selected", String(n === chosen)));
    if (chosen < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `${id}-${chosen}`);
  };
  // Whether the list of suggestions took the key.
  const pick = (event) => {
    if (list.hidden || event.altKey || event.ctrlKey || event.metaKey) return false;
    if (event.key === "ArrowDown" || event.key === "ArrowUp")
      choose(event.key === "ArrowDown" ? 1 : -1);
    else if (event.key === "Escape") close();
    else if (event.key === "Enter" && chosen >= 0) {
      take(list.children[chosen].suggested);
      return false; // and on, as with any other name
    } else return false;
    event.preventDefault();
    return true;
  };
  return {
    input,
    element: h("span.field", {}, input, list),
    settle,
    dirty: () => input.value !== before,
    // Show another name; what is being typed stays.
    show: (text) => {
      if (input.value !== before && document.activeElement === input) return;
      input.value = before = text;
    },
    reset: () => {
      input.value = before;
    },
  };
};
