// Pictures of concepts, drawn on a canvas that lies over the photograph: the same as
// stages/drawing/overlays.py paints, from coefficients instead of maps.
"use strict";

const Draw = { fine: 4096, white: [255, 255, 255] };

// Where points along an axis lie between cells: stages/algorithms/interpolation.py, `lines`.
Draw.lines = (cells, points) => {
  const below = new Int32Array(points),
    above = new Int32Array(points),
    far = new Float32Array(points);
  for (let i = 0; i < points; i++) {
    const at = Math.max((cells / points) * (i + 0.5) - 0.5, 0);
    below[i] = Math.min(Math.floor(at), cells - 1);
    above[i] = Math.min(below[i] + 1, cells - 1);
    far[i] = at - below[i];
  }
  return { below, above, far };
};

// One factor's map: shares of the set's full colour, not clipped, Float32Array [height * width].
Draw.map = (entry, j, full, width, height) => {
  const { levels, peaks } = entry,
    cells = entry.width,
    start = j * cells * entry.height;
  const x = Draw.lines(cells, width),
    y = Draw.lines(entry.height, height);
  const out = new Float32Array(width * height),
    line = new Float32Array(cells);
  const unit = full > 0 ? peaks[j] / 65535 / 255 / full : 0;
  if (!unit) return out;
  for (let row = 0; row < height; row++) {
    const a = start + y.below[row] * cells,
      b = start + y.above[row] * cells,
      far = y.far[row];
    for (let c = 0; c < cells; c++)
      line[c] = unit * (levels[a + c] * (1 - far) + levels[b + c] * far);
    const first = row * width;
    for (let i = 0; i < width; i++) {
      out[first + i] = line[x.below[i]] * (1 - x.far[i]) + line[x.above[i]] * x.far[i];
    }
  }
  return out;
};

// The value at one point, given as shares of the width and height.
Draw.at = (entry, j, full, x, y) => {
  const along = (share, cells) => Math.min(Math.max(share * cells - 0.5, 0), cells - 1);
  const u = along(x, entry.width),
    v = along(y, entry.height);
  const [a, b] = [Math.floor(u), Math.floor(v)];
  const cell = (row, column) =>
    entry.levels[
      (j * entry.height + Math.min(row, entry.height - 1)) * entry.width +
        Math.min(column, entry.width - 1)
    ];
  const top = cell(b, a) * (1 - u + a) + cell(b, a + 1) * (u - a);
  const bottom = cell(b + 1, a) * (1 - u + a) + cell(b + 1, a + 1) * (u - a);
  return full > 0
    ? (((top * (1 - v + b) + bottom * (v - b)) / 255) * (entry.peaks[j] / 65535)) / full
    : 0;
};

Draw.power = (gamma) => {
  if (Draw.gamma !== gamma) {
    Draw.gamma = gamma;
    Draw.table = Float32Array.from({ length: Draw.fine + 1 }, (_, i) => (i / Draw.fine) ** gamma);
  }
  return Draw.table;
};

// Where factors meet, the stronger one gives the larger share of the colour; the strongest gives the
// opacity.
Draw.heat = (canvas, entry, factors, opacity, run) => {
  const { width, height } = canvas,
    size = width * height;
  const power = Draw.power(run.gamma),
    fine = Draw.fine;
  const tint = new Float32Array(3 * size),
    total = new Float32Array(size),
    most = new Float32Array(size);
  for (const factor of factors) {
    const map = Draw.map(entry, factor.number, factor.full, width, height),
      [r, g, b] = factor.rgb;
    for (let p = 0; p < size; p++) {
      const heat = power[Math.round(Math.min(map[p], 1) * fine)],
        share = heat * heat;
      if (!share) continue;
      tint[3 * p] += share * r;
      tint[3 * p + 1] += share * g;
      tint[3 * p + 2] += share * b;
      total[p] += share;
      if (heat > most[p]) most[p] = heat;
    }
  }
  const context = canvas.getContext("2d"),
    image = context.createImageData(width, height);
  for (let p = 0; p < size; p++) {
    const share = total[p] || 1;
    for (let c = 0; c < 3; c++) image.data[4 * p + c] = tint[3 * p + c] / share;
    image.data[4 * p + 3] = 255 * run.opacity * opacity * most[p];
  }
  context.putImageData(image, 0, 0);
};

// Raw masks: one factor a pixel, that which is furthest above where its mask begins; 0 for none, else
// 1 + its place among the factors. `begins` is one number for all, or null: each its own.
Draw.rawLabels = (entry, factors, begins, width, height) => {
  const size = width * height,
    labels = new Uint8Array(size),
    most = new Float32Array(size);
  factors.forEach((factor, n) => {
    const from = begins === null ? factor.start : begins;
    if (!(from > 0)) return; // a concept that is absent from most of the set: no mask
    const map = Draw.map(entry, factor.number, factor.full, width, height);
    for (let p = 0; p < size; p++) {
      const level = map[p] / from;
      if (level >= 1 && level > most[p]) {
        most[p] = level;
        labels[p] = n + 1;
      }
    }
  });
  return { labels, width, height };
};

