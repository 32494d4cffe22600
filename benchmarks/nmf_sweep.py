"""What many factorizations together cost, and how few passes they need.

    python benchmarks/nmf_sweep.py [--photographs FOLDER --squeezenet WEIGHTS]

`together`: k = 1 to 10 with 5 seeds each (50 factorizations, 275 factors) against one with k = 5,
and, for choosing k alone, the stability of all ten over 5 runs on the row sample. From the store's
files, the page cache warm, to the coefficients, handed over block by block as `dff factorize` takes
them; in turn, several times over.

`passes`: the error of each k after 1, 2, 3 and 4 full passes, in per cent above the best known one:
the best of 8 random starts and of all our runs after 60 passes. The survey that draws the sample is
a pass of its own, and one more gives the coefficients.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np

from benchmarks.common import interleaved, report
from benchmarks.nmf import planted_rows
from benchmarks.store import ours, photographed_rows
from stages.algorithms.nmf import Sweep, factorize
from stages.algorithms.rows import ResidentRows, RowBlocks
from store import Ragged, SetRows

KS = range(1, 11)


def resident(rows: SetRows) -> RowBlocks:
    return ResidentRows.of(rows)


def together(rows: SetRows, runs: int) -> list[dict[str, Any]]:
    def run(ks: Any, seeds: int) -> None:
        sweep = Sweep(resident(rows), ks, range(seeds))
        while not sweep.done:
            sweep.step()
        sweep.finish(lambda start, block: None)

    cases = {
        "k = 5, one seed": lambda: run([5], 1),
        "k = 1..10, one seed": lambda: run(KS, 1),
        "k = 1..10, 5 seeds": lambda: run(KS, 5),
        # no passes but the survey: the sample's factors and their stability are all that is wanted
        "stability of k = 1..10": lambda: Sweep(resident(rows), KS, stability_runs=5),
    }
    timings = interleaved(cases, runs)
    single = statistics.median(timings["k = 5, one seed"])
    factors = {"k = 5, one seed": 5, "k = 1..10, one seed": 55, "k = 1..10, 5 seeds": 275}
    return [
        {
            "what": name,
            "factors": factors.get(name, "-"),
            "seconds": statistics.median(times),
            "times one": statistics.median(times) / single,
            "all": times,
        }
        for name, times in timings.items()
    ]


def passes(rows: RowBlocks, seeds: int) -> list[dict[str, Any]]:
    ran = Sweep(rows, KS, range(seeds), tol=0, max_passes=4)
    while not ran.done:
        ran.step()
    table = []
    for k in KS:
        long = Sweep(rows, [k], range(100, 108), init="random", tol=0, max_passes=60)
        warm = Sweep(rows, [k], range(seeds), tol=0, max_passes=60)
        for sweep in (long, warm):
            while not sweep.done:
                sweep.step()
        best = min(problem.loss[-1] for sweep in (long, warm) for problem in sweep.problems)
        losses = np.array([problem.loss for problem in ran.problems if problem.k == k])
        above = 100 * (np.sqrt(losses / best) - 1)  # per cent [seeds, passes]
        table.append(
            {
                "k": k,
                "best error": round(float(np.sqrt(best / ran.norm)), 5),
                **{f"after {n + 1}": round(float(above[:, n].max()), 4) for n in range(4)},
                "median after 2": round(float(np.median(above[:, 1])), 4),
            }
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--squeezenet", default="", help="weights of squeezenet1_1")
    parser.add_argument("--images", type=int, default=5439)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    if chosen.photographs:
        rows = photographed_rows(chosen.photographs, chosen.squeezenet, chosen.images)
        source = "photographs"
    else:
        rows, source = planted_rows(169 * chosen.images, 0.064), "drawn"
    factorize(np.ones((99, 9), np.float32), 2)  # compiled once and for all
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "rows.zarr"
        ours(folder, rows, "sparse")
        shape = rows.shape
        del rows
        import zarr

        ragged = Ragged.open(zarr.open_group(folder, mode="r"))
        stored = ragged.select(range(len(ragged))).compact()
        table = together(stored, chosen.runs)
        report(
            "nmf_together", f"Many factorizations in the same passes, {source}, {shape}", table,
            runs=chosen.runs,
        )  # fmt: skip
        title = f"Error above the best known, per cent, worst of seeds; {source}, {shape}"
        found = passes(resident(stored), chosen.seeds)
        report("nmf_passes", title, found, seeds=chosen.seeds)


if __name__ == "__main__":
    main()
