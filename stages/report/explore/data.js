// What the page loads: classic scripts that hand over one payload each, for a page that is opened
// from disk may load neither modules nor data. See stages/report/explore.py.
"use strict";

const DFF = { format: 1 }; // of the data: FORMAT in stages/report/explore_facts.py

// What the scripts in data/ call. The payload is left at the script itself: two runs that are shown
// side by side have payloads of the same names.
DFF.put = (key, payload) => {
  document.currentScript.arrived = { key, payload };
};

DFF.bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
DFF.words = (text) => {
  const bytes = DFF.bytes(text),
    view = new DataView(bytes.buffer);
  return Uint16Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true));
};

// What a factor is called wherever it is mentioned.
DFF.entitle = (factor) => {
  factor.title = factor.name ? `${factor.number} ${factor.name}` : `factor ${factor.number}`;
};

DFF.folder = (rank) => `set-${String(rank).padStart(3, "0")}`;
DFF.pad = (part) => String(part).padStart(3, "0");

// Runs outside and inside in turn (LEB128), as ends: [end of outside, end of inside, ...].
DFF.runs = (bytes) => {
  const ends = [];
  let at = 0,
    value = 0,
    shift = 0;
  for (const byte of bytes) {
    value |= (byte & 127) << shift;
    if (byte & 128) {
      shift += 7;
      continue;
    }
    ends.push((at += value));
    value = shift = 0;
  }
  return ends;
};

// One report folder: this one, or one that lies beside it.
class Run {
  // `base` leads to the folder, and is empty or ends with a slash.
  constructor(base = "") {
    this.base = base;
    this.asked = new Map();
    this.opened = new Map();
    this.here = new Map(); // image sets that have arrived
  }

  // Its facts and the names of its image sets.
  async open() {
    const facts = await this.load("index");
    if (facts.format !== DFF.format)
      throw new Error(
        `${this.base}data/ has format ${facts.format ?? "0"}, and this page reads ${DFF.format}: run \`dff report\` again`,
      );
    return Object.assign(this, facts);
  }

  set(rank) {
    if (!this.opened.has(rank)) {
      const opening = this.load(`${DFF.folder(rank)}/set`);
      opening.catch(() => this.opened.delete(rank));
      const made = opening.then((payload) => {
        this.here.set(rank, new ImageSet(this, rank, payload));
        if (this.arrived) this.arrived(this.here.get(rank));
        return this.here.get(rank);
      });
      this.opened.set(rank, made);
    }
    return this.opened.get(rank);
  }

  // The payload of data/KEY.js; asked for once while it comes.
  load(key) {
    if (this.asked.has(key)) return this.asked.get(key);
    const name = `${this.base}data/${key}.js`;
    const asked = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = name;
      script.onload = () => {
        script.remove();
        this.asked.delete(key); // whoever asked keeps what it made of it, not the text
        if (script.arrived && script.arrived.key === key) resolve(script.arrived.payload);
        else reject(new Error(`${name} is not of this page`));
      };
      script.onerror = () => {
        script.remove();
        this.asked.delete(key);
        reject(new Error(`${name} cannot be read: is the report's folder complete?`));
      };
      document.head.append(script);
    });
    this.asked.set(key, asked);
    return asked;
  }
}

// One image set: its images, and its factorizations by layer and k.
class ImageSet {
  constructor(run, rank, payload) {
    Object.assign(this, {
      run,
      rank,
      name: payload.name,
      images: payload.images,
      part: payload.part,
    });
    this.thumbs = payload.thumbs;
    this.annotated = payload.annotated;
    this.sides = DFF.words(payload.sizes); // height, width of each thumbnail
    this.large = payload.largeSizes ? DFF.words(payload.largeSizes) : null; // the same, if kept
    this.layers = payload.layers.map((layer, number) => ({
      name: layer.name,
      ks: layer.ks.map((facts) => new Factorization(this, number, facts)),
    }));
    this.truth = new Map();
    this.truthParts = new Map();
    this.nameless = this.images.map((name) => name.slice(name.lastIndexOf("/") + 1));
  }

  get count() {
    return this.images.length;
  }
  src(i) {
    return `${this.run.base}thumbs/${this.thumbs[i]}`;
  }
  largeSrc(i) {
    return this.large ? `${this.run.base}large/${this.thumbs[i]}` : this.src(i);
  }
  // Height and width of the largest photograph that is kept.
  largest(i) {
    return (this.large || this.sides).subarray(2 * i, 2 * i + 2);
  }
  height(i) {
    return this.sides[2 * i];
  }
  width(i) {
    return this.sides[2 * i + 1];
  }

