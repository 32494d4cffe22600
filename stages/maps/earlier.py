"""Maps that an earlier run has made already: found by what they were made from.

An entry's maps are taken over when its digest is there among those of an artifact with the same
recipe (all that decides but the entry's own: code, params), under the same thresholds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.concept_maps import ConceptMaps, Measured, entry_sets
from stages.artifacts.drawn_maps import digest_of
from stages.frame.code import code_digest
from stages.frame.fingerprint import digest
from stages.frame.sent import fields_alone
from store import Staging, StoreError
from store.kept import kept_copies

Array = NDArray[Any]
MOST_BOXES = 2**21  # 150 MiB; of more, each entry's are found again


def recipe_of(params: object, *modules: str) -> str:
    """SHA-256 over params and the code of some modules, with all that they import."""
    return digest([params, [code_digest(module) for module in modules]])


def digests(parts: Iterable[Sequence[bytes]]) -> NDArray[np.uint8]:
    """SHA-256 of each entry's parts, ``[entries, 32]``."""
    found = b"".join(map(digest_of, parts))
    return np.frombuffer(found, np.uint8).reshape(-1, 32)


@dataclass(frozen=True)
class EarlierMaps:
    """The maps of one layer of an earlier artifact.

    Attributes
    ----------
    maps : ConceptMaps
    """

    maps: ConceptMaps

    def __reduce__(self) -> tuple[Any, ...]:
        return fields_alone(self)

    @cached_property
    def _entries(self) -> dict[bytes, int]:
        return {one.tobytes(): entry for entry, one in enumerate(self.maps.made_from)}

    @cached_property
    def _set_of(self) -> list[int]:
        return [rank for rank, mine in enumerate(entry_sets(self.maps.artifact)) for _ in mine]

    def find(self, made_from: Array, thresholds: Array) -> int:
        """The entry that was made from the same, with masks by the same thresholds; or -1."""
        entry = self._entries.get(made_from.tobytes(), -1)
        if entry >= 0 and np.array_equal(self.maps.thresholds[self._set_of[entry]], thresholds):
            return entry
        return -1

    def rows(self, entry: int) -> tuple[Array, Array]:
        """An entry's maps ``[h * w, columns]`` and masks ``[h * w, bytes]`` as they are on disk.

        Raises
        ------
        ArtifactDamaged
        """
        levels, bits = self.maps.both(entry)
        return levels.reshape(-1, levels.shape[2]), bits.reshape(-1, bits.shape[2])

    @cached_property
    def boxes(self) -> tuple[Array, Array, Array] | None:
        """All boxes, their scores, and where each entry's begin; None where they are too many."""
        kept, count = [], 0
        for some in self.maps.bare_boxes():
            count += len(some[0])
            if count > MOST_BOXES:
                return None
            kept.append(some)
        if not kept:
            return None
        boxes, scores = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        return boxes, scores, np.searchsorted(boxes[:, 0], np.arange(len(self.maps.areas) + 1))

    def measured(self, entry: int, as_entry: int) -> Measured | None:
        """What was measured of an entry, under another number; None where that is not at hand."""
        if self.boxes is None:
            return None
        boxes, scores, starts = self.boxes
        own = slice(int(starts[entry]), int(starts[entry + 1]))
        of = boxes[own].copy()
        of[:, 0] = as_entry
        maps = self.maps
        return Measured(
            of, scores[own], maps.peaks[entry], maps.centroids[entry], maps.areas[entry]
        )


def find_earlier(work: Staging, recipe: str, layer: str) -> EarlierMaps | None:
    """Maps of the layer by the same recipe: of the published artifact, or of a kept one."""
    published: list[Path] = [path for path, progress in work.earlier() if progress is None]
    for path in chain(published, (copy.artifact for copy in kept_copies(work.out))):
        try:
            maps = ConceptMaps.open(path).get(layer)
            if maps is None or not maps.stored:
                continue
            if maps.facts.get("recipe") == recipe and len(maps.made_from):
                return EarlierMaps(maps)
        except (StoreError, KeyError):
            continue  # absent, of an older layout, or damaged: nothing to take over
    return None
