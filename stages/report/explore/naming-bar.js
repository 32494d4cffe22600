// Above the rows where names are given: how far one is, names by digit, undo, merging, the file.
"use strict";

class NamingBar {
  constructor(view) {
    this.view = view;
    const button = (title, click, label) =>
      h("button", { type: "button", "aria-label": label || null, on: { click } }, title);
    this.progress = h("progress", { "aria-label": "Named" });
    this.count = h("b", {});
    this.ks = h("span.naming-ks", {});
    this.undone = button("undo", () => view.undo());
    this.redone = button("redo", () => view.undo(true));
    this.open = h("input", {
      type: "checkbox",
      on: { change: () => view.filter(this.open.checked) },
    });
    this.legend = h("div.legend", { role: "group", "aria-label": "Names by digit" });
    this.several = nameField({
      label: "One name for all that are marked",
      value: "",
      placeholder: "one name for them",
      commit: () => {},
      key: (event) => {
        if (event.key === "Enter") this.finish();
        else if (event.key === "Escape") view.marks[0]?.focus(false);
        else return;
        event.preventDefault();
      },
    });
    this.many = h("span", {});
    this.merge = h(
      "div.naming-merge",
      { hidden: true, role: "group", "aria-label": "Marked factors" },
      this.many,
      this.several.element,
      button("name them", () => this.finish()),
      button("unmark", () => {
        for (const row of view.marks) row.mark.checked = false;
        this.show();
      }),
      h("span.quiet", {}, "Factors of one name are one concept: their masks together."),
    );
    this.file = h("input.visually-hidden", {
      type: "file",
      accept: ".yaml,.yml,.before",
      tabIndex: -1,
      "aria-label": "A labels.yaml",
      on: {
        change: () => {
          const [file] = this.file.files;
          this.file.value = "";
          if (file) this.read(file);
        },
      },
    });
    this.said = h("p.note.naming-said", { role: "status", hidden: true });
    this.notes = h("div", {});
    this.element = h(
      "div.naming-top",
      {},
      this.notes,
      h(
        "section.controls.naming-bar",
        { "aria-label": "Controls" },
        h("span.naming-progress", {}, this.progress, this.count),
        this.ks,
        h("label", {}, this.open, h("span", {}, " only those without a name")),
        this.undone,
        this.redone,
        button("Save labels.yaml", () => this.save()),
        button("Open a file…", () => this.file.click()),
        this.file,
        this.legend,
        this.merge,
      ),
      this.said,
    );
    this.drop = (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      if (event.type === "drop" && event.dataTransfer.files.length)
        this.read(event.dataTransfer.files[0]);
    };
    this.leave = (event) => {
      // the browser keeps nothing: what is typed is nowhere else
      if (!Names.kept && Names.typed.size) event.preventDefault();
    };
    this.hide = () => view.current?.field.settle();
    addEventListener("dragover", this.drop);
    addEventListener("drop", this.drop);
    addEventListener("beforeunload", this.leave);
    addEventListener("pagehide", this.hide);
  }

  close() {
    removeEventListener("dragover", this.drop);
    removeEventListener("drop", this.drop);
    removeEventListener("beforeunload", this.leave);
    removeEventListener("pagehide", this.hide);
  }

  tell(...what) {
    this.said.hidden = !what.length;
    this.said.replaceChildren(...what);
  }

  show() {
    const { view } = this,
      [named, all] = view.counted;
    this.progress.max = all;
    this.progress.value = named;
    this.count.textContent = `${named} of ${all} named`;
    this.undone.disabled = !Names.done.length;
    this.redone.disabled = !Names.undone.length;
    this.ks.replaceChildren(...this.choices());
    const used = Names.used();
    this.legend.replaceChildren(
      ...view.slots.map((name, n) =>
        h(
          "button.small",
          {
            type: "button",
            on: {
              // the row stays where the focus is
              pointerdown: (event) => event.preventDefault(),
              mousedown: (event) => event.preventDefault(),
              click: () => view.give(n, { stay: true }),
            },
          },
          h("kbd", {}, String(n + 1)),
          " ",
          h("bdi", {}, name),
          h("span.quiet", {}, ` × ${used.get(name) || 0}`),
        ),
      ),
    );
    const marks = view.marks.length;
    this.merge.hidden = !marks;
    this.many.textContent = `${marks} marked`;
    this.notes.replaceChildren(...this.warnings());
  }

