"""Layers of a backbone by name, and the shapes they give."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import TypeGuard

import torch

from stages.algorithms.backbone.families import family_of
from stages.algorithms.backbone.families.plain import first_line
from stages.algorithms.backbone.family import BackboneError
from stages.algorithms.backbone.graph import run
from stages.algorithms.backbone.whole import Cut, look, seen, skeleton
from stages.algorithms.names import suggestion

TALLER = 256  # pixels; a multiple of every stride, and with patches of 14 of nearly all
Shape = tuple[int, ...] | None


@cache
def aliases(backbone: str) -> Mapping[str, str]:
    """Other names of a backbone's layers, the paper's, and the nodes they mean."""
    names = family_of(backbone).aliases(backbone, skeleton(backbone).network)
    return MappingProxyType(dict(names))


def resolve_layer(backbone: str, layer: str) -> str:
    """The node name of a layer given by alias or by (possibly truncated) node name.

    Raises
    ------
    BackboneError
        Unknown backbone or layer; the nearest names are suggested.
    """
    node = aliases(backbone).get(layer, layer)
    whole = skeleton(backbone)
    if layer and whole.find(node) is not None:
        return node
    names = dict.fromkeys([*aliases(backbone), *whole.layers()])
    for name in whole.layers():
        parts = name.split(".")
        names.update(dict.fromkeys(".".join(parts[:depth]) for depth in range(1, len(parts))))
    listed = f"`dff show-model {backbone}` lists its layers"
    raise BackboneError(
        f"backbone {backbone!r} has no layer {layer!r}, "
        + suggestion(layer, names, most=3, otherwise=listed)
    )


def full_node(backbone: str, layer: str) -> str:
    """The full name of the node a layer means: `layer4.2.relu_2` for ResNet-50's `layer4`."""
    node = skeleton(backbone).find(resolve_layer(backbone, layer))
    assert node is not None  # resolve_layer has found it
    return node


@lru_cache(maxsize=64)
def shape_graph(backbone: str, nodes: tuple[str, ...]) -> Cut:
    """The network on the meta device, down to some nodes."""
    return skeleton(backbone).cut(nodes)


@lru_cache(maxsize=1 << 16)
def _shapes(backbone: str, nodes: tuple[str, ...], height: int, width: int) -> tuple[Shape, ...]:
    """Shapes of the nodes' grids for two images ``(2, h, w, channels)``, found on the meta device.

    None for a node whose output is no tensor or no grid.
    """
    images = torch.empty(2, 3, height, width, device="meta")
    grids = look(backbone, shape_graph(backbone, nodes), images)
    found = [grids[node] for node in nodes]
    return tuple(None if one is None else tuple(one.shape) for one in found)


def side_of(backbone: str) -> int:
    """Pixels of the side that every network takes, and some take no other."""
    return family_of(backbone).side(backbone)


def _taller(backbone: str, nodes: tuple[str, ...]) -> tuple[Shape, ...] | None:
    """Shapes for an image `TALLER` pixels higher; None for a network of one size only."""
    side = side_of(backbone)
    try:
        return _shapes(backbone, nodes, side + TALLER, side)
    except Exception:  # whatever its forward does with a size
        return None


@dataclass(frozen=True)
class Map:
    """A layer with feature maps: channels, and pixels from one cell to the next (0: no grid)."""

    channels: int
    stride: int


def maps_of(backbone: str, nodes: tuple[str, ...]) -> list[Map | None]:
    """What each node gives, from its shapes for a square image and a taller one."""
    side = side_of(backbone)
    usual, taller = _shapes(backbone, nodes, side, side), _taller(backbone, nodes)
    if taller is None:
        return [_map_of(one, side / one[1]) if _is_map(one) else None for one in usual]
    found: list[Map | None] = []
    for one, higher in zip(usual, taller, strict=True):
        # Swin has its channels where others have places: there, a taller image changes them.
        if _is_map(one) and _is_map(higher) and higher[3] == one[3]:
            # TALLER is a multiple of the stride and adds a whole number of cells for any padding
            added = higher[1] - one[1]
            found.append(_map_of(one, TALLER / added if added > 0 else 0))
        else:
            found.append(None)
    return found


def _is_map(shape: Shape) -> TypeGuard[tuple[int, int, int, int]]:
    # what does not grow with the batch (a table of positions) is not about the images
    return shape is not None and len(shape) == 4 and shape[0] == 2 and min(shape) > 0


def _map_of(shape: tuple[int, ...], stride: float) -> Map:
    # one cell for the whole image: gates, what is behind the last pooling
    return Map(shape[3], 0 if shape[1:3] == (1, 1) else round(stride))


@lru_cache(maxsize=1024)
def channels(backbone: str, layer: str) -> int:
    """Number of channels of a layer: the length of one row of its activations.

    Raises
    ------
    BackboneError
        Unknown name, or a layer that does not give feature maps `[n, channels, h, w]`.
    """
    node = (full_node(backbone, layer),)
    (found,) = maps_of(backbone, node)
    if found:
        return found.channels
    images = torch.empty(2, 3, side_of(backbone), side_of(backbone), device="meta")
    output = run(shape_graph(backbone, node), seen(backbone, images))[node[0]]
    is_tensor = isinstance(output, torch.Tensor)
    given = f"shape {list(output.shape)} for two images" if is_tensor else "no tensor"
    raise BackboneError(
        f"layer {layer!r} of {backbone} does not give feature maps [n, channels, h, w] "
        f"({given}): choose another"
    )


def grid_shape(backbone: str, layer: str, height: int, width: int) -> tuple[int, int]:
    """Grid (h, w) of a layer for an image of `height` x `width` pixels.

    The pruned network runs on the meta device: exact for any padding or rounding, without
    arithmetic. Answers are cached.

    Raises
    ------
    BackboneError
        Unknown name, no feature maps, or an image size the network does not take.
    """
    channels(backbone, layer)
    try:
        return _grid(backbone, layer, height, width)
    except Exception as error:  # whatever its forward does with a size
        side = next_side(backbone, layer, min(height, width))
        following = side is not None and side > min(height, width)
        takes = f"{'the next size that it takes is' if following else 'it takes'} {side}x{side}"
        raise BackboneError(
            f"backbone {backbone!r} cannot run to layer {layer!r} on an image of {height}x{width} "
            f"pixels ({first_line(error)}): {takes if side else 'choose another'}"
        ) from error


def _grid(backbone: str, layer: str, height: int, width: int) -> tuple[int, int]:
    (shape,) = _shapes(backbone, (full_node(backbone, layer),), height, width)
    if shape is None or min(shape) < 1:
        raise ValueError("nothing is left of it")
    return shape[1], shape[2]


@lru_cache(maxsize=1024)
def next_side(backbone: str, layer: str, side: int) -> int | None:
    """The next number of pixels, from `side` on, at which a network takes square images.

    The network itself says it, on the meta device, up to the usual size. That is the answer for a
    larger one, too, which only a network of fixed sizes refuses. None where it does not do, either.
    """
    usual = side_of(backbone)
    for pixels in range(min(side, usual), usual + 1):
        try:
            _grid(backbone, layer, pixels, pixels)
        except Exception:  # whatever its forward does with a size
            continue
        return pixels
    return None
