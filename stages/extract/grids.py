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

Grids = Mapping[str, NDArray[np.int64]]  # by layer, [images, sizes, 2]


def grids_of(params: "ExtractParams", sizes: Sequence[Shape], names: Sequence[str] = ()) -> Grids:
    """By layer, the grids (h, w) of photographs at each size, ``[n, sizes, 2]``.

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
    from stages.algorithms.backbone import channels

    grids = {}
    for layer in params.layers:
        channels(params.backbone, layer)
        found = [_at_size(params, layer, pixels, sizes, names) for pixels in params.sizes]
        grids[layer] = np.stack(found, axis=1)
    return grids


def entry_grids(grids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Grids of entries on disk ``[n, 2]``: of one size its own, of several all rows as a column.

    Parameters
    ----------
    grids : int64 [n, sizes, 2]
    """
    if grids.shape[1] == 1:
        return grids[:, 0]
    rows = grids.prod(axis=2).sum(axis=1)
    return np.stack([rows, np.ones_like(rows)], axis=1)


def _at_size(
    params: "ExtractParams", layer: str, pixels: int, sizes: Sequence[Shape], names: Sequence[str]
) -> NDArray[np.int64]:
    """Grids of photographs at one layer and one size, ``[n, 2]``."""
    from stages.algorithms.backbone import BackboneError, grid_shape

    shapes = [target_shape(*size, params.resize, pixels) for size in sizes]
    first = dict(zip(reversed(shapes), reversed(range(len(shapes))), strict=True))
    known = {}
    for shape, at in first.items():
        try:
            known[shape] = grid_shape(params.backbone, layer, *shape)
        except BackboneError as error:
            what = f"extract.size: {pixels}"  # of all alike, unless proportions are kept
            if params.resize != "squash":
                name = names[at] if names else "a photograph"
                what = f"{name} of {sizes[at][0]}x{sizes[at][1]} pixels"
            remedy = _remedy(params, layer, pixels, sizes[at])
            raise StageError(f"{what}: {error}; {remedy}") from error
    return np.array([known[shape] for shape in shapes], np.int64).reshape(-1, 2)


def _remedy(params: "ExtractParams", layer: str, pixels: int, size: Shape) -> str:
    """Which params take a photograph that these do not."""
    from stages.algorithms.backbone import BackboneError, grid_shape, next_side

    backbone, resize = params.backbone, params.resize
    side = next_side(backbone, layer, pixels)
    if side is None:
        return "tap an earlier layer (extract.layers)"
    if len(params.sizes) > 1:
        return f"leave {pixels} out of extract.size"
    if resize == "squash":
        return f"set extract.size: {side}"
    short = next_side(backbone, layer, min(target_shape(*size, resize, pixels)))
    long = -(-(short or side) * max(size) // min(size))
    try:
        grid_shape(backbone, layer, *target_shape(*size, resize, long))
        kept = f"extract.size: {long}, or "
    except BackboneError:
        kept = ""
    return f"set {kept}extract.resize: squash with extract.size: {side}, or leave it out"


def note_single_cells(grids: Grids, names: Sequence[str]) -> None:
    """Say of which photographs a layer gives one cell: there is nothing to see in their maps.

    Maps have the grid of the largest size.
    """
    for layer, of_layer in grids.items():
        single = np.flatnonzero(of_layer[:, -1].prod(axis=1) == 1)
        if len(single):
            note(
                f"extract: {layer} gives a single cell for {len(single)} of {len(names)} images, "
                f"such as {names[single[0]]}: their heat maps will be flat; raise extract.size or "
                "tap an earlier layer"
            )
