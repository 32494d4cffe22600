"""Shared by the parts of benchmarks/gpu.sh: the device, sizes of a rehearsal, clocks, results."""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import machine, print_table

REHEARSAL = os.environ.get("DFF_GPU_REHEARSAL") == "1"
DEVICE = "cpu" if REHEARSAL else "cuda"
OUT = Path(os.environ.get("DFF_GPU_OUT", "gpu-out"))
PHOTOGRAPHS = os.environ.get("DFF_GPU_PHOTOGRAPHS", "")
"""A folder of JPEG files, or nothing: then some are drawn."""


def size(real: int, rehearsed: int) -> int:
    """A number for the GPU, or a small one for a rehearsal on a CPU."""
    return rehearsed if REHEARSAL else real


def synchronize() -> None:
    """Wait until the device has done what it was given."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any], runs: int = 5, warm: int = 1) -> list[float]:
    """How long each call takes until the device is done, after `warm` calls that do not count."""
    for _ in range(warm):
        work()
    found = []
    for _ in range(1 if REHEARSAL else runs):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        found.append(time.perf_counter() - start)
    return found


def median(work: Callable[[], Any], runs: int = 5, warm: int = 1) -> float:
    """The median of `seconds`."""
    return statistics.median(seconds(work, runs, warm))


def copy_rate(mib: int = 4096) -> float:
    """GB/s of a device-to-device copy, bytes read and written: what no pass can be faster than."""
    source = torch.rand(size(mib, 16) * 2**18, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.nbytes / median(lambda: target.copy_(source)) / 1e9


def host_rate(mib: int = 1024) -> float:
    """GB/s of a copy from pinned host memory to the device."""
    source = torch.rand(size(mib, 16) * 2**18)
    source = source.pin_memory() if DEVICE == "cuda" else source
    target = torch.empty_like(source, device=DEVICE)
    return source.nbytes / median(lambda: target.copy_(source, non_blocking=True)) / 1e9


def report(part: str, title: str, rows: Sequence[dict[str, Any]], **facts: Any) -> None:
    """Print one table and add it to those in ``OUT/<part>.json``, so that none is lost later."""
    print_table(title, rows)
    sys.stdout.flush()
    tables = _tables.setdefault(part, [])
    tables.append({"title": title, **facts, "rows": list(rows)})
    OUT.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "tables": tables}
    (OUT / f"{part}.json").write_text(json.dumps(content, indent=1) + "\n")


_tables: dict[str, list[dict[str, Any]]] = {}
