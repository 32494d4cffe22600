"""All boxes of the factors taken for the object, against the boxes of the ground truth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.algorithms.detection import Ranked, average_precision, match_boxes
from stages.artifacts.concept_maps import SIDES
from stages.artifacts.image_index import ImageIndex
from stages.evaluate.counting import HIT
from stages.evaluate.tables import BOX_MEASURES
from stages.evaluate.truth import SetTruth

FACTOR = ["layer", "set", "k", "seed", "maps", "factor"]  # columns that say which factor
Which = tuple[Any, ...]  # their values


@dataclass(frozen=True)
class SetBoxes:
    """The ground truth's boxes of one set, of those images that have any.

    Attributes
    ----------
    images : dict of image name to (float64 [n, 4], bool [n])
        Boxes, and which of them are difficult.
    """

    images: Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]

    @classmethod
    def of(cls, truth: SetTruth, index: ImageIndex) -> "SetBoxes":
        """What was read; images without a box, or that do not count, are none of it."""
        return cls(
            {
                index.names[image_id]: (np.array(boxes, float), np.array(truth.difficult[image_id]))
                for image_id, boxes in sorted(truth.boxes.items())
                if boxes
            }
        )

    @property
    def objects(self) -> int:
        """How many are to be found: the difficult ones need not be."""
        return sum(int((~difficult).sum()) for _, difficult in self.images.values())


@dataclass
class BoxMatches:
    """Keeps boxes as they come, a block at a time, and scores them in the end.

    Parameters
    ----------
    targets : mapping of set to SetBoxes
    foreground : DataFrame
        As `Evaluation.foreground`: boxes of other factors are passed over.
    """

    targets: Mapping[str, SetBoxes]
    foreground: pd.DataFrame
    kept: list[pd.DataFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        boxed = self.foreground["set"].isin([n for n, one in self.targets.items() if one.images])
        self._wanted = self.foreground.loc[boxed, FACTOR].drop_duplicates()

    def add(self, boxes: pd.DataFrame) -> None:
        """Keep what counts of some boxes, as in `Evaluation.boxes`."""
        if not self._wanted.empty:
            mine = boxes.merge(self._wanted, on=FACTOR)
            self.kept.append(mine[[*FACTOR, "image", *SIDES, "score"]])

    def scored(self, foreground: pd.DataFrame) -> pd.DataFrame:
        """The table with `BOX_MEASURES` of all that were added, in per cent."""
        boxes = pd.concat(self.kept) if self.kept else pd.DataFrame(columns=FACTOR)
        found = {which: self._ranked(str(which[1]), of) for which, of in boxes.groupby(FACTOR)}
        rows = []
        for which in foreground[FACTOR].itertuples(index=False, name=None):
            nothing = self._ranked(which[1], boxes[:0])  # where all of its masks are empty
            rows.append([100 * value for value in found.get(which, nothing)])
        values = np.array(rows, dtype=float).reshape(-1, len(BOX_MEASURES))
        return foreground.assign(**dict(zip(BOX_MEASURES, values.T, strict=True)))

    def _ranked(self, image_set: str, boxes: pd.DataFrame) -> Ranked:
        """The boxes of one factor."""
        targets = self.targets.get(image_set, SetBoxes({}))
        scores, outcomes = [np.empty(0, np.float32)], [np.empty(0, np.int8)]
        for name, of_image in boxes.groupby("image") if len(boxes) else ():
            if name in targets.images:
                ranked = of_image.sort_values("score", ascending=False, kind="stable")
                sides = ranked[list(SIDES)].to_numpy(np.float64)
                outcomes.append(match_boxes(sides, *targets.images[str(name)], HIT))
                scores.append(ranked["score"].to_numpy(np.float32))
        return average_precision(np.concatenate(scores), np.concatenate(outcomes), targets.objects)
