"""NMF on a GPU: from host memory, resident, streamed from the store, many at once, 10^8 rows.

    python -m benchmarks.gpu.nmf

`whole`: `factorize(A, 5)` of 6 000 images x 196 rows x 512 channels, from the survey to H in host
memory: A as CSR or dense in host memory, or on the device. `pass`: one pass over resident rows, and
the bytes of A that it moves a second against a copy within the device. `stream`: passes over rows
that stay in the store's files; overlapped is the slowest of reading, copying and arithmetic, each
alone, as a share of what a pass takes. `together`: k = 1..10 with five seeds against one k = 5.
`large`: 10^8 rows.
"""

import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.common import DEVICE, copy_rate, host_rate, median, report, seconds, size
from benchmarks.gpu.rows import CELLS, CHANNELS, Endless, csr, planted
from benchmarks.nmf_scale import make_store
from stages.algorithms.nmf import Sweep, factorize
from stages.algorithms.nmf.engines import make_engine
from stages.algorithms.nmf.stack import EXACT, Rule, Stack
from stages.algorithms.rows import MatrixRows, ResidentRows, RowBlocks

K = 5


def whole(forms: dict[str, Any], goals: dict[str, float]) -> list[dict[str, Any]]:
    """Whole factorizations of the same rows, given in several ways."""
    table = []
    for name, A in forms.items():
        times = seconds(lambda A=A: factorize(A, K, device=DEVICE), runs=7, warm=2)
        found = factorize(A, K, device=DEVICE)
        images = A.shape[0] / CELLS
        table.append(
            {
                "A": name,
                "ms": 1e3 * statistics.median(times),
                "ms an image": 1e3 * statistics.median(times) / images,
                "goal, ms an image": goals.get(name, "-"),
                "passes": found.passes,
                "error": float(np.sqrt(found.loss[-1] / found.norm)),
                "all": times,
            }
        )
    return table


def steps(A: Any) -> list[dict[str, Any]]:
    """Where the time of a resident factorization goes."""
    clock: list[tuple[str, float]] = []

    def mark(name: str) -> None:
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        clock.append((name, time.perf_counter()))

    factorize(A, K, device=DEVICE)
    rows = []
    for _ in range(3):
        clock.clear()
        mark("begin")
        sweep = Sweep(A, [K], device=DEVICE)
        mark("survey and warm start")
        while not sweep.done:
            sweep.step()
        mark(f"passes ({len(sweep.problems[0].loss)})")
        sweep.finish()
        mark("last pass and H")
        rows.append([after - before for (_, before), (_, after) in pairwise(clock)])
    times = np.median(np.array(rows), axis=0)
    return [
        {"step": name, "ms": 1e3 * float(time)}
        for (name, _), time in zip(clock[1:], times, strict=True)
    ]


def one_pass(A: torch.Tensor, rate: float) -> list[dict[str, Any]]:
    """Passes over rows on the device."""
    table = []
    many = [(55, list(range(1, 11))), (275, list(range(1, 11)) * 5)]
    for columns, ks in [(K, [K]), *size(many, [])]:
        engine, rows = make_engine(DEVICE), MatrixRows(A)
        rng = np.random.default_rng(0)
        Ws = [rng.random((k, A.shape[1])) for k in ks]
        stack = Stack([W / np.linalg.norm(W, axis=1, keepdims=True) for W in Ws], np.dtype("f4"))
        for name, rule in (("pass", Rule()), ("exact H alone", EXACT)):
            took = median(
                lambda: engine.run_pass(rows, stack, rule, with_HtA=rule is not EXACT)  # noqa: B023
            )
            table.append(
                {
                    "columns": columns,
                    "what": name,
                    "ms": 1e3 * took,
                    "GB/s of A, read once": A.nbytes / took / 1e9,
                    "device copy, GB/s": rate,
                }
            )
    return table


class Streaming:
    """An engine for which nothing fits the device: every pass reads all rows."""

    def __enter__(self) -> None:
        from stages.algorithms.nmf import fused

        self.before = fused.free_bytes
        fused.free_bytes = lambda device: 0

    def __exit__(self, *_: object) -> None:
        from stages.algorithms.nmf import fused

        fused.free_bytes = self.before


