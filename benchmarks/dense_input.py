"""What a notebook user waits for: a dense array, or CSR, to factors and coefficients.

    python benchmarks/dense_input.py [--photographs FOLDER --squeezenet WEIGHTS] [--threads 1]

`factorize` and scikit-learn's NMF (coordinate descent), each called once with its defaults on the
same array in memory, side by side, medians over the seeds. `times ours` is the ratio of the
medians; `above best` how far the error ``||A - HW||_F / ||A||_F`` lies above the best that either
reached in any seed, per cent, worst seed. Drawn rows of planted factors at several densities, dense
and as CSR where they are sparse, and real ones (`--photographs`).

Seconds are of the clock with all cores. On a machine that others use, `--threads 1` counts the
processor time of one thread instead, for both.
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from benchmarks.common import report
from benchmarks.nmf import csr, error, planted_rows
from benchmarks.store import CELLS, photographed_rows
from stages.algorithms.nmf import factorize
from stages.algorithms.nmf.cpu import CpuEngine
from stages.algorithms.rows import MatrixRows, as_row_blocks

SPARSE = 0.2  # share of non-zeros up to which rows are given as CSR, too
Solved = tuple[np.ndarray, np.ndarray]  # (W, H) as we name them


def scikit_learn(A: Any, k: int, seed: int) -> Solved:
    model = NMF(k, solver="cd", random_state=seed)
    H = model.fit_transform(A)
    return model.components_, H


def cases(chosen: argparse.Namespace) -> Iterator[tuple[str, np.ndarray]]:
    """(name, float32 [rows, channels]) of each array."""
    if chosen.photographs:
        images = chosen.rows // CELLS
        rows = photographed_rows(chosen.photographs, chosen.squeezenet, images)
        yield "photographs", rows.astype(np.float32)
    for density in chosen.density:
        yield f"drawn, {100 * density:g} %", planted_rows(chosen.rows, density)


def compare(A: Any, k: int, runs: int, threads: int | None) -> list[dict[str, Any]]:
    """A row for each solver."""
    rows = as_row_blocks(A)
    assert isinstance(rows, MatrixRows)
    norm = sum(CpuEngine().survey(block)[0] for block in rows.blocks())
    peers: dict[str, Callable[[int], Solved]] = {
        "ours": lambda seed: ours(A, k, seed, threads),
        "scikit-learn cd": lambda seed: scikit_learn(A, k, seed),
    }
    clock = time.thread_time if threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    errors: dict[str, list[float]] = {name: [] for name in peers}
    for seed in range(runs):
        for name, peer in peers.items():
            start = clock()
            W, H = peer(seed)
            seconds[name].append(clock() - start)
            errors[name].append(error(rows, norm, W, H))
    best = min(min(found) for found in errors.values())
    mine = statistics.median(seconds["ours"])
    return [
        {
            "solver": name,
            "seconds": statistics.median(seconds[name]),
            "times ours": statistics.median(seconds[name]) / mine,
            "above best, %": 100 * (max(errors[name]) / best - 1),
            "all": [seconds[name], errors[name]],
        }
        for name in peers
    ]


def ours(A: Any, k: int, seed: int, threads: int | None) -> Solved:
    f = factorize(A, k, seed, threads=threads)
    assert f.coefficients is not None
    return f.factors, f.coefficients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--squeezenet", default="", help="weights of squeezenet1_1")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--density", type=float, nargs="*", default=[0.08, 0.5, 1.0])
    parser.add_argument("--k", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, choices=[1])
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    table = []
    with threadpool_limits(chosen.threads):
        for name, dense in cases(chosen):
            density = np.count_nonzero(dense) / dense.size
            forms = {"dense": dense} | ({"CSR": csr(dense)} if density < SPARSE else {})
            for form, A in forms.items():
                factorize(A, 2, threads=chosen.threads)  # compiled, and the array looked at once
                for k in chosen.k:
                    for row in compare(A, k, chosen.runs, chosen.threads):
                        table.append({"rows": name, "given as": form, "k": k} | row)
                        print(table[-1], file=sys.stderr, flush=True)
    unit = "Processor seconds of one thread" if chosen.threads else "Seconds"
    title = f"{unit} of one call, {chosen.rows} x 512"
    report("dense_input", title, table, runs=chosen.runs, threads=chosen.threads)


if __name__ == "__main__":
    main()
