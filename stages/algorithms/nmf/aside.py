"""Independent factorizations of parts of a row sample: on a CPU side by side."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from stages.algorithms.nmf.cpu import CpuEngine, in_order
from stages.algorithms.nmf.initial import SAMPLE_BYTES
from stages.algorithms.nmf.stack import Engine
from stages.algorithms.rows import is_sparse

T = TypeVar("T")
WORTH_THREADS = 2**18  # bytes of a sample below which threads take longer to start than to work


def each_aside(work: Sequence[Callable[[Engine], T]], engine: Engine, sample: Any) -> list[T]:
    """Results of `work` on parts of a sample, in order.

    On a CPU each is the work of one thread, which for so few rows beats sharing each pass. On a
    device they follow one another.
    """
    if not isinstance(engine, CpuEngine):
        return [one(engine) for one in work]
    parts = (sample.data, sample.indices) if is_sparse(sample) else (sample,)
    size = sum(int(part.nbytes) for part in parts)
    threads = at_once(engine.threads, size) if size >= WORTH_THREADS else 1
    return list(in_order((partial(one, CpuEngine(1)) for one in work), threads))


def at_once(threads: int, sample_bytes: int) -> int:
    """How many run at a time: each holds up to as much as the sample, together `SAMPLE_BYTES`."""
    return max(1, min(threads, SAMPLE_BYTES // max(1, sample_bytes)))
