// labels.yaml: written so that every reader of YAML reads the same names, and read again.
"use strict";

const LabelsFile = {};
const LABELS_KEYS = ["layer", "seed", "factors", "seen", "sets", "directions", "before"];
const LABELS_HEADING = `# Names of factors, strongest first, by image set and k: any words; a list is a union, null a factor
# without a name. Check this and put it into the project: dff label --from FILE. Leave the other lines
# as they are: by them names find their factors again when these change.
`;

// Text in double quotes, which means the same to every reader; what is no letter, mark, digit,
// punctuation, symbol or space, half a character or U+2028 say, is written as its number.
LabelsFile.quoted = (text) => {
  const plain = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u;
  const hex = (c) => {
    const code = c.codePointAt(0),
      [letter, digits] = code < 256 ? ["x", 2] : code < 65536 ? ["u", 4] : ["U", 8];
    return `\\${letter}${code.toString(16).toUpperCase().padStart(digits, "0")}`;
  };
  const told = [...text].map((c) =>
    c === '"' || c === "\\" ? `\\${c}` : plain.test(c) ? c : hex(c),
  );
  return `"${told.join("")}"`;
};

// The text of a file. Sets, directions and what the names were: lists of [set, { k: ... }].
LabelsFile.text = ({ layer, seed, factors, seen, sets, directions, before }) => {
  const { quoted } = LabelsFile;
  const entry = (names) =>
    names.length > 1
      ? `[${names.map(quoted).join(", ")}]`
      : names.length
        ? quoted(names[0])
        : "null";
  const names = (by_factor) => `[${by_factor.map(entry).join(", ")}]`;
  const lines = [`layer: ${quoted(layer)}`, `seed: ${seed}`, `factors: ${quoted(factors)}`];
  const add = (key, by_set, written) => {
    if (!by_set.length) return;
    lines.push(`${key}:`);
    for (const [set, by_k] of by_set) {
      lines.push(`  ${quoted(set)}:`);
      for (const [k, value] of Object.entries(by_k)) lines.push(`    ${k}: ${written(value)}`);
    }
  };
  if (seen.length) {
    lines.push("seen:");
    for (const [set, images] of seen)
      lines.push(`  ${quoted(set)}: [${images.map(quoted).join(", ")}]`);
  }
  add("sets", sets, names);
  add("directions", directions, quoted);
  add("before", before, names);
  return `${LABELS_HEADING}${lines.join("\n")}\n`;
};

// The file of this run: a place for every factor of the layer that is named.
LabelsFile.ofRun = async () => {
  const { sets, ks } = App.run,
    { layer, seed, factors, seen } = Names.facts;
  const directions = [];
  for (const [rank, set] of sets.entries())
    directions.push([set.name, await App.run.load(`${DFF.folder(rank)}/names`)]);
  const of = (from) =>
    sets.map(({ name }, rank) => [
      name,
      Object.fromEntries(ks.map((k) => [k, Names.list(rank, k, from)])),
    ]);
  return LabelsFile.text({
    layer,
    seed,
    factors,
    seen: sets.map(({ name }, rank) => [name, seen[rank]]).filter(([, images]) => images.length),
    sets: of(Names.of),
    directions,
    before: of(Names.was),
  });
};

// A file of what was typed for factors that this page had earlier.
LabelsFile.ofOlder = ({ kept }) => {
  const by_set = (what) => {
    const found = new Map();
    for (const group of kept.groups) {
      if (group[what] === null) continue;
      if (!found.has(group.set)) found.set(group.set, {});
      found.get(group.set)[group.k] = group[what];
    }
    return [...found];
  };
  const { layer, seed, factors } = kept,
    [sets, directions, before] = ["now", "directions", "was"].map(by_set);
  return LabelsFile.text({ layer, seed, factors, seen: [], sets, directions, before });
};

