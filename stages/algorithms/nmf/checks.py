"""What a factorization refuses: impossible requests and matrices that are not non-negative."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.algorithms.nmf.initial import INITS
from stages.algorithms.nmf.solvers import SOLVERS
from stages.algorithms.rows import RowBlocks


def check_request(
    total: int,
    channels: int,
    ks: Sequence[int],
    seeds: Sequence[int],
    solver: str,
    init: str,
    max_passes: int,
) -> None:
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
    if max_passes < 1:
        raise ValueError(f"max_passes = {max_passes}: must be at least 1")


def refuse_bad(X: Tensor, rows: RowBlocks, numbers: int | NDArray[np.int64]) -> None:
    """NaN, infinite and negative values are errors, named by row (and image where known).

    `numbers` says which rows of the matrix X holds: the first of a block, or each one's number.
    """
    if not X.numel():
        return
    low, high = (float(bound) for bound in torch.aminmax(X))  # NaN spreads to both
    if low >= 0 and high < float("inf"):
        return
    kind = "a negative value" if low < 0 else "NaN or infinity"
    bad = (~torch.isfinite(X) | (X < 0)).any(dim=1)
    position = int(torch.nonzero(bad)[0])
    row = numbers + position if isinstance(numbers, int) else int(numbers[position])
    locate = getattr(rows, "locate", None)
    named = f" (image id {locate(row)})" if locate else ""
    raise ValueError(f"A has {kind} in row {row}{named}: NMF needs finite values >= 0")
