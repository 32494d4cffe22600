"""Dense features of any sign: how the store holds them, and how fast passes read them.

    python benchmarks/dense_read.py [--images 400]

Rows are drawn: 14 x 14 tokens an image with 384 channels, all non-zero, as of a ViT-S/16. Rates are
gigabytes of float16 a second, medians of rounds in which all cases take their turn: of one reading
of all blocks from a warm page cache, of one pass (k = 5, semi-NMF) over blocks that are in memory,
and of copies of the same bytes, float16 to float16 and, as a pass needs them, float16 to float32.
Seconds are of the wall clock; on one thread those of its processor, which others do not lengthen.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
import torch
import zarr

from benchmarks.common import report
from stages.algorithms.nmf.cpu import CpuEngine
from stages.algorithms.nmf.stack import Rule, Stack
from stages.algorithms.rows import ResidentRows
from store import Ragged, RaggedWriter

CELLS, CHANNELS, K, ROUNDS = 196, 384, 5, 9
PIECE = 8192  # rows that a thread copies at once


def stored(folder: Path, images: int) -> Ragged:
    """Drawn tokens in the store."""
    group = zarr.open_group(folder, mode="w")
    grids = np.full((images, 2), 14)
    writer = RaggedWriter(group, grids, np.arange(images), CHANNELS, np.float32, narrow=True)
    rng = np.random.default_rng(0)
    for image in range(images):
        writer.append(image * CELLS, rng.standard_normal((CELLS, CHANNELS), np.float32))
    writer.close()
    return Ragged.open(group)


def copying(source: torch.Tensor, dtype: torch.dtype, threads: int) -> Callable[[], None]:
    """A copy of all rows into memory that is there."""
    target = torch.empty(source.shape, dtype=dtype)

    def piece(start: int) -> None:
        target[start : start + PIECE].copy_(source[start : start + PIECE])

    def all_pieces() -> None:
        starts = range(0, len(source), PIECE)
        if threads == 1:
            for start in starts:
                piece(start)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(piece, starts))

    return all_pieces


def timed(cases: dict[tuple[str, int], Callable[[], Any]]) -> dict[tuple[str, int], list[float]]:
    """Seconds of every case, in turn, the first round left out."""
    seconds = defaultdict(list)
    for turn in range(ROUNDS + 1):
        for case, work in cases.items():
            clock = time.process_time if case[1] == 1 else time.perf_counter
            start = clock()
            work()
            if turn:
                seconds[case].append(clock() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    images = parser.parse_args().images
    torch.set_num_threads(1)  # threads are ours
    with tempfile.TemporaryDirectory() as folder:
        ragged = stored(Path(folder), images)
        rows = ragged.select(range(images)).compact()
        resident = ResidentRows.of(rows)
        wide = ResidentRows.of(ragged.select(range(images)))
        half = torch.from_numpy(np.concatenate(resident.kept))
        W = np.random.default_rng(1).standard_normal((K, CHANNELS))
        stack = Stack([W / np.linalg.norm(W, axis=1, keepdims=True)], np.dtype(np.float32))
        cases: dict[tuple[str, int], Callable[[], Any]] = {}
        for threads in (1, 2):
            engine, reader = CpuEngine(threads), rows.reading(threads)
            cases |= {
                ("copy, float16", threads): copying(half, torch.float16, threads),
                ("copy, float16 to float32", threads): copying(half, torch.float32, threads),
                ("store, all blocks", threads): lambda reader=reader: [0 for _ in reader.blocks()],
                ("pass, resident float16", threads): lambda engine=engine: engine.run_pass(
                    resident, stack, Rule()
                ),
                ("pass, resident float32", threads): lambda engine=engine: engine.run_pass(
                    wide, stack, Rule()
                ),
            }
        seconds = timed(cases)
        raw, kept = 2 * CHANNELS, ragged.nbytes_stored / rows.shape[0]
    median = {case: statistics.median(found) for case, found in seconds.items()}
    table = []
    for (name, threads), found in median.items():
        rate = rows.shape[0] * raw / 1e9 / found
        row: dict[str, Any] = {"case": name, "threads": threads, "GB/s of float16": rate}
        for copy in ("float16", "float16 to float32"):
            row[f"% of a copy, {copy}"] = 100 * median[f"copy, {copy}", threads] / found
        table.append(row)
    title = f"Dense rows: {kept:.0f} bytes each in the store, {raw} as float16"
    report("dense_read", title, table, images=images, channels=CHANNELS, k=K, bytes_a_row=kept)


if __name__ == "__main__":
    main()
