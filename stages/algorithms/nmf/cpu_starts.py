"""The warm start on a CPU: batches of starts in threads, each a single compiled call."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from stages.algorithms.nmf.cpu import as_compiled, in_order
from stages.algorithms.nmf.kernels import accelerate
from stages.algorithms.nmf.stack import Matrix, Rule

COLUMNS = 64  # of a batch, about: its factors stay in the cache of a core, and cores share the rest

Started = list[tuple[float, Matrix]]


def accelerated_csr(
    matrix: Any,
    batches: Sequence[Sequence[Matrix]],
    updates: int,
    threads: int,
    dtype: np.dtype[Any],
    rule: Rule,
    how: tuple[float, float, int, float],
    norm: float,
) -> Started | None:
    """`initial.accelerated` of a CSR matrix in memory, of W >= 0; None where that is not compiled.

    What comes out does not depend on the threads: a batch is the work of one.

    Parameters
    ----------
    how : (first share, settled share, sweeps over W, their tolerance)
    norm : float
        ``||A||_F^2``.
    """
    values = as_compiled(matrix, dtype)

    def run(batch: Sequence[Matrix]) -> Started | None:
        factors = np.concatenate(batch).astype(np.float64)
        sizes = np.array([len(W) for W in batch])
        losses = np.empty(len(batch))
        tol = dtype.type(rule.tol)
        if not accelerate(*values, factors, sizes, norm, updates, (tol, rule.sweeps), how, losses):
            return None
        ends = np.cumsum(sizes)
        parts = [factors[end - k : end] for k, end in zip(sizes, ends, strict=True)]
        return list(zip(losses.tolist(), parts, strict=True))

    def calls() -> Iterator[Any]:
        for batch in batches:
            yield partial(run, batch)

    found: Started = []
    for ran in in_order(calls(), min(threads, len(batches))):
        if ran is None:
            return None
        found += ran
    return found