  // Every k, with how many of its factors have a name.
  choices() {
    const { ks, sets } = App.run,
      { view } = this,
      { state } = view;
    if (view.whole) {
      const select = h(
        "select",
        {
          "aria-label": "k",
          on: { change: () => App.go({ sort: select.value }) },
        },
        h("option", { value: "order", selected: !/^k/.test(state.sort) }, "suggested"),
        ks.map((k) => h("option", { value: `k${k}`, selected: state.sort === `k${k}` }, String(k))),
      );
      return [h("label", {}, h("span", {}, "k "), select)];
    }
    const links = ks.map((k) =>
      h(
        "a.chip",
        {
          href: App.link({ view: "names", k }),
          "aria-current": k === state.k ? "page" : null,
        },
        `k = ${k}: ${Names.count(state.set, k)} of ${k}`,
      ),
    );
    return sets.length > 1 ? [...links, h("a.chip", { href: "#/names" }, "all sets")] : links;
  }

  warnings() {
    const found = [],
      button = (title, click) => h("button.small", { type: "button", on: { click } }, title);
    const note = (text, ...more) => found.push(h("p.note", {}, text, " ", more));
    if (!Names.kept)
      note("This browser keeps nothing for this page: save labels.yaml before you close it.");
    const disputed = Names.disputed();
    if (disputed.length) {
      const few = disputed.slice(0, 3).map((place) => {
        const [rank, k, j] = Names.where(place),
          text = (names) => Names.text(names) || "no name";
        return `${App.run.sets[rank].name}, k = ${k}, factor ${j}: here ${text(Names.of(place))}, there ${text(Names.given(place))}`;
      });
      note(
        `labels.yaml has other names by now for ${disputed.length} of the factors that were named here: ${few.join("; ")}${disputed.length > 3 ? "; …" : ""}.`,
        button("Keep mine", () => Names.settle(true)),
        " ",
        button("Take those of labels.yaml", () => Names.settle(false)),
      );
    }
    for (const one of Names.older) {
      const count = one.kept.groups.reduce(
        (sum, { now }) => sum + now.filter((names) => names.length).length,
        0,
      );
      note(
        `This report had other factors, and ${count} of them had names here that are in no file.`,
        button("Save these as labels.yaml", () => {
          LabelsFile.save(LabelsFile.ofOlder(one));
          this.tell("Saved. `dff label --from FILE` finds the factors again.");
        }),
        " ",
        button("Forget them", () => {
          Names.forget();
          this.show();
        }),
      );
    }
    for (const line of Names.facts.notes) found.push(h("p.quiet", {}, line));
    return found;
  }

  // The field for a name of all that are marked.
  unite() {
    if (this.view.marks.length) this.several.input.focus();
    else this.tell("Mark some rows first: x, or the box before each.");
  }

  finish() {
    const first = this.view.marks[0];
    this.view.unite(Names.parse(this.several.input.value));
    this.several.input.value = "";
    this.several.settle();
    first?.focus(false);
  }

  async save() {
    this.view.current?.field.settle();
    try {
      LabelsFile.save(await LabelsFile.ofRun());
      this.tell(
        "Saved. In the project, ",
        h("code", {}, "dff label --from PATH/labels.yaml"),
        " checks the file and puts its names in; ",
        h("code", {}, "dff run"),
        " then shows them everywhere.",
      );
    } catch (error) {
      this.tell(String(error.message || error));
    }
  }

  async read(file) {
    try {
      if (file.size > 5e7) throw new Error("too large for a labels.yaml");
      const { pairs, notes } = await LabelsFile.read(await file.text());
      const given = pairs.filter(([, names]) => names.length).length,
        replaced = pairs.filter(
          ([place, names]) => Names.of(place).length && !Names.same(Names.of(place), names),
        ).length;
      const changed = Names.assign(pairs);
      this.view.told(`${changed} names taken`);
      this.tell(
        `${file.name}: ${given} names, of which ${changed} are new here${replaced ? `, ${replaced} in the place of others` : ""}. Undo takes them back. `,
        notes.join("; "),
      );
    } catch (error) {
      this.tell(`${file.name}: ${error.message || error}. Nothing was changed.`);
    }
  }
}