// Refined masks, which are made already. Of masks that overlap the last one is seen.
Draw.runLabels = (mask, factors) => {
  const labels = new Uint8Array(mask.width * mask.height);
  factors.forEach((factor, n) => {
    const ends = DFF.runs(mask.runs[factor.number]);
    for (let i = 1; i < ends.length; i += 2) labels.fill(n + 1, ends[i - 1], ends[i]);
  });
  return { labels, width: mask.width, height: mask.height };
};

// One colour a pixel with a line around it, and a dark one around that: seen on white and on black.
// Gives the share of the pixels that are in any mask.
Draw.labels = (canvas, { labels, width, height }, colours, opacity) => {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"),
    image = context.createImageData(width, height),
    { data } = image;
  const fill = Math.round(255 * 0.5 * opacity);
  let inside = 0;
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = 0; x < width; x++, p++) {
      const own = labels[p];
      const left = x ? labels[p - 1] : own,
        right = x + 1 < width ? labels[p + 1] : own;
      const up = y ? labels[p - width] : own,
        down = y + 1 < height ? labels[p + width] : own;
      const edge = left !== own || right !== own || up !== own || down !== own;
      if (own) {
        inside++;
        const [r, g, b] = colours[own - 1],
          q = 4 * p;
        data[q] = r;
        data[q + 1] = g;
        data[q + 2] = b;
        data[q + 3] = edge ? 255 : fill;
      } else if (edge) data[4 * p + 3] = 150;
    }
  }
  context.putImageData(image, 0, 0);
  return inside / labels.length;
};

Draw.clear = (canvas) => canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);

// Paints what the state says of some factors; gives the share of the image that is in a mask, or null.
Draw.paint = async (canvas, of, i, factors, state, width, height) => {
  const resize = () => {
    if (canvas.width !== width || canvas.height !== height)
      Object.assign(canvas, { width, height });
  };
  if (state.mode === "truth") {
    const truth = await of.set.truthOf(i);
    if (truth)
      return Draw.labels(
        canvas,
        Draw.runLabels(truth, [{ number: 0 }]),
        [Draw.white],
        state.opacity,
      );
  }
  if (state.mode === "photo" || state.mode === "truth" || !factors.length) {
    Draw.clear(canvas);
    return null;
  }
  if (state.mode === "refined") {
    const mask = of.masks.get(i) || (await of.needMask(i));
    return Draw.labels(
      canvas,
      Draw.runLabels(mask, factors),
      factors.map((factor) => factor.rgb),
      state.opacity,
    );
  }
  const entry = of.coefficients.get(i) || (await of.need(i));
  resize();
  if (state.mode === "heat") {
    Draw.heat(canvas, entry, factors, state.opacity, of.set.run);
    return null;
  }
  const found = Draw.rawLabels(entry, factors, state.begins, width, height);
  return Draw.labels(
    canvas,
    found,
    factors.map((factor) => factor.rgb),
    state.opacity,
  );
};

// More factors than colours are told apart in one picture: each on a photograph of its own, with its
// number. Gives null: their masks together are nobody's.
Draw.most = 8;
Draw.multiples = async (canvas, photo, of, i, factors, state, width, height) => {
  const { naturalWidth: w } = await photo.decode().then(() => photo);
  const columns = Math.ceil(Math.sqrt(factors.length)),
    gap = 2;
  const wide = Math.max(1, Math.floor(width / columns) - gap),
    tall = Math.max(1, Math.floor(height / columns) - gap);
  const tiles = [];
  for (const factor of factors) {
    const tile = Object.assign(document.createElement("canvas"), { width: wide, height: tall });
    await Draw.paint(tile, of, i, [factor], state, wide, tall);
    tiles.push(tile);
  }
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const size = Math.max(9, Math.min(15, Math.round(tall / 4)));
  Object.assign(context, { font: `600 ${size}px sans-serif`, textBaseline: "top" });
  tiles.forEach((tile, n) => {
    const factor = factors[n],
      x = (n % columns) * (wide + gap),
      y = Math.floor(n / columns) * (tall + gap);
    context.filter = state.mode === "heat" ? "grayscale(0.75) brightness(0.84)" : "none";
    if (w) context.drawImage(photo, x, y, wide, tall);
    context.filter = "none";
    context.drawImage(tile, x, y, wide, tall);
    const text = String(factor.number);
    context.fillStyle = factor.colour;
    context.fillRect(x, y, context.measureText(text).width + 6, size + 3);
    context.fillStyle = isLight(factor.rgb) ? "#000" : "#fff";
    context.fillText(text, x + 3, y + 2);
  });
  return null;
};

// Bars of one factor's strength over the images of a set, in order: the strongest of each stretch.
Draw.strip = (canvas, of, j, colour) => {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio)),
    height = Math.round(canvas.clientHeight * ratio);
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"),
    { count } = of.set;
  const bars = Math.max(1, Math.min(count, Math.floor(canvas.clientWidth / 3)));
  const peaks = new Float32Array(bars);
  for (let i = 0; i < count; i++) {
    const at = Math.floor((i * bars) / count);
    peaks[at] = Math.max(peaks[at], of.stat("means", i, j));
  }
  const top = Math.max(...peaks) || 1,
    each = width / bars;
  context.fillStyle = colour;
  peaks.forEach((peak, at) => {
    const tall = Math.max(ratio, (peak / top) * height);
    context.fillRect(at * each, height - tall, Math.max(ratio, each - ratio), tall);
  });
};
