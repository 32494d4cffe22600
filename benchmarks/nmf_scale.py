"""NMF from the store: time per image from 1 000 to 100 000 images, and memory under a budget.

    python benchmarks/nmf_scale.py [--photographs FOLDER --squeezenet WEIGHTS] [--large 10]

`images`: sets of more and more images of 196 rows (14 x 14) from a warm page cache, k = 5: kept in
memory after the first reading, and streamed from disk in every pass. The time includes reading,
survey, warm start, passes and the coefficients.

`memory`: `dff factorize --memory 1GiB` in a process of its own on a store of `--large` GiB on disk;
peak RSS as the kernel counts it, interpreter and libraries included.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np

from benchmarks.common import report, run_dff, seconds
from benchmarks.nmf import planted_rows
from benchmarks.store import photographed_rows
from pipeline.init import write_params
from stages.algorithms.nmf import Sweep, factorize
from stages.algorithms.rows import ResidentRows, RowBlocks
from store import Artifact, RaggedWriter, create_artifact, open_artifact
from store.artifact import layer_key

CELLS = 14 * 14


def make_store(folder: Path, rows: np.ndarray, images: int, grid: tuple[int, int]) -> Artifact:
    """Activations of so many images, made of the rows over and over, each time in other places."""
    group = create_artifact(
        folder,
        stage="extract",
        fingerprint="0" * 64,
        layers=["layer"],
        images=[f"{i:06d}.jpg" for i in range(images)],
        sets={"all": np.arange(images)},
        backbone="none",
        weights="none",
    )
    maps = group.require_group(f"{layer_key('layer')}/maps")
    grids = np.full((images, 2), grid)
    writer = RaggedWriter(maps, grids, np.arange(images), rows.shape[1], np.float32, narrow=True)
    for start, part in _endless(rows, images * grid[0] * grid[1]):
        writer.append(start, part)
    writer.close()
    return open_artifact(folder)


def _endless(rows: np.ndarray, total: int) -> Iterator[tuple[int, np.ndarray]]:
    rng, at = np.random.default_rng(0), 0
    while at < total:
        first = int(rng.integers(len(rows) - 16384))
        part = rows[first : first + min(16384, total - at)]
        yield at, part
        at += len(part)


def factorized(rows: RowBlocks) -> Sweep:
    sweep = Sweep(rows, [5], [0])
    while not sweep.done:
        sweep.step()
    sweep.finish(lambda start, block: None)
    return sweep


def by_images(home: Path, rows: np.ndarray, counts: list[int], runs: int) -> list[dict[str, Any]]:
    table = []
    for count in counts:
        artifact = make_store(home / f"{count}.zarr", rows, count, (14, 14))
        stored = artifact.rows("all", "layer").compact()
        ways: dict[str, Callable[[], RowBlocks]] = {
            "kept": lambda stored=stored: ResidentRows.of(stored),
            "streamed": lambda stored=stored: stored,
        }
        for way, source in ways.items():
            list_of: list[float] = []
            for _ in range(runs + 1):  # the first one warms the page cache
                list_of.append(seconds(lambda source=source: factorized(source())))
            times = list_of[1:]
            median = statistics.median(times)
            table.append(
                {
                    "images": count,
                    "rows": count * CELLS,
                    "way": way,
                    "passes": factorized(source()).passes,
                    "seconds": median,
                    "ms per image": 1000 * median / count,
                    "all": times,
                }
            )
            print(table[-1], file=sys.stderr, flush=True)
    return table


def in_budget(home: Path, rows: np.ndarray, gib: float) -> list[dict[str, Any]]:
    project = home / "project"
    project.mkdir()
    (home / "photographs").mkdir()
    write_params(project, str(home / "photographs"), None)
    folder = project / "artifacts/activations.zarr"
    folder.parent.mkdir()
    probe = make_store(home / "probe.zarr", rows, 32, (56, 56))
    per_image = probe.ragged("layer").nbytes_stored / 32
    images = int(gib * 2**30 / per_image)
    start = time.perf_counter()
    ragged = make_store(folder, rows, images, (56, 56)).ragged("layer")
    print(f"written in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    table = []
    for ks in ("[5]", "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"):
        params = project / "params.yaml"
        text = params.read_text().splitlines()
        at = next(i for i, line in enumerate(text) if line.startswith("  k:"))
        text[at] = f"  k: {ks}"
        params.write_text("\n".join(text) + "\n")
        used = run_dff(project, "factorize", "--memory", "1GiB")
        table.append(
            {
                "k": ks,
                "rows": int(ragged.offsets[-1]),
                "store, GiB": ragged.nbytes_stored / 2**30,
                "as CSR, GiB": 8 * ragged.density * ragged.values.size / 2**30,
                "--memory, MiB": 1024,
                "peak RSS, MiB": used["peak_mib"],
                "seconds": used["seconds"],
            }
        )
        print(table[-1], file=sys.stderr, flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--squeezenet", default="", help="weights of squeezenet1_1")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--large", type=float, default=10, help="GiB on disk; 0: leave it out")
    parser.add_argument("--images", type=int, nargs="*", default=[1000, 6000, 20_000, 100_000])
    chosen = parser.parse_args()
    if chosen.photographs:
        rows = photographed_rows(chosen.photographs, chosen.squeezenet, 2000)
    else:
        rows = planted_rows(169 * 2000, 0.064)
    factorize(np.ones((99, 9), np.float32), 2)  # compiled once and for all
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        if chosen.images:
            table = by_images(home, rows, chosen.images, chosen.runs)
            report("nmf_images", "NMF from the store, k = 5", table, runs=chosen.runs)
        if chosen.large:
            title = f"dff factorize --memory 1GiB on a store of {chosen.large:g} GiB"
            report("nmf_memory", title, in_budget(home, rows, chosen.large))


if __name__ == "__main__":
    main()
