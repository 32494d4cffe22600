"""What a factorization refuses: impossible requests and matrices that are not non-negative."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.nmf.initial import INITS
from stages.algorithms.nmf.solvers import BOTH, HALS, NONNEG, SOLVERS
from stages.algorithms.nmf.stack import Engine, numbered_blocks
from stages.algorithms.rows import RowBlocks, as_numpy, is_sparse


def check_request(
    shape: tuple[int, int],
    ks: Sequence[int],
    seeds: Sequence[int],
    solver: str,
    init: str,
    max_passes: int,
    nonneg: str = BOTH,
) -> None:
    """Refuse what cannot be done before anything is read."""
    total, channels = shape
    if total < 1 or channels < 1:
        raise ValueError(f"A is {total} x {channels}: there is nothing to factorize")
    if not len(ks) or not len(seeds):
        raise ValueError("name at least one k and one seed")
    for k in ks:
        if not 1 <= k <= channels:
            raise ValueError(f"k = {k}: must be between 1 and the {channels} channels of A")
    if solver not in SOLVERS:
        raise ValueError(f"solver {solver!r}: choose one of {', '.join(SOLVERS)}")
    if init not in INITS:
        raise ValueError(f"init {init!r}: choose one of {', '.join(INITS)}")
    if nonneg not in NONNEG:
        raise ValueError(f"nonneg {nonneg!r}: choose one of {', '.join(NONNEG)}")
    if nonneg != BOTH and (solver, init) not in ((HALS, "sample"), (HALS, "random")):
        raise ValueError(
            f"nonneg {nonneg!r}: is solved by {HALS} from init sample or random, not by {solver} "
            f"from {init}"
        )
    if max_passes < 1:
        raise ValueError(f"max_passes = {max_passes}: must be at least 1")


def check_start(
    start: Mapping[tuple[int, int], NDArray[Any]],
    channels: int,
    ks: Sequence[int],
    seeds: Sequence[int],
    solver: str,
    nonneg: str = BOTH,
) -> None:
    """Refuse factors that no factorization of a request can go on from.

    Raises
    ------
    ValueError
    """
    if start and solver != "hals":
        raise ValueError(f"start: {solver} cannot go on from factors, what is zero stays zero")
    for (k, seed), W in start.items():
        if k not in ks or seed not in seeds:
            raise ValueError(f"start: no factorization with k = {k} and seed {seed} is asked for")
        if W.shape != (k, channels):
            raise ValueError(f"start: W of k = {k} is {W.shape}, not {(k, channels)}")
        if not np.isfinite(W).all() or (nonneg == BOTH and W.min(initial=0) < 0):
            raise ValueError(f"start: W of k = {k} has values that are not finite and >= 0")
        lengths = np.linalg.norm(W, axis=1)
        if (abs(lengths[lengths > 0] - 1) > 1e-4).any():
            raise ValueError(f"start: W of k = {k} has rows that are not of length 1")


def check_range(norm: float, rows: int, dtype: np.dtype[Any]) -> None:
    """Refuse values whose squares float32 cannot tell from zero or infinity.

    Raises
    ------
    ValueError
    """
    size = float(np.sqrt(norm / rows))
    if dtype == np.float32 and size and not 1e-15 < size < 1e15:
        raise ValueError(
            f"A has rows of about the length {size:.0e}, which is out of the range of float32: "
            "multiply A by a number that brings them near 1, or give it as float64"
        )


def sound_squares(
    engine: Engine, block: Any, rows: RowBlocks, start: int, *, signed: bool = False
) -> float:
    """``sum(x^2)`` of a block that begins with row `start`.

    Raises
    ------
    ValueError
        When it has NaN or infinite values, or negative ones that are not `signed`; the line names
        the row, and its image.
    """
    squares, sound = engine.survey(block, signed=signed)
    if not sound:
        _refuse_bad(block, rows, start, signed=signed)
    return squares


def refuse_bad(rows: RowBlocks, first: int) -> None:
    """Name the first bad value from row `first` on, which begins a block.

    Raises
    ------
    ValueError
    """
    for start, block in numbered_blocks(rows):
        values = as_numpy(block.data if is_sparse(block) else block)
        if start >= first and not (np.isfinite(values) & (values >= 0)).all():
            _refuse_bad(block, rows, start)


def _refuse_bad(block: Any, rows: RowBlocks, start: int, *, signed: bool = False) -> None:
    """Name the first row of a block that has values which are refused, and its image.

    Raises
    ------
    ValueError
        Always; the block is known to have such a value.
    """
    values = as_numpy(block.data if is_sparse(block) else block)
    bad = ~np.isfinite(values)
    if not signed:
        bad |= values < 0
    if not bad.any():
        raise ValueError(f"A has values up to {values.max():.0e}: their squares are no numbers")
    if is_sparse(block):
        position = int(np.searchsorted(block.indptr, np.flatnonzero(bad)[0], side="right")) - 1
        found = values[block.indptr[position] : block.indptr[position + 1]]
    else:
        position = int(np.flatnonzero(bad.any(axis=1))[0])
        found = values[position]
    kind = "NaN or infinity"
    if not signed and (np.isfinite(found).all() or (found < 0).any()):
        kind = "a negative value"
    locate = getattr(rows, "locate", None)
    row = start + position
    named = f" ({locate(row)})" if locate else ""
    wanted = "semi-NMF needs finite values" if signed else "NMF needs finite values >= 0"
    raise ValueError(f"A has {kind} in row {row}{named}: {wanted}")