LabelsFile.save = (text) => {
  const address = URL.createObjectURL(new Blob([text], { type: "application/yaml" }));
  h("a", { href: address, download: "labels.yaml" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
};

// The reader of YAML: loaded when a file is opened.
LabelsFile.yaml = () => {
  LabelsFile.loading =
    LabelsFile.loading ||
    new Promise((resolve, reject) => {
      const script = h("script", { src: "explore/vendor/js-yaml.min.js" });
      script.onload = () => {
        const { FAILSAFE_SCHEMA, types } = globalThis.jsyaml;
        // a name is what is written, whatever YAML would take it for; but null is none
        const schema = FAILSAFE_SCHEMA.extend({ implicit: [types.null] });
        resolve((text) => globalThis.jsyaml.load(text, { schema }));
      };
      script.onerror = () => {
        LabelsFile.loading = null;
        reject(new Error(`${script.getAttribute("src")} cannot be read: is the folder complete?`));
      };
      document.head.append(script);
    });
  return LabelsFile.loading;
};

const isMapping = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// Names of one factor, or an error that says where.
const namesOf = (value, where) => {
  const several = Array.isArray(value) ? value : [value];
  if (several.some((one) => one !== null && typeof one !== "string"))
    throw new Error(`${where}: neither a name, nor a list of names, nor null`);
  return [...new Set(several.filter((one) => one !== null).map(Names.clean))].filter((one) => one);
};

const bySet = (content, key) => {
  const found = new Map();
  if (content[key] === null || content[key] === undefined) return found;
  if (!isMapping(content[key])) throw new Error(`${key}: must have an entry for each image set`);
  for (const [set, by_k] of Object.entries(content[key])) {
    if (!isMapping(by_k)) throw new Error(`${key}.${set}: must have a list of names for each k`);
    for (const [written, factors] of Object.entries(by_k)) {
      const where = `${key}.${set}.${written}`,
        k = Number(written);
      if (!/^\d+$/.test(written)) throw new Error(`${where}: ${written} is not a whole number`);
      if (!Array.isArray(factors) || factors.length !== k)
        throw new Error(`${where}: must be a list of ${k} names, one per factor (null for none)`);
      if (!found.has(set)) found.set(set, new Map());
      found.get(set).set(
        k,
        factors.map((one) => namesOf(one, where)),
      );
    }
  }
  return found;
};

// Names that are a few letters apart, for one that is not there.
LabelsFile.nearest = (name, known) => {
  // letters that are put in, left out, changed or swapped
  const apart = (a, b) => {
    const rows = [Array.from({ length: b.length + 1 }, (_, n) => n)];
    for (let i = 1; i <= a.length; i++) {
      rows.push([i]);
      for (let n = 1; n <= b.length; n++) {
        const least = Math.min(
          rows[i - 1][n] + 1,
          rows[i][n - 1] + 1,
          rows[i - 1][n - 1] + (a[i - 1] !== b[n - 1]),
        );
        const swapped = i > 1 && n > 1 && a[i - 1] === b[n - 2] && a[i - 2] === b[n - 1];
        rows[i].push(swapped ? Math.min(least, rows[i - 2][n - 2] + 1) : least);
      }
    }
    return rows[a.length][b.length];
  };
  const [near] = known
    .map((one) => [one, apart(name.slice(0, 200).toLowerCase(), one.slice(0, 200).toLowerCase())])
    .sort((a, b) => a[1] - b[1]);
  return near && near[1] <= Math.max(2, name.length / 3)
    ? `did you mean ${near[0]}?`
    : `there are ${known.slice(0, 20).join(", ")}`;
};

// What a file's text says of this run: { pairs, notes }; an error is one line.
LabelsFile.read = async (text) => {
  const load = await LabelsFile.yaml(),
    { run } = App,
    { facts } = Names;
  let content;
  try {
    content = load(text.replace(/^\ufeff/, ""));
  } catch (error) {
    const line = error.mark ? ` in line ${error.mark.line + 1}` : "";
    throw new Error(`not valid YAML${line}: ${error.reason || error.message}`);
  }
  if (!isMapping(content)) throw new Error("not a labels.yaml: it has no entry `sets`");
  for (const key of Object.keys(content))
    if (!LABELS_KEYS.includes(key))
      throw new Error(`${key}: unknown key, ${LabelsFile.nearest(key, LABELS_KEYS)}`);
  const sets = bySet(content, "sets"),
    before = bySet(content, "before"),
    said = (key) => content[key] !== null && content[key] !== undefined;
  if (!sets.size) throw new Error("names no factor: it has no entry below `sets`");
  const silent = !said("factors") && !Object.keys(content.directions || {}).length;
  if (!silent && content.factors !== facts.factors)
    throw new Error(
      "its names are of other factors than this report’s; `dff label --from FILE` finds these again",
    );
  const layer = said("layer") ? content.layer : run.layers[0];
  if (layer !== facts.layer)
    throw new Error(`its names are of layer ${layer}, those of this report of ${facts.layer}`);
  if (said("seed") && Number(content.seed) !== facts.seed)
    throw new Error(`its names are of seed ${content.seed}, those of this report of ${facts.seed}`);
  const pairs = [],
    notes = [];
  const known = new Map(run.sets.map(({ name }, rank) => [name, rank]));
  for (const [set, by_k] of sets) {
    if (!known.has(set)) {
      notes.push(`image set ${set} is not there; ${LabelsFile.nearest(set, [...known.keys()])}`);
      continue;
    }
    const rank = known.get(set);
    for (const [k, by_factor] of by_k) {
      if (!run.ks.includes(k)) {
        notes.push(`${set}: k ${k} is not there; there are ${run.ks.join(", ")}`);
        continue;
      }
      const were = before.get(set)?.get(k) || [];
      // what the file says as it was before is no change, and null no name
      by_factor.forEach((names, j) => {
        if (!Names.same(names, were[j] || [])) pairs.push([Names.place(rank, k, j), names]);
      });
    }
  }
  return { pairs, notes };
};
