"""Semi-NMF: the start from cluster means against the best of many random rows, and Ding's updates.

Claim: factors that start from cluster means are the same in every draw of the data and nearer to
what was planted than those of twelve random starts, at the same loss. Prints a table, and writes
benchmarks/results/semi_nmf.json.
"""

import sys
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import report
from stages.algorithms.nmf import factorize
from stages.algorithms.nmf.choice import matched, mean_cosine
from stages.algorithms.nmf.stack import unit_rows

Matrix = NDArray[np.float64]
K, DRAWS, STARTS = 3, 4, 12


def drawn(seed: int, W: Matrix) -> Matrix:
    """Rows of amounts that are zero half of the time, of directions W, and noise."""
    rng = np.random.default_rng(seed)
    H = np.maximum(rng.standard_normal((300, len(W))), 0)
    return H @ W + 0.3 * rng.standard_normal((300, W.shape[1]))


def ours(A: Matrix) -> tuple[float, Matrix]:
    f = factorize(A, K, nonneg="H")
    return f.loss[-1] / f.norm, f.factors.astype(float)


def best_of_random(A: Matrix) -> tuple[float, Matrix]:
    runs = [factorize(A, K, seed, nonneg="H", init="random") for seed in range(STARTS)]
    f = min(runs, key=lambda run: float(run.loss[-1]))
    return f.loss[-1] / f.norm, f.factors.astype(float)


def ding(A: Matrix, updates: int = 3000) -> tuple[float, Matrix]:
    """Ding, Li & Jordan's own updates, from random amounts."""
    H = np.random.default_rng(0).random((len(A), K)) + 0.2
    for _ in range(updates):
        W = np.linalg.pinv(H.T @ H) @ H.T @ A
        P, G = A @ W.T, W @ W.T
        up, down = ((abs(x) + sign * x) / 2 for x, sign in ((P, 1), (P, -1)))
        rise, fall = ((abs(G) + sign * G) / 2 for sign in (1, -1))
        H = H * np.sqrt((up + H @ fall) / np.maximum(down + H @ rise, 1e-300))
    W = np.linalg.pinv(H.T @ H) @ H.T @ A
    return float(np.square(A - H @ W).sum() / np.square(A).sum()), unit_rows(W)


WAYS: dict[str, Callable[[Matrix], tuple[float, Matrix]]] = {
    "cluster means (ours)": ours,
    f"best of {STARTS} random": best_of_random,
    "Ding's updates": ding,
}


def main() -> None:
    directions = np.random.default_rng(99).standard_normal((K, 24))
    planted = unit_rows(directions)
    rows = []
    for name, way in WAYS.items():
        runs = [way(drawn(seed, directions)) for seed in range(DRAWS)]
        Ws = [W for _, W in runs]
        true = [matched(planted, unit_rows(W))[1].mean() for W in Ws]
        rows.append(
            {
                "start": name,
                "loss": round(float(np.median([loss for loss, _ in runs])), 5),
                "cosine between draws": round(mean_cosine(Ws), 3),
                "cosine with planted": round(float(np.mean(true)), 3),
            }
        )
    report("semi_nmf", f"Semi-NMF, {DRAWS} draws of planted rows", rows, draws=DRAWS, k=K)


if __name__ == "__main__":
    main()
