"""Colours of the factors: the paper's blue, red, green and orange first, then further ones."""

import colorsys
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Colour = tuple[int, int, int]

# Found by a search for colours that stay apart, also to eyes without one kind of cones: any two are
# at least 12 of CIEDE2000 apart to each, the first four 16 (tests/stages/test_colours.py).
PALETTE: tuple[Colour, ...] = (
    (51, 102, 255),  # blue
    (221, 0, 68),  # red
    (68, 187, 136),  # green
    (255, 170, 17),  # orange
    (170, 153, 255),  # lilac
    (85, 238, 221),  # cyan
    (204, 238, 153),  # lime
    (255, 85, 170),  # pink
    (0, 119, 68),  # dark green
    (170, 102, 119),  # mauve
    (119, 34, 17),  # brown
    (136, 34, 136),  # purple
)
SAME_CONCEPT = 0.5  # cosine from which a factor keeps the colour it had with fewer factors


def colour(slot: int) -> Colour:
    """The colour of a place in the palette; beyond its end, hues spread by the golden ratio."""
    if slot < len(PALETTE):
        return PALETTE[slot]
    lightness = 0.4 + 0.15 * (slot % 3)
    r, g, b = colorsys.hls_to_rgb(slot * 0.618034 % 1, lightness, 0.85)
    return round(255 * r), round(255 * g), round(255 * b)


def css(rgb: Colour) -> str:
    """A colour as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def follow_concepts(factors: Mapping[int, NDArray[np.floating]]) -> dict[int, list[int]]:
    """Places in the palette that let a concept keep its colour as the number of factors grows.

    Parameters
    ----------
    factors : mapping of k to float [k, channels]
        Unit rows, of the factorizations of one image set.

    Returns
    -------
    dict of k to list of int
        One place per factor, all different within one k. Each k is matched with the k before it
        by the cosines of its factors; what resembles nothing gets the first free place.
    """
    slots: dict[int, list[int]] = {}
    before: NDArray[np.floating] | None = None
    known: list[int] = []
    for k in sorted(factors):
        rows = factors[k]
        chosen: dict[int, int] = {}
        if before is not None:
            cosines = before @ rows.T  # [k before, k]
            for old, new in zip(*linear_sum_assignment(cosines, maximize=True), strict=True):
                if cosines[old, new] >= SAME_CONCEPT:
                    chosen[int(new)] = known[old]
        free = (slot for slot in range(2 * k + len(known)) if slot not in set(chosen.values()))
        slots[k] = [chosen[j] if j in chosen else next(free) for j in range(k)]
        before, known = rows, slots[k]
    return slots


def concept_colours(factors: Mapping[int, NDArray[np.floating]]) -> dict[int, list[Colour]]:
    """The colour of each factor, by k; see `follow_concepts`."""
    slots = follow_concepts(factors)
    return {k: [colour(slot) for slot in of_k] for k, of_k in slots.items()}
