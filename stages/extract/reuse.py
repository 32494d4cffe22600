"""Rows that an earlier extraction has computed already: found by content, never by name.

An image's rows are taken over when its file has the same SHA-256 and everything that decides its
activations is the same: the stage's version, network, layer, its weights' digest, resizing,
precision and type on disk.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.shipped import module_file
from stages.artifacts.activations import Activations
from stages.frame.code import code_digest
from stages.frame.fingerprint import digest, file_digest
from store import Ragged, Staging, StoreError
from store.kept import kept_copies

if TYPE_CHECKING:
    from stages.algorithms.backbone import Backbone
    from stages.extract.params import ExtractParams

BLOCK_BYTES = 4 * 2**20
# Modules whose code, and that which they import, decides about activations.
DECISIVE = ("stages.algorithms.backbone", "stages.images.decode", "stages.images.resize")


class EarlierDamaged(Exception):
    """An earlier artifact's rows cannot be read; they must be computed after all."""


@dataclass(frozen=True)
class Earlier:
    """One earlier artifact that fits: published, kept or in the making.

    Attributes
    ----------
    layers : mapping of our layer name to its ragged array
    grids : mapping of our layer name to the grids of its entries ``[n, sizes, 2]``
    entries : mapping of an image's SHA-256 to its entry
        Only of images whose rows are all on disk.
    complete : bool
        Whether it was finished.
    several : mapping of an image's SHA-256 to its entries
        Of images that are there more than once.
    """

    layers: Mapping[str, Ragged]
    grids: Mapping[str, NDArray[np.int64]]
    entries: Mapping[bytes, int]
    complete: bool = True
    several: Mapping[bytes, Sequence[int]] = field(default_factory=dict)

    def each(self, hashes: Sequence[bytes], entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """Entries ``[n]`` of some images, those of equal ones exchanged for one each."""
        left = {content: iter(those) for content, those in self.several.items()}
        found = entries.copy()
        for at, content in enumerate(hashes):
            if found[at] >= 0 and content in left:
                found[at] = next(left[content], found[at])
        return found

    def rows(self, layer: str, entries: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        """Blocks of rows of some entries, in order; small ones, beside all that runs."""
        ragged = self.layers[layer]
        rows = ragged.select(entries)
        step = max(1, BLOCK_BYTES // (ragged.channels * ragged.dtype.itemsize))
        try:
            for start in range(0, rows.shape[0], step):
                yield rows[start : start + step]
        except StoreError as error:
            raise EarlierDamaged(str(error)) from error


@dataclass(frozen=True)
class Known:
    """Which images of an order need no forward pass.

    Attributes
    ----------
    earlier : sequence of Earlier
    source : int64 array [images]
        Which of them has the image's rows; -1: none.
    entry : int64 array [images]
        The image's entry there.
    """

    earlier: Sequence[Earlier]
    source: NDArray[np.int64]
    entry: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        earlier: Sequence[Earlier],
        hashes: Sequence[bytes],
        grids: Mapping[str, NDArray[np.int64]],
    ) -> "Known":
        """Look up every image of an order by the SHA-256 of its file.

        Parameters
        ----------
        hashes : sequence of bytes [n]
        grids : mapping of layer to (h, w) of each image at each size ``[n, sizes, 2]``
            Another library may see another size in the same file: such rows are not taken.
        """
        source = np.full(len(hashes), -1, np.int64)
        entry = np.zeros(len(hashes), np.int64)
        for rank, one in reversed(list(enumerate(earlier))):  # the first has the last word
            found = np.array([one.entries.get(content, -1) for content in hashes], np.int64)
            for layer, theirs in one.grids.items():
                same = (theirs[found] == grids[layer]).all(axis=(1, 2))
                found = np.where(same, found, -1)
            source[found >= 0], entry[found >= 0] = rank, found[found >= 0]
        return cls(earlier, source, entry)


def recipes_of(
    params: "ExtractParams", version: int, backbone: "Backbone"
) -> dict[str, dict[str, Any]]:
    """By layer, all that decides an image's rows but its file; `version` is the stage's."""
    from stages.algorithms.backbone import resolve_layer

    common = {
        "version": version,
        "code": _code_digest(),
        "backbone": params.backbone,
        "mean": list(backbone.mean),
        "std": list(backbone.std),
        "bgr": backbone.bgr,
        "interpolation": backbone.interpolation,
        "code_of_network": _own_code(params.backbone),
        "resize": params.resize,
        "size": params.recorded_size,
        "decode": params.decode,
        "precision": params.precision,
        "dtype": params.dtype,
    }
    return {
        layer: {
            **common,
            "node": resolve_layer(params.backbone, layer),
            "weights_digest": backbone.layer_digests[layer],
        }
        for layer in params.layers
    }


def _own_code(backbone: str) -> str:
    """Digest of the file of a network of the user's own."""
    path = module_file(backbone)
    return file_digest(path) if path else ""


def _code_digest() -> str:
    """SHA-256 over the code that decides what an image's activations are."""
    return digest([code_digest(module) for module in DECISIVE])


def find_earlier(work: Staging, recipes: Mapping[str, Mapping[str, Any]]) -> list[Earlier]:
    """Earlier artifacts with the same layers: the published one, unfinished and kept ones.

    Parameters
    ----------
    recipes : mapping of layer to all that decides its activations but the image files
        As the attribute ``recipes`` has them, in the order of the layers. A layer of another name
        with the same recipe is the same.
    """
    found = []
    kept = ((copy.artifact, None) for copy in kept_copies(work.out))
    for path, progress in chain(work.earlier(), kept):
        try:
            usable = _usable(Activations.open(path), progress, recipes)
        except StoreError:
            continue  # absent, of an older layout, or damaged: nothing to reuse
        if usable and usable.entries:
            found.append(usable)
    return found


def _usable(
    activations: Activations,
    progress: Mapping[str, Any] | None,
    recipes: Mapping[str, Mapping[str, Any]],
) -> Earlier | None:
    theirs = activations.recipes.items()
    names = [next((t for t, made in theirs if made == wanted), None) for wanted in recipes.values()]
    if not all(names):
        return None
    layers = {layer: activations.at(str(t)) for layer, t in zip(recipes, names, strict=True)}
    there = np.logical_and.reduce(
        [_complete(of, progress, str(t)) for of, t in zip(layers.values(), names, strict=True)]
    )
    hashes = activations.hashes
    ids = next(iter(layers.values())).image_ids
    grids = {layer: activations.grids(str(t)) for layer, t in zip(recipes, names, strict=True)}
    entries: dict[bytes, int] = {}
    several: dict[bytes, list[int]] = {}
    for entry in np.flatnonzero(there).tolist():
        content = hashes[ids[entry]].tobytes()
        if content in entries:
            several.setdefault(content, [entries[content]]).append(entry)
        entries[content] = entry
    return Earlier(layers, grids, entries, progress is None, several)


def _complete(ragged: Ragged, progress: Mapping[str, Any] | None, layer: str) -> NDArray[np.bool_]:
    """Which entries of a layer are wholly on disk."""
    if progress is None:
        return np.ones(len(ragged), np.bool_)
    rows = int(progress.get("stored", {}).get(layer, {}).get("rows", 0))
    return ragged.ends <= rows
