"""What an earlier evaluation counted of images whose masks are what they were.

Of an image set without annotations all that is looked at are the masks themselves: their overlaps,
and, of heat maps that are not stored, boxes, peaks, centroids and areas. ``measured.zarr`` has, of
each entry, what these were made from; a later evaluation takes them over by that and draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.partitions import OverlapCounts
from stages.artifacts.concept_maps import ConceptMaps, Measured
from stages.artifacts.declared import LayerArray
from stages.artifacts.evaluation import MEASURED, RAW, REFINED
from stages.maps.earlier import EarlierMaps, digests, recipe_of
from store import Artifact, Staging, StoreError, open_artifact
from store.kept import kept_copies

if TYPE_CHECKING:
    import zarr

KINDS = (RAW, REFINED)
Key = tuple[str, str]  # layer, kind of maps


@dataclass(frozen=True)
class LayerCounts:
    """What is kept of a layer, besides what is measured.

    - ``counted_from``: what the counts of each entry were made from; zeros where that is not all;
    - ``overlaps``: of each kind of maps and factorization the pixels in a mask, and in several.
    """

    artifact: Artifact
    layer: str

    counted_from = LayerArray(np.uint8, "entries", "bytes")
    overlaps = LayerArray(np.int64, "entries", "kinds", "problems", "marked_shared")


def recipe() -> str:
    """What decides about all that is counted here, besides the maps."""
    return recipe_of(None, "stages.evaluate.counting")


@dataclass
class Carried:
    """Counts by entry: those of an earlier evaluation, and all of this one.

    Attributes
    ----------
    made_from : mapping of layer to uint8 [entries, 32]
    earlier : mapping of layer to (LayerCounts, EarlierMaps)
        Empty where there is none.
    """

    made_from: Mapping[str, NDArray[np.uint8]]
    earlier: Mapping[str, tuple[LayerCounts, EarlierMaps]]
    _entries: dict[str, dict[bytes, int]] = field(default_factory=dict)
    _overlaps: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)
    _whole: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, maps: Mapping[Key, ConceptMaps], work: Staging, *, reuse: bool) -> Carried:
        """Ready for the maps that are evaluated now, none of whose heat maps are stored."""
        layers = dict.fromkeys(layer for layer, _ in maps)
        made_from = {layer: _made_from(maps[layer, RAW], maps[layer, REFINED]) for layer in layers}
        carried = cls(made_from, _earlier(work, list(layers)) if reuse else {})
        for layer, (counts, _) in carried.earlier.items():
            known = enumerate(counts.counted_from)
            carried._entries[layer] = {one.tobytes(): at for at, one in known if one.any()}
        return carried

    def find(self, entry: int) -> tuple[dict[Key, OverlapCounts], dict[str, Measured]] | None:
        """What was counted and measured of an entry; None where it is to be looked at."""
        counts: dict[Key, OverlapCounts] = {}
        found: dict[str, Measured] = {}
        for layer, digest in self.made_from.items():
            at = self._entries.get(layer, {}).get(digest[entry].tobytes(), -1)
            if at < 0:
                return None
            of_layer, maps = self.earlier[layer]
            measured = maps.measured(at, entry)
            if measured is None:
                return None
            found[layer] = measured
            for kind, sums in zip(KINDS, of_layer.overlaps[at], strict=True):
                counts[layer, kind] = OverlapCounts(sums[:, 0], sums[:, 1])
        return counts, found

    def add(self, entry: int, counts: Mapping[Key, OverlapCounts], *, whole: bool) -> None:
        """Keep what was counted of the next entry; `whole` where that is all there is to it."""
        for layer in self.made_from:
            of_kinds = [counts[layer, kind] for kind in KINDS]
            sums = [np.stack([one.marked, one.shared], axis=1) for one in of_kinds]
            self._overlaps.setdefault(layer, []).append(np.stack(sums))
        if whole:
            self._whole.append(entry)

    def write(self, groups: Mapping[str, zarr.Group]) -> None:
        """Store it for later evaluations."""
        for layer, group in groups.items():
            made_from = np.zeros_like(self.made_from[layer])
            made_from[self._whole] = self.made_from[layer][self._whole]
            LayerCounts.counted_from.write(group, made_from)
            LayerCounts.overlaps.write(group, np.array(self._overlaps[layer], np.int64))


def _made_from(raw: ConceptMaps, refined: ConceptMaps) -> NDArray[np.uint8]:
    """What decides each entry's masks, besides the recipe."""
    sets = enumerate(raw.sets.values())
    set_of = np.concatenate([np.full(len(entries), rank) for rank, entries in sets])
    code = str(refined.facts.get("recipe", "")).encode()
    return digests(
        (a.tobytes(), b.tobytes(), raw.thresholds[rank].tobytes(),
         refined.thresholds[rank].tobytes(), code)
        for a, b, rank in zip(raw.made_from, refined.made_from, set_of, strict=True)
    )  # fmt: skip


def _earlier(work: Staging, layers: list[str]) -> dict[str, tuple[LayerCounts, EarlierMaps]]:
    """Of the last evaluation by the same recipe, published or kept."""
    published: list[Path] = [path for path, progress in work.earlier() if progress is None]
    for path in chain(published, (copy.artifact for copy in kept_copies(work.out))):
        try:
            artifact = open_artifact(path / MEASURED)
            found = {}
            for layer in layers:
                counts = LayerCounts(artifact, layer)
                maps = EarlierMaps(ConceptMaps(artifact, layer))
                if maps.maps.facts.get("recipe") != recipe() or artifact.layers != layers:
                    break
                if len(counts.counted_from) != len(counts.overlaps) or maps.boxes is None:
                    break
                found[layer] = counts, maps
            else:
                return found
        except (StoreError, KeyError):
            continue  # absent, of an older layout, or damaged
    return {}
