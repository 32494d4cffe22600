"""Activations of the tapped layers, as extract writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.declared import LayerArray
from stages.artifacts.layered import Layered
from stages.frame.params import user_path
from store import Artifact, Location, Ragged, Staging, create_artifact

if TYPE_CHECKING:
    import zarr

HASHES = "image_sha256"
# Backbone of activations that somebody brought: no network of ours saw the photographs.
OWN = "own"


class NetworkFacts(TypedDict):
    """What decided the activations: attributes of the artifact."""

    backbone: str
    nodes: list[str]  # by layer, as the network names them
    weights: str
    weights_digest: str
    weights_source: NotRequired[dict[str, str]]  # tag, revision, licence, as its publisher says
    resize: str
    size: int | list[int]  # one, or several in ascending order
    # of the last layer, by which the network tells its classes: tensors that the weights file lacks
    lacks: NotRequired[list[str]]
    recipes: list[dict[str, Any]]  # by layer: all that decides its values but the image files


def weights_of(weights: str, project: Path) -> str:
    """A weights file by its whole path; other names of weights as they are."""
    path = user_path(weights, project)
    is_file = weights.endswith((".pth", ".pt", ".safetensors")) or (weights and path.is_file())
    return str(path) if is_file else weights


def pixels_seen(network: NetworkFacts) -> str:
    """How large a network saw the photographs, in words: ``224 and 416 px``."""
    size = network["size"]
    return f"{' and '.join(map(str, size)) if isinstance(size, list) else size} px"


@dataclass(frozen=True)
class LayerGrids:
    """What a layer has besides its rows where the network saw each photograph at several sizes."""

    artifact: Artifact
    layer: str

    grids = LayerArray(np.int64, "images", "sizes", "sides")


@dataclass(frozen=True)
class Activations(Layered):
    """The activations of all layers.

    On disk: ``image_sha256`` uint8 ``[images, 32]``, and per layer ``maps``: ragged, one entry per
    image, ``[h, w, channels]`` float32 (kept as float16 where that holds the values).

    Where the network saw every photograph at several sizes, an entry has the rows of all sizes, one
    after the other, as ``[rows, 1, channels]``; ``grids`` int64 ``[images, sizes, 2]``, in the
    order of the entries, says which are whose.
    """

    @property
    def network(self) -> NetworkFacts:
        """What decided the values."""
        return cast(NetworkFacts, self.artifact.attrs)

    @property
    def recipes(self) -> Mapping[str, Mapping[str, Any]]:
        """By layer, all that decides its values but the image files; empty in old artifacts."""
        made = self.artifact.attrs.get("recipes", ())
        return dict(zip(self.layers, made, strict=False))

    @cached_property
    def hashes(self) -> NDArray[np.uint8]:
        """SHA-256 of every image file, by image id, ``[images, 32]``."""
        return self.artifact.array(HASHES)

    def at(self, layer: str) -> Ragged:
        """The activations of one layer."""
        return self.artifact.ragged(layer)

    @property
    def signed(self) -> list[str]:
        """Layers with values below zero."""
        return [layer for layer in self.layers if self.at(layer).signed]

    @property
    def several(self) -> list[int]:
        """The sizes at which the network saw each photograph; empty where it was one."""
        size = self.artifact.attrs.get("size")
        return list(size) if isinstance(size, list) else []

    def grids(self, layer: str) -> NDArray[np.int64]:
        """Grids (h, w) of every entry at each size, ``[images, sizes, 2]``."""
        if self.several:
            return LayerGrids(self.artifact, layer).grids
        return self.at(layer).grid_hw[:, None].astype(np.int64)


def create_activations(
    place: Location,
    work: Staging,
    *,
    layers: Sequence[str],
    images: Sequence[str],
    contents: str,
    sets: Mapping[str, Sequence[int]],
    **facts: Unpack[NetworkFacts],
) -> zarr.Group:
    """Begin the artifact of activations, or go on with it, in the staging folder or elsewhere."""
    return create_artifact(
        place,
        owner=work,
        in_place=place.path != work.path,
        stage="extract",
        fingerprint=work.fingerprint,
        layers=layers,
        images=images,
        contents=contents,
        sets=sets,
        **facts,
    )
