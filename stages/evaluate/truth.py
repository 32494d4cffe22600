"""The ground truth of an image set, and which of its annotations cannot be read."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.evaluation import BACKGROUND, OBJECT
from stages.artifacts.image_index import ImageIndex
from stages.datasets import Box, DatasetError, GroundTruth

Regions = dict[str, NDArray[np.bool_]]


class Noted(NamedTuple):
    """What reading an annotation told besides; see `SetTruth`."""

    damaged: str | None
    doubtful: list[str] | None
    boxes: tuple[Box, ...] | None
    difficult: tuple[bool, ...] | None


@dataclass
class SetTruth:
    """Reads the annotations of one image set.

    Attributes
    ----------
    root : str
        The image set of the collection whose annotations count: the set itself, or the one that it
        lies within (`stages.artifacts.within`); empty for the set itself.
    seen : collection of image names
        Images that do not count, since their annotation was used to label factors.
    damaged : dict of image name to reason
    doubtful : dict of image name to reasons
        Of annotations that count all the same.
    boxes : dict of image id to boxes
    difficult : dict of image id to flags
        Of each of its boxes, whether it is no mistake to miss it. These are filled while reading.
    """

    index: ImageIndex
    name: str
    seen: frozenset[str] = frozenset()
    root: str = ""
    damaged: dict[str, str] = field(default_factory=dict)
    doubtful: dict[str, list[str]] = field(default_factory=dict)
    boxes: dict[int, tuple[Box, ...]] = field(default_factory=dict)
    difficult: dict[int, tuple[bool, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.root or self.name
        annotated = self.index.annotated
        self._annotated = {i for i in self.index.sets[self.root] if annotated[i]}

    def __reduce__(self) -> tuple[Any, ...]:
        # who is sent it begins with nothing noted
        return type(self), (self.index, self.name, self.seen, self.root)

    def noted(self, image_id: int) -> Noted:
        """What reading an image's annotation told, for one that reads elsewhere to send home."""
        name = self.index.names[image_id]
        return Noted(
            self.damaged.get(name),
            self.doubtful.get(name),
            self.boxes.get(image_id),
            self.difficult.get(image_id),
        )

    def note(self, image_id: int, noted: Noted) -> None:
        """Take over what reading an image's annotation told elsewhere."""
        name = self.index.names[image_id]
        if noted.damaged is not None:
            self.damaged[name] = noted.damaged
        if noted.doubtful is not None:
            self.doubtful[name] = noted.doubtful
        if noted.boxes is not None and noted.difficult is not None:
            self.boxes[image_id], self.difficult[image_id] = noted.boxes, noted.difficult

    @property
    def annotated(self) -> bool:
        """Whether any image of the set has an annotation file."""
        return bool(self._annotated)

    @cached_property
    def names_on_seen(self) -> frozenset[str]:
        """Regions that the images show which do not count."""
        names: set[str] = set()
        everything = SetTruth(self.index, self.name, root=self.root)
        for image_id in self.index.sets[self.root]:
            if self.index.names[image_id] in self.seen:
                truth = everything.read(image_id)
                names |= {*object_of(truth), *parts_of(truth)}
        return frozenset(names)

    def read(self, image_id: int) -> GroundTruth:
        """An image's annotation; empty where there is none or it cannot be read."""
        name = self.index.names[image_id]
        if image_id not in self._annotated or name in self.seen or name in self.damaged:
            return GroundTruth()
        try:
            truth = self.index.dataset.ground_truth(name, self.root)
        except DatasetError as error:
            self.damaged[name] = self._relative(str(error))
            return GroundTruth()
        if doubts := [*map(self._relative, truth.notes), *self._implausible(truth)]:
            self.doubtful[name] = doubts
        self.boxes[image_id] = truth.boxes
        self.difficult[image_id] = truth.difficult or (False,) * len(truth.boxes)
        return truth

    def _relative(self, reason: str) -> str:
        """A reason without the place of the collection, on which no artifact depends."""
        return reason.replace(f"{self.index.dataset.root}/", "")

    def _implausible(self, truth: GroundTruth) -> list[str]:
        if truth.whole is None:
            return []
        known = truth.whole.size if truth.ignore is None else int((~truth.ignore).sum())
        covered = int(np.count_nonzero(truth.whole))
        if not known:
            return ["all of its pixels are void"]
        if covered in (0, known):
            what = "nothing" if covered == 0 else "the whole image"
            return [f"the annotated object ({self.name}) covers {what}"]
        return []


def object_of(truth: GroundTruth) -> Regions:
    """The object and the background; empty where no object is annotated."""
    if truth.whole is None:
        return {}
    return {OBJECT: truth.whole, BACKGROUND: ~truth.whole}


def parts_of(truth: GroundTruth) -> Regions:
    """The parts, the object, and the background that is neither; empty where no part is annotated.

    An image with an object's mask alone says nothing of parts, and must not count as one without.
    """
    if not truth.parts:
        return {}
    regions = dict(truth.parts)
    if truth.whole is not None:
        regions[OBJECT] = truth.whole
    if BACKGROUND not in regions:
        regions[BACKGROUND] = ~np.logical_or.reduce(list(regions.values()))
    return regions
