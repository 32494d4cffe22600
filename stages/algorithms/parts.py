"""Which factors are of the figure, and which of the ground; see `stages.algorithms.apart`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Of a factor's heat, what must lie in the figure's: more than what chance, and grass between legs,
# bring there (docs/refinement.md).
INSIDE = 0.6
STRENGTH = 90.0  # percentile of a factor's coefficients that its heat is measured by


@dataclass(frozen=True, eq=False)
class Shares:
    """What an image set tells of its columns.

    Attributes
    ----------
    thresholds : float64 [columns]
        Where masks of the heat maps begin, in shares of the scale.
    strength : float64 [columns]
        Percentile `STRENGTH` of the coefficients, as shares of the scale.
    of_figure : bool [columns]
        As from `figure_of`.
    """

    thresholds: NDArray[np.float64]
    strength: NDArray[np.float64]
    of_figure: NDArray[np.bool_]


@dataclass(frozen=True)
class Parts:
    """One factorization with more than one factor.

    Attributes
    ----------
    columns : slice
        Its factors.
    figure : int
        The column of k = 1 and the same seed; -1 for none.
    """

    columns: slice
    figure: int


def parts_of(columns: Sequence[tuple[int, int, int]]) -> list[Parts]:
    """The factorizations among columns ``(k, seed, factor)`` whose masks are to be apart."""
    figures = {seed: at for at, (k, seed, _) in enumerate(columns) if k == 1}
    firsts = [at for at, (k, _, factor) in enumerate(columns) if k > 1 and factor == 0]
    return [Parts(slice(at, at + columns[at][0]), figures.get(columns[at][1], -1)) for at in firsts]


def of_figure(within: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which factors of a factorization are of the figure, bool ``[k]``.

    Parameters
    ----------
    within : float64 [k]
        The share of each factor's coefficients that lies in the figure, as
        `stages.artifacts.concept_maps.ConceptMaps` has it; NaN without a figure: none is. The
        largest always is.
    """
    if not np.isfinite(within).any():
        return np.zeros(len(within), np.bool_)
    known = np.nan_to_num(within, nan=-1.0)
    found = known >= INSIDE
    found[known.argmax()] = True
    return np.asarray(found)


def figure_of(within: NDArray[np.float64], parts: Sequence[Parts]) -> NDArray[np.bool_]:
    """`of_figure` of all columns of some factorizations, bool ``[columns]``; False for others."""
    found = np.zeros(len(within), np.bool_)
    for one in parts:
        found[one.columns] = of_figure(within[one.columns])
    return found
