// Axes of the map of images: strengths, areas, and the directions in which strengths vary most.
"use strict";

// Eigenvectors of a symmetric matrix (rows of numbers), largest eigenvalue first: Jacobi's rotations.
const eigenvectors = (matrix) => {
  const n = matrix.length,
    a = matrix.map((line) => [...line]);
  const v = a.map((_, i) => a.map((_, j) => (i === j ? 1 : 0)));
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        off += a[p][q] * a[p][q];
        if (Math.abs(a[p][q]) < 1e-15) continue;
        const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const c = 1 / Math.hypot(t, 1),
          s = t * c;
        for (let i = 0; i < n; i++) {
          const [x, y] = [a[i][p], a[i][q]];
          a[i][p] = c * x - s * y;
          a[i][q] = s * x + c * y;
        }
        for (let i = 0; i < n; i++) {
          const [x, y] = [a[p][i], a[q][i]];
          a[p][i] = c * x - s * y;
          a[q][i] = s * x + c * y;
          const [u, w] = [v[i][p], v[i][q]];
          v[i][p] = c * u - s * w;
          v[i][q] = s * u + c * w;
        }
      }
    if (off < 1e-18) break;
  }
  const order = a.map((_, i) => i).sort((i, j) => a[j][j] - a[i][i]);
  return order.map((j) => v.map((line) => line[j]));
};

// Where every image lies along an axis, and what its two ends say.
class Axes {
  constructor(of) {
    this.of = of;
    const { k } = of,
      n = of.set.count;
    this.strengths = Float32Array.from({ length: n * k }, (_, at) => of.stats.means[at] / 65535);
    this.mean = of.factors.map((_, j) => meanOf(of, "means", j));
    const covariance = this.mean.map((a, p) =>
      this.mean.map((b, q) => {
        let sum = 0;
        for (let i = 0; i < n; i++)
          sum += (this.strengths[i * k + p] - a) * (this.strengths[i * k + q] - b);
        return sum / n;
      }),
    );
    this.directions = eigenvectors(covariance).slice(0, 2);
  }

  // Names of axes, in the order in which they are offered.
  get names() {
    const spread =
      this.of.k > 2
        ? [
            ["a", "most variation"],
            ["b", "second most variation"],
          ]
        : [];
    return [
      ...spread,
      ...this.of.factors.map((factor) => [`f${factor.number}`, `strength of ${factor.title}`]),
      ...this.of.factors.map((factor) => [`m${factor.number}`, `refined mask of ${factor.title}`]),
    ];
  }

  get usual() {
    if (this.of.k > 2) return ["a", "b"];
    return this.of.k === 2 ? ["f0", "f1"] : ["f0", "m0"];
  }

  values(name) {
    const { of, strengths } = this,
      { k } = of,
      j = Number(name.slice(1));
    const direction = { a: this.directions[0], b: this.directions[1] }[name];
    return Float32Array.from({ length: of.set.count }, (_, i) => {
      if (!direction) return of.stat(name[0] === "f" ? "means" : "refined", i, j);
      let sum = 0;
      for (let c = 0; c < k; c++) sum += direction[c] * (strengths[i * k + c] - this.mean[c]);
      return sum;
    });
  }

  // Which concepts an axis goes from and to.
  ends(name) {
    const direction = { a: this.directions[0], b: this.directions[1] }[name];
    if (!direction) {
      const factor = this.of.factors[Number(name.slice(1))];
      return ["less", `more ${factor.title}`];
    }
    const end = (sign) => {
      let most = 0;
      direction.forEach((value, j) => {
        if (sign * value > sign * direction[most]) most = j;
      });
      return sign * direction[most] > 0.2 ? `more ${this.of.factors[most].title}` : "less of all";
    };
    return [end(-1), end(1)];
  }

  // How far each image is from its fifth nearest neighbour by strengths: large for oddities. Of very
  // many images, neighbours are looked for among 2 000.
  oddness() {
    if (this.odd) return this.odd;
    const { count } = this.of.set,
      { k } = this.of,
      { strengths } = this;
    const every = Math.ceil(count / 2000),
      kept = Math.min(5, Math.max(1, count - 1));
    this.odd = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      const near = new Float32Array(kept).fill(Infinity);
      for (let other = 0; other < count; other += every) {
        if (other === i) continue;
        let square = 0;
        for (let j = 0; j < k; j++)
          square += (strengths[i * k + j] - strengths[other * k + j]) ** 2;
        if (square < near[kept - 1]) {
          let at = kept - 1;
          for (; at > 0 && near[at - 1] > square; at--) near[at] = near[at - 1];
          near[at] = square;
        }
      }
      const far = near.findLast((value) => value < Infinity);
      this.odd[i] = far === undefined ? 0 : Math.sqrt(far);
    }
    return this.odd;
  }
}
