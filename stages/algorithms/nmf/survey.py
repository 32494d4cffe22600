"""The first pass over the rows: every value checked, their squares added up, some rows drawn."""

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.nmf.checks import sound_squares
from stages.algorithms.nmf.initial import pick
from stages.algorithms.nmf.stack import Engine
from stages.algorithms.rows import RowBlocks
from stages.algorithms.unit_sums import UnitSum


def surveyed(
    blocks: Iterable[tuple[int, Any]],
    rows: RowBlocks,
    indices: NDArray[np.int64],
    engine: Engine,
    *,
    signed: bool = False,
) -> tuple[float, list[Any]]:
    """``||A||_F^2`` of some blocks, and those of their rows that are drawn, block by block.

    Parameters
    ----------
    blocks : iterable of (first row, array [rows, channels])
    rows : RowBlocks
        What they are blocks of, for messages.
    indices : int64 [drawn]
        Ascending.

    Raises
    ------
    ValueError
        See `sound_squares`.
    """
    parts, squares = [], UnitSum(float, operator.add)
    for start, block in blocks:
        squares.add(sound_squares(engine, block, rows, start, signed=signed))
        squares.end_block(int(block.shape[0]))
        parts.append(pick(block, start, indices))
    return squares.total(), parts
