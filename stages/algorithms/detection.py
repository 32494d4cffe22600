"""How good a ranked list of boxes is: PASCAL VOC's matching and average precision.

Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010, section 4.2; the area
is that under all points of the curve, as VOC's development kit takes it since 2010.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.metrics import box_iou

# What became of a box: it is the first to find its object; it finds none, or one that a box before
# it has found; its object is a difficult one, and it does not count.
HIT, FALSE_ALARM, SPARED = 1, 0, -1


class Ranked(NamedTuple):
    """Of a ranked list of boxes, all in [0, 1]; NaN where no object counts.

    Attributes
    ----------
    ap : float
        The area under precision over recall, precision taken as the largest at that recall or any
        above it.
    recall : float
        Of all boxes.
    precision : float
        Down to the last box that finds an object; 0 where none does.
    """

    ap: float
    recall: float
    precision: float


def match_boxes(
    boxes: NDArray[np.floating],
    objects: NDArray[np.floating],
    difficult: NDArray[np.bool_],
    least_iou: float = 0.5,
) -> NDArray[np.int8]:
    """What becomes of each box of one image.

    A box is of the object that it overlaps most, and finds it when their IoU is above `least_iou`.

    Parameters
    ----------
    boxes : real [n, 4]
        (top, left, bottom, right), the best first.
    objects : real [m, 4]
    difficult : bool [m]

    Returns
    -------
    int8 [n]
        `HIT`, `FALSE_ALARM` or `SPARED`.

    Raises
    ------
    ValueError
        If the shapes are others.
    """
    if len(difficult) != len(objects):
        raise ValueError(f"{len(objects)} objects, but {len(difficult)} flags")
    found = np.full(len(boxes), FALSE_ALARM, np.int8)
    overlaps = box_iou(boxes, objects)
    if not overlaps.size:
        return found
    free = np.ones(len(objects), dtype=bool)
    for at in np.flatnonzero(overlaps.max(axis=1) > least_iou):
        mine = overlaps[at].argmax()
        if difficult[mine]:
            found[at] = SPARED
        elif free[mine]:
            found[at], free[mine] = HIT, False
    return found


def average_precision(
    scores: NDArray[np.floating], outcomes: NDArray[np.int8], objects: int
) -> Ranked:
    """Average precision of the boxes of a whole set of images.

    Parameters
    ----------
    scores : real [n]
        Of equal ones that which comes first ranks first.
    outcomes : int8 [n]
        As from `match_boxes`.
    objects : int
        Those that count: the difficult ones do not.

    Raises
    ------
    ValueError
        If there are more or fewer scores than outcomes.
    """
    if scores.shape != outcomes.shape:
        raise ValueError(f"scores {scores.shape}, but outcomes {outcomes.shape}")
    if objects == 0:
        return Ranked(np.nan, np.nan, np.nan)
    ranked = outcomes[np.argsort(-scores, kind="stable")]
    hits = ranked[ranked != SPARED] == HIT
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    at_hits = precision[hits]
    if not len(at_hits):
        return Ranked(0.0, 0.0, 0.0)
    # recall grows at hits only, by 1 / objects at each
    best = np.maximum.accumulate(at_hits[::-1])[::-1]
    return Ranked(float(best.sum()) / objects, len(at_hits) / objects, float(at_hits[-1]))