def stream(source: Any, images: int) -> list[dict[str, Any]]:
    """One pass over rows in the store's files, and its three parts alone."""
    readers = 2
    with tempfile.TemporaryDirectory() as folder:
        artifact = make_store(Path(folder) / "a.zarr", source, images, (14, 14))
        table = []
        for count in (1, readers):
            stored = artifact.rows("all", "layer").compact().reading(count)
            kept = ResidentRows.of(stored)
            rng = np.random.default_rng(0)
            W = rng.random((K, CHANNELS))
            stack = Stack([W / np.linalg.norm(W, axis=1, keepdims=True)], np.dtype("f4"))
            reading = median(lambda stored=stored: [None for _ in stored.blocks()], runs=3)
            with Streaming():
                engine = make_engine(DEVICE)
                copying = median(lambda: _bring(kept), runs=3)  # noqa: B023
                passing = median(lambda: engine.run_pass(stored, stack, Rule()), runs=3)  # noqa: B023
            engine = make_engine(DEVICE)
            arithmetic = median(lambda: engine.run_pass(kept, stack, Rule()), runs=3)  # noqa: B023
            slowest = max(reading, copying, arithmetic)
            table.append(
                {
                    "readers": count,
                    "rows": stored.shape[0],
                    "reading, ms": 1e3 * reading,
                    "copying, ms": 1e3 * copying,
                    "arithmetic, ms": 1e3 * arithmetic,
                    "pass, ms": 1e3 * passing,
                    "overlapped": slowest / passing,
                    "M rows/s": stored.shape[0] / passing / 1e6,
                }
            )
    return table


def _bring(rows: RowBlocks) -> None:
    """Blocks in memory to the device and nothing else."""
    from stages.algorithms.nmf.placed import Placed

    for _ in Placed(rows, torch.device(DEVICE), half=True).arriving():
        pass


def together(A: Any, label: str) -> list[dict[str, Any]]:
    """Fifty factorizations against one; H is handed over block by block, as the stage takes it."""
    ks, seeds = size(list(range(1, 11)), [1, 2]), size(list(range(5)), [0])
    cases = {f"k = {K}": ([K], [0]), f"k = 1..{ks[-1]}, {len(seeds)} seeds": (ks, seeds)}
    table = []
    for name, (some, of) in cases.items():
        times = seconds(lambda some=some, of=of: _factorized(A, some, of), runs=5)
        median_of = statistics.median(times)
        first = table[0]["ms"] / 1e3 if table else median_of
        row = {"A": label, "what": name, "ms": 1e3 * median_of, "times": median_of / first}
        table.append({**row, "all": times})
    return table


def large(source: Any, count: int) -> list[dict[str, Any]]:
    """More rows than a host wants to hold: kept on the card as they come, or read anew."""
    table = []
    for name in ("kept on the card", "read in every pass"):
        rows = Endless(source, count)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if DEVICE == "cuda":
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        if name == "kept on the card":
            passes = _factorized(rows)
        else:
            with Streaming():
                passes = _factorized(rows)
        took = time.perf_counter() - start
        table.append(
            {
                "rows": count,
                "way": name,
                "passes": passes,
                "seconds": took,
                "M rows/s and pass": passes * count / took / 1e6,
                "host, MiB more": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
                / 1024,
                "card, MiB": torch.cuda.max_memory_allocated() / 2**20 if DEVICE == "cuda" else 0,
            }
        )
        print(table[-1], flush=True)
    return table


def _factorized(rows: Any, ks: Sequence[int] = (K,), seeds: Sequence[int] = (0,)) -> int:
    sweep = Sweep(rows, ks, seeds, device=DEVICE)
    while not sweep.done:
        sweep.step()
    sweep.finish(lambda start, block: None)
    return sweep.passes


def main() -> None:
    """Measure, print, write JSON."""
    rate, from_host = copy_rate(), host_rate()
    A = planted()
    sparse = csr(A)
    forms = {
        "CSR in host memory": sparse,
        "float16 on the device": A,
        "float32 on the device": A.float(),
        "float16 in host memory": A.cpu().numpy(),
    }
    start = time.perf_counter()
    factorize(sparse, K, device=DEVICE)
    first = time.perf_counter() - start
    goals = {
        "CSR in host memory": 0.005,
        "float16 in host memory": 0.005,
        "float16 on the device": 0.002,
        "float32 on the device": 0.002,
    }
    facts = {"device copy, GB/s": rate, "host to device, GB/s": from_host, "first call, s": first}
    report("nmf", f"NMF, k = {K}, {A.shape[0]} x {CHANNELS}", whole(forms, goals), **facts)
    report("nmf", "Resident, float16", steps(A))
    report("nmf", "One pass over resident rows", one_pass(A, rate))
    del forms
    report("nmf", "Many at once", [
        *together(sparse, "CSR in host memory"), *together(A, "float16 on the device")
    ])  # fmt: skip
    dense = planted(size(800, 4), 1.0, seed=1)
    report("nmf", "Dense rows", whole({"float16 on the device": dense}, {}))
    del A
    source = planted(size(1400, 90)).float().cpu().numpy()
    report("nmf", "Streamed from the store", stream(source, size(6000, 90)))
    report("nmf", "10^8 rows", large(sparse, size(10**8, 40_000)))


if __name__ == "__main__":
    main()
