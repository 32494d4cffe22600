"""Finding named factors again among others, by their directions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Cosine from which a factor is the one that was named. In the demo, factors of half the photographs
# of a set have 0.98 and more with those of all, different ones of one factorization 0.64 at most.
SAME = 0.9


def match(named: NDArray[Any], factors: NDArray[Any]) -> tuple[list[int], list[float]]:
    """Each named factor's counterpart among others, one to one.

    Parameters
    ----------
    named : float [n, channels]
        Unit rows.
    factors : float [k, channels]
        Unit rows.

    Returns
    -------
    found : list of int
        One per named factor: its counterpart, so that the sum of the cosines is the largest
        (Hungarian method); -1 where there are fewer factors than names.
    cosines : list of float
        With the counterpart, or where there is none with the most similar factor.

    Raises
    ------
    ValueError
        When the rows have different numbers of channels.

    Examples
    --------
    >>> found, cosines = match(np.eye(3)[:2], np.eye(3)[[1, 2, 0]])
    >>> found, cosines
    ([2, 0], [1.0, 1.0])
    """
    # imported here: commands that only read names need no optimiser
    from scipy.optimize import linear_sum_assignment

    if named.shape[1] != factors.shape[1]:
        raise ValueError(f"{named.shape[1]} channels cannot be matched with {factors.shape[1]}")
    cosines = named.astype(np.float64) @ factors.T.astype(np.float64)
    found = [-1] * len(named)
    # what nobody would take for the same takes no part: it must not push others away
    worth = np.where(cosines >= SAME, cosines, 0.0)
    for one, other in zip(*linear_sum_assignment(worth, maximize=True), strict=True):
        found[int(one)] = int(other) if worth[one, other] > 0 else -1
    best = [
        float(row[at] if at >= 0 else row.max()) for row, at in zip(cosines, found, strict=True)
    ]
    return found, [min(1.0, value) for value in best]


def nearest(k: int, known: Sequence[int]) -> int:
    """The k whose names a new k takes over: the nearest one, of two the larger."""
    return min(known, key=lambda one: (abs(one - k), -one))
