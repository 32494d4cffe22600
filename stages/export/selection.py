"""What an export is of: the factors of one k and layer, their names, and the images they are on."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.masks import pack_masks, resize_masks, unpack_masks
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.image_index import ImageIndex
from stages.export.exporter import Concept, Photograph, Picture
from stages.export.names import image_paths
from stages.frame.errors import StageError
from stages.frame.params import suggestion
from stages.frame.sent import fields_alone
from store import Artifact

GROUND = "background"
Names = Sequence[str | None]  # of each factor; None is left out


@dataclass(frozen=True)
class Selection:
    """The concepts of an export, ready to be read image by image.

    Attributes
    ----------
    maps : ConceptMaps
    index : ImageIndex
    k, seed : int
    names : mapping of image set to the names of its factors
        In the order of the export. Factors of one name are one concept, their union.
    least_area : float
    """

    maps: ConceptMaps
    index: ImageIndex
    k: int
    seed: int
    names: Mapping[str, Names]
    least_area: float

    def __reduce__(self) -> tuple[Any, ...]:
        return fields_alone(self)

    @cached_property
    def columns(self) -> list[int]:
        """Of the maps, one per factor."""
        return self.maps.columns_of(self.k, self.seed)

    @cached_property
    def categories(self) -> list[str]:
        """Names of concepts, in the order of sets and factors."""
        found = (name for names in self.names.values() for name in names if name is not None)
        return list(dict.fromkeys(found))

    @cached_property
    def _entries(self) -> dict[int, list[tuple[str, int]]]:
        """By image id: the image's sets among the chosen ones, and its entry in each."""
        found: dict[int, list[tuple[str, int]]] = {}
        ids = self.maps.maps.image_ids
        for name in self.names:
            for entry in self.maps.artifact.sets[name].tolist():
                found.setdefault(int(ids[entry]), []).append((name, entry))
        return dict(sorted(found.items()))

    @cached_property
    def photographs(self) -> list[Photograph]:
        """The images of the chosen sets, each once, in the order of the index."""
        paths = image_paths(self.index.names)
        return [
            Photograph(
                number,
                self.index.names[i],
                paths[i],
                self.index.dataset.image_path(self.index.names[i]),
                self.index.size(i),
            )
            for number, i in enumerate(self._entries)
        ]

    @cached_property
    def _ids(self) -> list[int]:
        return list(self._entries)

    def picture(self, photograph: Photograph) -> Picture:
        """Read one image's maps and masks; a mask of the maps' size is brought to the image's."""
        levels, bits = [], []
        owners: list[str | None] = []
        for name, entry in self._entries[self._ids[photograph.number]]:
            levels.append(self.maps.maps.map(entry)[..., self.columns])
            # these columns only: there may be hundreds, of other k and seeds
            unpacked = unpack_masks(self.maps.bits.map(entry), len(self.maps.columns))
            bits.append(unpacked[..., self.columns])
            owners += self.names[name]
        sized = resize_masks(pack_masks(np.concatenate(bits, axis=-1)), photograph.size)
        masks = unpack_masks(sized, len(owners))
        values = np.concatenate(levels, axis=-1)
        return Picture(photograph, tuple(self._concepts(owners, masks, values)))

    def _concepts(
        self, owners: Names, masks: NDArray[np.bool_], values: NDArray[np.unsignedinteger]
    ) -> Iterator[Concept]:
        for category, name in enumerate(self.categories):
            its = [column for column, owner in enumerate(owners) if owner == name]
            if its:
                mask = np.logical_or.reduce(masks[..., its], axis=-1)
                yield Concept(category, name, mask, values[..., its], self.least_area)


def choose_layer(artifact: Artifact, layer: str) -> str:
    """The layer of that name, or the first.

    Raises
    ------
    StageError
        When there is none; as the other choices do.
    """
    _refuse_unknown("layer", [layer] if layer else [], artifact.layers)
    return layer or artifact.layers[0]


def choose_sets(artifact: Artifact, sets: Sequence[str]) -> list[str]:
    """The image sets of these names, in the order of the artifact; by default all."""
    _refuse_unknown("set", sets, list(artifact.sets))
    return [name for name in artifact.sets if not sets or name in sets]


def choose_factors(maps: ConceptMaps, k: int, named: Collection[int] = ()) -> tuple[int, int]:
    """That k, or for 0 the largest, and its first seed; those that have names come first."""
    ks = sorted({of for of, _, _ in maps.columns})
    _refuse_unknown("k", [str(k)] if k else [], [str(of) for of in ks])
    k = k or max(set(ks).intersection(named) or ks)
    return k, next(seed for of, seed, _ in maps.columns if of == k)


def _refuse_unknown(flag: str, asked: Sequence[str], known: Sequence[str]) -> None:
    for name in asked:
        if name not in known:
            raise StageError(f"--{flag} {name}: not factorized; {suggestion(name, known)}")


def factor_names(
    image_set: str, k: int, labelled: Sequence[Sequence[str]] | None
) -> list[str | None]:
    """What the factors of a set are called.

    Parameters
    ----------
    labelled : names of each factor, or None
        From labels.yaml. Several names of one factor are joined by ``+``; a factor without one is
        called ``set/k/factor``; ``background`` is nothing to export: None.
    """
    names: list[str | None] = []
    for factor, given in enumerate(labelled or [()] * k):
        name = "+".join(given) if given else f"{image_set}/{k}/{factor}"
        # half a character, as YAML can write one, is in no encoding
        names.append(None if name == GROUND else name.encode(errors="replace").decode())
    return names
