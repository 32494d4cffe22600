"""The compiled loops on whole images, without torch: what `mean_field` does on a CPU in float32."""

import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.colour_term import ColourTerm, thumbnail_of
from stages.algorithms.refinement_defaults import PROBABILITY_FLOOR, RADIUS

Size = tuple[int, int]
# Radius of the window through which votes by colour are brought to full resolution, in pixels of
# the working resolution.
VOTES_RADIUS = 2
# Of weights of votes, what a thread keeps from one image to the next.
ROOM_BYTES = 2**24


class Terms(NamedTuple):
    """What the mean field of images of one size is given: see `mean_field.mean_field`.

    Attributes
    ----------
    side : int
        Long side of the working resolution, not 0.
    """

    radius: int
    eps: float
    weight: float
    iterations: int
    colour: ColourTerm | None
    side: int


class _Room(threading.local):
    """Memory that a thread uses again: new pages cost as much as what is done with them."""

    def __init__(self) -> None:
        self.votes = np.empty(0, np.uint16), np.empty(0, np.float32)


_room = _Room()


def window_radius(size: Size, share: float = RADIUS) -> int:
    """Radius of the guided filter in pixels, from its share of the long side of ``(h, w)``."""
    return max(1, round(share * max(size)))


def working_size(size: Size, side: int) -> tuple[float, Size]:
    """By how much images are scaled down to the working resolution, and to what (h, w)."""
    scale = min(1.0, side / max(size))
    return scale, (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))


def loops_suit(iterations: int, colour: ColourTerm | None, *, joint: bool) -> bool:
    """Whether the loops can do this, and compile on this machine."""
    return bool(iterations) and not joint and (not colour or colour.cells < 2**8) and _lanes_work()


def _lanes_work() -> bool:
    from stages.algorithms.nmf import kernels

    return kernels.chosen().__name__.endswith(".vector")


def infer_image(
    image: NDArray[np.float32],
    probability: NDArray[np.float32],
    terms: Terms,
) -> NDArray[np.float32]:
    """`stages.algorithms.mean_field.mean_field` of one image where `loops_suit`.

    Parameters
    ----------
    image : float32 [3, h, w], RGB in [0, 1]
    probability : float32 [n, h, w]

    Returns
    -------
    float32 [n, h, w]
    """
    from stages.algorithms.inference.loop import Found  # compiled

    found = Found(np.empty(probability.shape, np.float32), np.empty((0, 0, 0), np.uint8))
    units = np.full(len(probability), -1, np.float32)
    image, p = np.ascontiguousarray(image), np.ascontiguousarray(probability)
    _infer(image, p, units, terms, found)
    return found.q


def infer_levels(
    image: NDArray[np.uint8],
    levels: NDArray[Any],
    thresholds: NDArray[np.float64],
    terms: Terms,
) -> NDArray[np.uint8]:
    """`infer_image` from whole numbers to whole numbers, with no map of floats in between.

    Parameters
    ----------
    image : uint8 [h, w, 3]
    levels : uint8 or uint16 [h, w, columns]
        Heat maps; fastest where they lie column by column in memory.
    thresholds : float64 [columns]
        Shares where masks begin: probabilities are those of `mean_field.unary`.

    Returns
    -------
    uint8 [h * w, columns]
        ``round(255 q)``; 0 for a factor whose threshold is not above 0, or that has no heat in the
        image. Column by column in memory.
    """
    from stages.algorithms.inference.lines import planes_of  # compiled
    from stages.algorithms.inference.loop import Found

    columns = levels.shape[2]
    planes = np.ascontiguousarray(levels.transpose(2, 0, 1))
    most = np.float32(np.iinfo(levels.dtype).max)
    # the least normal number: a smaller one may be flushed to zero, and give 0 / 0
    starts = np.maximum(thresholds.astype(np.float32), np.finfo(np.float32).tiny)
    units = np.where(thresholds > 0, np.float32(1) / (starts * most), 0).astype(np.float32)
    found = Found(np.empty((0, 0, 0), np.float32), np.empty(planes.shape, np.uint8))
    pixels = planes_of(np.ascontiguousarray(image))
    _infer(pixels, planes, units, terms, found)
    absent = (thresholds <= 0) | (planes.reshape(columns, -1).max(axis=1) == 0)
    found.levels[absent] = 0
    return found.levels.reshape(columns, -1).T


def _infer(
    image: NDArray[np.float32],
    p: NDArray[Any],
    units: NDArray[np.float32],
    terms: Terms,
    found: Any,
) -> None:
    """See `stages.algorithms.inference.loop.infer`."""
    from stages.algorithms.inference.loop import Colour, infer

    scale, size = working_size((image.shape[1], image.shape[2]), terms.side)
    term = terms.colour or ColourTerm(weight=0)
    weight_of, sigma, reach = (np.float32(x) for x in (term.weight, term.colour, term.reach))
    room = infer(
        image,
        p,
        units,
        size,
        (round(terms.radius * scale), VOTES_RADIUS),
        float(terms.eps),
        np.float32(terms.weight),
        terms.iterations,
        Colour(weight_of, sigma, reach, *thumbnail_of(size, term.cells)),
        np.float32(PROBABILITY_FLOOR),
        _room.votes,
        found,
    )
    if room[1].nbytes <= ROOM_BYTES:
        _room.votes = room
