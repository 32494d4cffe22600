"""Grids of photographs at the tapped layers, and what to say where a network gives none."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.extract.plan import Shape
from stages.frame.errors import StageError
from stages.frame.progress import note
from stages.images.resize import target_shape

if TYPE_CHECKING:
    from stages.extract.params import ExtractParams

Grids = Mapping[str, NDArray[np.int64]]


def grids_of(params: "ExtractParams", sizes: Sequence[Shape], names: Sequence[str] = ()) -> Grids:
    """By layer, the grids (h, w) of photographs, ``[n, 2]``.

    Parameters
    ----------
    sizes : sequence of (height, width)
        Of the files.
    names : sequence of str, optional
        Of the same, for messages.

    Raises
    ------
    StageError
        When the network does not take the size at which a photograph enters it.
    BackboneError
        For a layer that has no grid at any size.
    """
    from stages.algorithms.backbone import BackboneError, channels, grid_shape

    shapes = [target_shape(*size, params.resize, params.size) for size in sizes]
    first = dict(zip(reversed(shapes), reversed(range(len(shapes))), strict=True))
    grids = {}
    for layer in params.layers:
        channels(params.backbone, layer)
        known = {}
        for shape, at in first.items():
            try:
                known[shape] = grid_shape(params.backbone, layer, *shape)
            except BackboneError as error:
                what = f"extract.size: {params.size}"  # of all alike, unless proportions are kept
                if params.resize != "squash":
                    name = names[at] if names else "a photograph"
                    what = f"{name} of {sizes[at][0]}x{sizes[at][1]} pixels"
                raise StageError(f"{what}: {error}; {_remedy(params, layer, sizes[at])}") from error
        grids[layer] = np.array([known[shape] for shape in shapes], np.int64).reshape(-1, 2)
    return grids


def _remedy(params: "ExtractParams", layer: str, size: Shape) -> str:
    """Which params take a photograph that these do not."""
    from stages.algorithms.backbone import BackboneError, grid_shape, next_side

    side = next_side(params.backbone, layer, params.size)
    if side is None:
        return "tap an earlier layer (extract.layers)"
    if params.resize == "squash":
        return f"set extract.size: {side}"
    short = next_side(params.backbone, layer, min(target_shape(*size, params.resize, params.size)))
    long = -(-(short or side) * max(size) // min(size))
    try:
        grid_shape(params.backbone, layer, *target_shape(*size, params.resize, long))
        kept = f"extract.size: {long}, or "
    except BackboneError:
        kept = ""
    return f"set {kept}extract.resize: squash with extract.size: {side}, or leave it out"


def note_single_cells(grids: Grids, names: Sequence[str]) -> None:
    """Say of which photographs a layer gives one cell: there is nothing to see in their maps."""
    for layer, of_layer in grids.items():
        single = np.flatnonzero(of_layer.prod(axis=1) == 1)
        if len(single):
            note(
                f"extract: {layer} gives a single cell for {len(single)} of {len(names)} images, "
                f"such as {names[single[0]]}: their heat maps will be flat; raise extract.size or "
                "tap an earlier layer"
            )