  factorization(layer, k) {
    return this.layers[layer].ks.find((one) => one.k === k);
  }

  // The annotated object of an image, or null.
  async truthOf(i) {
    if (!this.annotated) return null;
    const part = Math.floor(i / this.part);
    if (!this.truthParts.has(part)) {
      const key = `${DFF.folder(this.rank)}/truth-${DFF.pad(part)}`;
      this.truthParts.set(
        part,
        this.run.load(key).then((found) => DFF.unpackMasks(found, this.truth)),
      );
    }
    await this.truthParts.get(part);
    return this.truth.get(i) || null;
  }
}

DFF.unpackMasks = (payload, into) => {
  const bytes = DFF.bytes(payload.runs),
    boxes = DFF.words(payload.boxes || "");
  let at = 0;
  payload.at.forEach((i, n) => {
    const [height, width] = payload.sizes[n];
    const runs = payload.lengths[n].map((length) => bytes.subarray(at, (at += length)));
    const box = boxes.subarray(n * 4 * runs.length, (n + 1) * 4 * runs.length);
    into.set(i, { height, width, runs, box });
  });
};

// One layer and k of an image set; what it is on each image comes part by part.
class Factorization {
  constructor(set, layer, facts) {
    Object.assign(this, facts, { set, layer });
    this.folder = `${DFF.folder(set.rank)}/l${layer}-k${facts.k}`;
    this.factors.forEach((factor, number) => {
      factor.number = number;
      factor.rgb = [1, 3, 5].map((at) => parseInt(factor.colour.slice(at, at + 2), 16));
      DFF.entitle(factor);
    });
    this.coefficients = new Map(); // image -> { height, width, peaks, levels }
    this.masks = new Map();
    this.parts = new Map();
  }

  async open() {
    if (this.stats) return this;
    const payload = await this.set.run.load(`${this.folder}/stats`);
    this.stats = Object.fromEntries(
      Object.entries(payload).map(([name, text]) => [name, DFF.words(text)]),
    );
    return this;
  }

  // How well refined masks agree with what is annotated; see agreed().
  async openAgreement() {
    if (!this.agreement && this.set.annotated) {
      const payload = await this.set.run.load(`${this.folder}/agreement`);
      this.agreement = DFF.words(payload.iou);
    }
    return this;
  }

  // IoU of an image's refined mask with what is annotated on it; null where nothing is.
  agreed(i, j) {
    const value = this.agreement ? this.agreement[i * this.k + j] : 65535;
    return value === 65535 ? null : value / 65534;
  }

  // Around the largest component of a refined mask that has arrived: shares of the image's sides.
  box(i, j) {
    const [top, left, bottom, right] = this.masks.get(i).box.subarray(4 * j, 4 * j + 4);
    return bottom > top ? [top, left, bottom, right].map((side) => side / 65535) : null;
  }

  // A number of an image and a factor, in [0, 1]: means (1: full colour), raw and refined areas, x, y.
  stat(name, i, j) {
    return this.stats[name][i * this.k + j] / 65535;
  }

  _once(key, use) {
    if (!this.parts.has(key)) {
      const asked = this.set.run.load(`${this.folder}/${key}`).then(use);
      asked.catch(() => this.parts.delete(key));
      this.parts.set(key, asked);
    }
    return this.parts.get(key);
  }

  _take(payload) {
    const peaks = DFF.words(payload.peaks),
      levels = DFF.bytes(payload.levels),
      k = this.k;
    let at = 0;
    payload.at.forEach((i, n) => {
      const [height, width] = payload.grids[n],
        cells = height * width;
      this.coefficients.set(i, {
        height,
        width,
        peaks: peaks.subarray(n * k, (n + 1) * k),
        levels: levels.subarray(at, (at += k * cells)),
      });
    });
  }

  tops() {
    return this._once("tops", (payload) => this._take(payload));
  }

  async need(i) {
    if (!this.coefficients.has(i)) {
      const part = Math.floor(i / this.set.part);
      await this._once(`part-${DFF.pad(part)}`, (payload) => this._take(payload));
    }
    return this.coefficients.get(i);
  }

  async needMask(i) {
    if (!this.masks.has(i)) {
      const part = Math.floor(i / this.set.part);
      await this._once(`masks-${DFF.pad(part)}`, (payload) => DFF.unpackMasks(payload, this.masks));
    }
    return this.masks.get(i);
  }
}
