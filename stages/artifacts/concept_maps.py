"""Maps of concepts on images, as heatmaps and refine write them and evaluate and report read them.

Both artifacts have one shape. Per layer:

- ``maps``: a ragged array, one entry per (set, image), one column per (k, seed, factor), uint16 or
  uint8. A value v stands for the share ``v / 65535`` (``v / 255``) of what the map can reach: of
  the factor's largest value in the set, or of a probability of 1.
- ``masks``: a ragged array of the same rows, uint8: the masks as bits, column c in bit ``c % 8`` of
  byte ``c // 8``. A mask is where the exact map, before it became a whole number, reaches its
  threshold; a threshold of 0 (a concept that is absent from most of the set) gives an empty mask.
- small arrays, declared in `ConceptMaps`.

Heat maps need not be stored (``heatmaps.store: none``): coefficients, scales, thresholds tell all
of them. Then ``sizes`` stands for ``maps`` and ``masks``, which are drawn when they are asked for
(`stages.artifacts.drawn_maps`), and what is measured of them is in the evaluation.

``recipe``, an attribute, and ``made_from`` of each layer say what an entry's maps were made from: a
later run takes them over by these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.masks import resize_masks, unpack_masks
from stages.artifacts.declared import LayerArray, OfLayer
from stages.artifacts.drawn_maps import DrawnBits, DrawnMaps, found_again
from stages.artifacts.factorizations import Factorizations
from stages.artifacts.layered import contents_of
from store import (
    ArrayWriter,
    Artifact,
    Ragged,
    Staging,
    StoreError,
    create_artifact,
    open_artifact,
)
from store.artifact import layer_key, opened_again

if TYPE_CHECKING:
    import pandas as pd
    import zarr

SIDES = ("top", "left", "bottom", "right")
BOX_COLUMNS = ["entry", "column", "rank", *SIDES, "area"]


# Percentile of a factor's coefficients over its set that gets full colour in pictures.
FULL_COLOUR = 98.0


class MapFacts(TypedDict):
    """What was decided when the maps were made: attributes of the artifact."""

    # heatmaps and transform
    long_side: NotRequired[int]
    percentile: NotRequired[float]
    # of heat maps that are not stored: the artifact of factors, from the folder they lie in, and
    # its fingerprint
    factors: NotRequired[str]
    drawn_from: NotRequired[str]
    not_stored: NotRequired[str]  # said to who reads the arrays themselves
    # heatmaps and refine
    recipe: NotRequired[str]
    # refine
    method: NotRequired[str]
    binarise: NotRequired[str]
    params: NotRequired[dict[str, Any]]


class _MeasuredArray(LayerArray):
    """An array of what is measured of maps, wherever that is."""

    def _read(self, reader: OfLayer) -> NDArray[Any]:
        assert isinstance(reader, ConceptMaps)
        return super()._read(ConceptMaps(reader.measured_in, reader.layer))


@dataclass(frozen=True)
class ConceptMaps:
    """The maps of one layer, open for reading.

    Attributes
    ----------
    artifact : Artifact
    layer : str
    measured : Path, optional
        Of heat maps that are not stored, where what is measured of them is (`create_measured`).

    Of the heat maps there are, besides what all have:

    - ``scale``: the coefficient that is 1 in the maps, the set's largest;
    - ``full``: the share of it that gets full colour in pictures, the percentile `FULL_COLOUR` of
      the set's coefficients;
    - ``strength``: the share of it that a factor's heat is measured by where factors share out the
      pixels of refined masks, another percentile (`stages.algorithms.apart`);
    - ``within``: the share of a factor's coefficients that lies in the figure: where those of k = 1
      and the same seed are in their upper quarter; NaN without that factorization;
    - ``means``: each entry's mean coefficient, as a share of the scale;
    - ``region``, where some image sets lie within factors (`stages.artifacts.within`): the share of
      a set's cells in which that factor is. Percentiles of such a set are of these cells: where the
      factor is not, its concepts cannot be either, and most of their entries are 0.
    """

    artifact: Artifact
    layer: str
    measured: Path | None = None

    # where masks begin, in shares
    thresholds = LayerArray(np.float64, "sets", "columns")
    scale = LayerArray(np.float64, "sets", "columns")
    full = LayerArray(np.float64, "sets", "columns")
    strength = LayerArray(np.float64, "sets", "columns")
    within = LayerArray(np.float64, "sets", "columns")
    means = LayerArray(np.float64, "entries", "columns")
    region = LayerArray(np.float64, "sets")
    made_from = LayerArray(np.uint8, "entries", "bytes")
    # the largest share of each map, and the means (y, x) of its mask's pixels' centres, in pixels
    # of the map; NaN where the mask is empty
    peaks = _MeasuredArray(np.float64, "entries", "columns")
    centroids = _MeasuredArray(np.float64, "entries", "columns", "axes")
    areas = _MeasuredArray(np.int64, "entries", "columns")  # of the masks, in pixels of the map
    # (h, w) of each entry's maps, where these are not stored
    sizes = LayerArray(np.int64, "entries", "axes")

    def __reduce__(self) -> tuple[Any, ...]:
        there = None if self.measured is None else self.measured.absolute()
        return _again, (*self.artifact.__reduce__()[1], self.layer, there)

    @classmethod
    def open(cls, path: Path, measured: Path | None = None) -> dict[str, ConceptMaps]:
        """The maps of a published artifact, by layer; errors as `store.open_artifact`."""
        artifact = open_artifact(path)
        return {layer: cls(artifact, layer, measured) for layer in artifact.layers}

    @property
    def facts(self) -> MapFacts:
        """What was decided when they were made."""
        return cast(MapFacts, self.artifact.attrs)

    @property
    def stored(self) -> bool:
        """Whether maps and masks are on disk, or drawn when they are asked for."""
        return "drawn_from" not in self.facts

    @cached_property
    def maps(self) -> Ragged | DrawnMaps:
        """One entry per (set, image), ``[h, w, columns]`` whole numbers."""
        return self.artifact.ragged(self.layer) if self.stored else self._drawn

    @cached_property
    def bits(self) -> Ragged | DrawnBits:
        """The masks as bits, entries as in `maps`."""
        return self.artifact.ragged(self.layer, "masks") if self.stored else DrawnBits(self._drawn)

    def both(self, entry: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """An entry of `maps` and of `bits`; what is not stored is drawn once."""
        if self.stored:
            return self.maps.map(entry), self.bits.map(entry)
        return self._drawn.both(entry)

    @cached_property
    def _drawn(self) -> DrawnMaps:
        return DrawnMaps(
            found_again(self.artifact, self.facts["factors"], self.facts["drawn_from"], self.layer),
            self.sizes,
            self.scale,
            self.thresholds,
            np.repeat(np.arange(len(self.sets)), [len(mine) for mine in self.sets.values()]),
            self.made_from,
        )

    @cached_property
    def measured_in(self) -> Artifact:
        """Where boxes, peaks, centroids and areas are."""
        if self.stored:
            return self.artifact
        if self.measured is None:
            raise StoreError(
                f"{self.artifact.location}: maps that are not stored (heatmaps.store: none) have "
                "their boxes, peaks, centroids and areas in the evaluation; open them with "
                "measured=, or make them with heatmaps.store: full"
            )
        return open_artifact(self.measured)

    @property
    def grid_hw(self) -> NDArray[Any]:
        """(h, w) of each entry's maps, ``[entries, 2]``; known without what they are drawn from."""
        return self.maps.grid_hw if self.stored else self.sizes

    @property
    def sets(self) -> dict[str, NDArray[np.int64]]:
        """Each image set's entries."""
        return self.artifact.sets

    @cached_property
    def factorizations(self) -> Factorizations:
        """Whose factors the columns are."""
        return Factorizations.of(self.artifact)

    @property
    def columns(self) -> list[tuple[int, int, int]]:
        """(k, seed, factor) of each column."""
        return self.factorizations.columns

    def columns_of(self, k: int, seed: int | None = None) -> list[int]:
        """See `Factorizations.columns_of`."""
        return self.factorizations.columns_of(k, seed)

    @property
    def regions(self) -> NDArray[np.float64] | None:
        """`region`, where there is one."""
        return self.region if f"{layer_key(self.layer)}/region" in self.artifact.group else None

    def shares(self, entry: int, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """One entry's maps in [0, 1], float32 ``[columns, h, w]``, at their own or another size."""
        from stages.algorithms.heatmap import dequantise

        return resized_columns(dequantise(self.maps.map(entry)), size)

    def masks(self, entry: int, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        """Masks of one entry, bool ``[columns, h, w]``, at their own or another size."""
        bits = self.bits.map(entry)
        sized = bits if size is None else resize_masks(bits, size)
        return np.ascontiguousarray(np.moveaxis(unpack_masks(sized, len(self.columns)), -1, 0))

    @cached_property
    def boxes(self) -> pd.DataFrame:
        """Boxes around the masks' 8-connected components; of refined maps, around those of the
        masks and of the places that are certain together (`refine.certain`).

        One row per component: ``entry`` and ``column`` of the mask; ``rank``, 0 for the mask's
        largest; ``top, left, bottom, right`` in 0-based pixels of the map, half-open; ``area`` in
        pixels of the map; ``score``, the map's mean share over the component.
        """
        import pandas as pd

        none = _box_table(np.empty((0, len(BOX_COLUMNS)), np.int64), np.empty(0, np.float32))
        return pd.concat([none, *self.box_blocks()], ignore_index=True)

    def box_blocks(self) -> Iterator[pd.DataFrame]:
        """`boxes`, some ten thousand after the other: of many columns all would be gigabytes."""
        for found, scores in self.bare_boxes():
            yield _box_table(found, scores)

    def bare_boxes(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """As `box_blocks`: int64 ``[n, 8]``, the columns `BOX_COLUMNS`, and scores ``[n]``."""
        names = ("boxes", "box_scores")
        arrays = (self.measured_in.layer_blocks(self.layer, name) for name in names)
        yield from zip(*arrays, strict=True)


@lru_cache(maxsize=16)
def _again(
    place: str, fingerprint: str, stamp: tuple[int, ...], layer: str, measured: Path | None
) -> ConceptMaps:
    """Maps that another process has open: what is read of them once is kept."""
    return ConceptMaps(opened_again(place, fingerprint, stamp), layer, measured)


def _box_table(found: NDArray[np.int64], scores: NDArray[np.float32]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(found, columns=BOX_COLUMNS).assign(score=scores)


class Measured(NamedTuple):
    """What is measured of one entry's maps and masks when they are written.

    Attributes
    ----------
    boxes : int64 [n, 8]
        `BOX_COLUMNS`.
    scores : float32 [n]
    peaks : float64 [columns]
    centroids : float64 [columns, 2]
    areas : int64 [columns]
        See `ConceptMaps`.
    """

    boxes: NDArray[np.int64]
    scores: NDArray[np.float32]
    peaks: NDArray[np.float64]
    centroids: NDArray[np.float64]
    areas: NDArray[np.int64]


class MeasuredWriter:
    """Writes what is measured as it comes, entry after entry."""

    def __init__(self, group: zarr.Group, columns: int) -> None:
        self._arrays = (
            ArrayWriter(group, "boxes", (len(BOX_COLUMNS),), np.int64, ("components", "of_each")),
            ArrayWriter(group, "box_scores", (), np.float32, ("components",)),
            ArrayWriter(group, "peaks", (columns,), np.float64, ConceptMaps.peaks.axes),
            ArrayWriter(group, "centroids", (columns, 2), np.float64, ConceptMaps.centroids.axes),
            ArrayWriter(group, "areas", (columns,), np.int64, ConceptMaps.areas.axes),
        )

    def append(self, one: Measured) -> None:
        """Add what was measured of the next entry."""
        of_entry = [array[None] for array in (one.peaks, one.centroids, one.areas)]
        rows: list[NDArray[Any]] = [one.boxes, one.scores, *of_entry]
        for array, more in zip(self._arrays, rows, strict=True):
            array.append(more)

    def close(self) -> None:
        """Store what is left."""
        for array in self._arrays:
            array.close()


@contextmanager
def create_measured(
    place: Path, fingerprint: str, layers: Mapping[str, int], recipe: str
) -> Iterator[tuple[dict[str, MeasuredWriter], dict[str, zarr.Group]]]:
    """Make an artifact of what is measured of maps that are not stored: each layer's writer, group.

    `layers` has the columns of each, `recipe` is what decides about it besides the maps.
    """
    group = create_artifact(
        place,
        stage="evaluate",
        fingerprint=fingerprint,
        layers=list(layers),
        images=[],
        sets={},
        recipe=recipe,
    )
    groups = {layer: group.require_group(layer_key(layer)) for layer in layers}
    writers = {layer: MeasuredWriter(groups[layer], columns) for layer, columns in layers.items()}
    yield writers, groups
    for writer in writers.values():
        writer.close()


class MapsOf(TypedDict):
    """What maps are of."""

    layers: Sequence[str]
    images: Sequence[str]
    contents: str | None
    sets: Mapping[str, Sequence[int] | NDArray[np.int64]]
    factorizations: Factorizations


def inherited(artifact: Artifact) -> MapsOf:
    """What maps take over from the factors or maps they are made from."""
    return {
        "layers": artifact.layers,
        "images": artifact.images,
        "contents": contents_of(artifact),
        "sets": artifact.sets,
        "factorizations": Factorizations.of(artifact),
    }


def create_maps(
    work: Staging, stage: str, of: MapsOf, **facts: Unpack[MapFacts]
) -> dict[str, zarr.Group]:
    """Begin an artifact of maps, or go on with it; each layer's group."""
    group = create_artifact(
        work.path,
        owner=work,
        stage=stage,
        fingerprint=work.fingerprint,
        layers=of["layers"],
        images=of["images"],
        contents=of["contents"],
        sets=of["sets"],
        **of["factorizations"].attrs,
        **facts,
    )
    return {layer: group.require_group(layer_key(layer)) for layer in of["layers"]}


def resized_columns(
    values: NDArray[np.float32], size: tuple[int, int] | None
) -> NDArray[np.float32]:
    """Float32 ``[h, w, columns]`` as ``[columns, h, w]`` at the same or another size."""
    from stages.algorithms.interpolation import upsampled

    return upsampled(values, size or (values.shape[0], values.shape[1]))


def entry_sets(artifact: Artifact) -> list[list[int]]:
    """Each set's entries, in the order of the sets."""
    return [entries.tolist() for entries in artifact.sets.values()]
