"""Activations of the tapped layers, as extract writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.layered import Layered
from store import Location, Ragged, Staging, create_artifact

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
    resize: str
    size: int
    recipes: list[dict[str, Any]]  # by layer: all that decides its values but the image files


@dataclass(frozen=True)
class Activations(Layered):
    """The activations of all layers.

    On disk: ``image_sha256`` uint8 ``[images, 32]``, and per layer ``maps``: ragged, one entry per
    image, ``[h, w, channels]`` float32 (kept as float16 where that holds the values).
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

    @property
    def hashes(self) -> NDArray[np.uint8]:
        """SHA-256 of every image file, by image id, ``[images, 32]``."""
        return self.artifact.array(HASHES)

    def at(self, layer: str) -> Ragged:
        """The activations of one layer."""
        return self.artifact.ragged(layer)


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
