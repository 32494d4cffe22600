"""Which images the page to explore has: all, or of a large collection a bounded number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stages.report.concepts import Concepts, open_concepts
from stages.report.opened import Opened
from stages.report.page import spread
from stages.report.params import ReportParams

# Of each image set at least so many, however many sets there are.
LEAST = 20

Positions = NDArray[np.int64]


def fair_shares(counts: Sequence[int], most: int, least: int = LEAST) -> list[int]:
    """How many of each set's images are shown, so that all together are at most `most`.

    Small sets whole; all that are cut get the same number, at least `least`.
    """
    if sum(counts) <= most:
        return list(counts)
    low, high = 0, max(counts)  # the largest level that fits
    while low < high:
        level = (low + high + 1) // 2
        if sum(min(count, level) for count in counts) <= most:
            low = level
        else:
            high = level - 1
    return [min(count, max(low, least)) for count in counts]


def chosen_images(opened: Opened, params: ReportParams) -> dict[str, Positions]:
    """Positions in each image set of the images that the page to explore has, ascending.

    Of a set that is cut, half are those in which its factors are strongest, as many of each, and
    at least `ReportParams.top`; the others are spread evenly over the set.
    """
    counts = {name: len(entries) for name, entries in opened.factors.sets.items()}
    shares = fair_shares(list(counts.values()), params.most)
    return {
        name: np.arange(count) if share >= count else _chosen(opened, name, share, params.top)
        for (name, count), share in zip(counts.items(), shares, strict=True)
    }


def _chosen(opened: Opened, name: str, share: int, top: int) -> Positions:
    every = [
        concepts
        for layer in opened.factors.layers
        for concepts in open_concepts(opened, layer, name).values()
    ]
    each = max(top, share // (2 * sum(len(concepts.columns) for concepts in every)))
    strongest = {
        position
        for concepts in every
        for factor in range(len(concepts.columns))
        for position in concepts.top_images(factor, each)
    }
    even = spread(len(every[0].means), max(2, share - len(strongest)))
    return np.array(sorted(strongest.union(even)), np.int64)


def within(concepts: Mapping[int, Concepts], positions: Positions) -> dict[int, Concepts]:
    """Concepts of a set that has these of its images alone."""
    return {k: replace(one, means=one.means[positions]) for k, one in concepts.items()}


def recipe_of_choice(opened: Opened, params: ReportParams, chosen: Mapping[str, Positions]) -> str:
    """What decides which images there are, besides factors and maps; empty where it is all."""
    sets = opened.factors.sets
    cut = any(len(chosen[name]) < len(entries) for name, entries in sets.items())
    return f" {params.most} {params.top}" if cut else ""
