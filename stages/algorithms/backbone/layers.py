"""Which layers a backbone has, what the paper calls them, and the shapes they give."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, TypeGuard

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode

from stages.algorithms.backbone.families import family_of
from stages.algorithms.backbone.family import BackboneError
from stages.algorithms.backbone.graph import (
    Traced,
    build,
    first_line,
    prune,
    run,
    skeleton,
    trace,
)
from stages.algorithms.names import suggestion

# Every classification network takes this size, and some take no other.
USUAL_SIDE = 224
TALLER = 256
LARGE = 8_000_000  # weights of one layer
Shape = tuple[int, ...] | None


@dataclass(frozen=True)
class LayerInfo:
    """One layer that gives feature maps.

    Attributes
    ----------
    node
        torchvision's node name.
    alias
        The name the paper or torchvision uses for it (`conv5_4`, `fire9`, `layer4`), or None.
    channels
        Length of one row of activations.
    stride
        Pixels from one grid cell to the next; 0 when the grid does not depend on the image.
    non_negative
        Whether the layer can be factorised, as far as a random trial can tell.
    """

    node: str
    alias: str | None
    channels: int
    stride: int
    non_negative: bool


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
    traced = skeleton(backbone)
    if layer and traced.find(node) is not None:
        return node
    names = dict.fromkeys([*aliases(backbone), *traced.nodes])
    for name in traced.nodes:
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
def _shape_graph(backbone: str, nodes: tuple[str, ...]) -> fx.GraphModule:
    return prune(skeleton(backbone), nodes)


@lru_cache(maxsize=1 << 16)
def _shapes(backbone: str, nodes: tuple[str, ...], height: int, width: int) -> tuple[Shape, ...]:
    """Shapes of the nodes' grids for two images ``(2, h, w, channels)``, found on the meta device.

    None for a node whose output is no tensor or no grid.
    """
    outputs = _outputs(backbone, nodes, height, width)
    return tuple(_grid_of(backbone, outputs[node], height, width) for node in nodes)


def _outputs(backbone: str, nodes: tuple[str, ...], height: int, width: int) -> dict[str, Any]:
    images = torch.empty(2, 3, height, width, device="meta")
    return run(_shape_graph(backbone, nodes), images)


def _grid_of(backbone: str, output: Any, height: int, width: int) -> Shape:
    if not isinstance(output, torch.Tensor):
        return None
    grid = family_of(backbone).to_grid(backbone, output, height, width)
    return None if grid is None else tuple(grid.shape)


def _taller(backbone: str, nodes: tuple[str, ...]) -> tuple[Shape, ...] | None:
    """Shapes for an image `TALLER` pixels higher; None for a network of one size only."""
    try:
        return _shapes(backbone, nodes, USUAL_SIDE + TALLER, USUAL_SIDE)
    except Exception:  # whatever its forward does with a size
        return None


def _gives_maps(usual: Shape, taller: Shape) -> TypeGuard[tuple[int, int, int, int]]:
    # what does not grow with the batch (a table of positions) is not about the images
    if usual is None or len(usual) != 4 or usual[0] != 2:
        return False
    # Swin has its channels where others have places: there, a taller image changes them.
    return taller is None or taller[3] == usual[3]


@lru_cache(maxsize=1024)
def channels(backbone: str, layer: str) -> int:
    """Number of channels of a layer: the length of one row of its activations.

    Raises
    ------
    BackboneError
        Unknown name, or a layer that does not give feature maps `[n, channels, h, w]`.
    """
    node = (full_node(backbone, layer),)
    (usual,) = _shapes(backbone, node, USUAL_SIDE, USUAL_SIDE)
    (taller,) = _taller(backbone, node) or (None,)
    if _gives_maps(usual, taller):
        return usual[3]
    output = _outputs(backbone, node, USUAL_SIDE, USUAL_SIDE)[node[0]]
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
    for pixels in range(min(side, USUAL_SIDE), USUAL_SIDE + 1):
        try:
            _grid(backbone, layer, pixels, pixels)
        except Exception:  # whatever its forward does with a size
            continue
        return pixels
    return None


def describe_layers(backbone: str) -> list[LayerInfo]:
    """Every layer of a backbone that gives feature maps, in the order of execution.

    `non_negative` is decided by a trial: two small random images pass through the network with
    random weights, and the layer is non-negative when no value is below zero. That is a fact about
    ReLU, ReLU6, sigmoid and what only pools or concatenates them; for anything else it would take
    luck on every value at once.

    Raises
    ------
    BackboneError
        Unknown backbone, or one that cannot be traced.
    """
    traced = skeleton(backbone)
    nodes = tuple(traced.nodes)
    usual = _shapes(backbone, nodes, USUAL_SIDE, USUAL_SIDE)
    taller = _taller(backbone, nodes) or (None,) * len(nodes)
    maps = {
        node: (shape[3], _stride(shape, higher))
        for node, shape, higher in zip(nodes, usual, taller, strict=True)
        if _gives_maps(shape, higher)
    }
    names = {traced.find(node): alias for alias, node in aliases(backbone).items()}
    lowest = _trial_minima(backbone, list(maps))
    return [
        LayerInfo(node, names.get(node), width, stride, non_negative=lowest[node] >= 0)
        for node, (width, stride) in maps.items()
    ]


def default_layer(backbone: str) -> str:
    """The layer to tap unless somebody names one: what the family says, or the deepest that fits.

    That is the deepest whose values are not negative and that has a grid, by its alias where it has
    one; what pools or drops the values of another is passed over.

    Raises
    ------
    BackboneError
        Unknown backbone, or none of its layers fits.
    """
    known = family_of(backbone).default_layer(backbone, skeleton(backbone).network)
    if known:
        return known
    traced = skeleton(backbone)
    for layer in reversed(describe_layers(backbone)):
        kind = _kind(traced.network, traced.nodes[layer.node])
        thins = "pool" in kind or "dropout" in kind
        if layer.non_negative and layer.stride and not thins:
            return layer.alias or layer.node
    raise BackboneError(
        f"backbone {backbone!r} has no layer without negative values, which alone can be "
        "factorised: choose another"
    )


def _kind(network: nn.Module, node: fx.Node) -> str:
    """What an operation does, in lower case: ``maxpool2d``, ``relu``, ``cat``."""
    if node.op == "call_module":
        return type(network.get_submodule(str(node.target))).__name__.lower()
    return getattr(node.target, "__name__", str(node.target)).lower()


def _stride(usual: Shape, taller: Shape) -> int:
    assert usual is not None
    if taller is None:
        return round(USUAL_SIDE / usual[1])
    # TALLER is a multiple of the stride and so adds a whole number of cells, whatever the padding
    added = taller[1] - usual[1]
    return round(TALLER / added) if added > 0 else 0


class _Unfilled(TorchFunctionMode):
    """Leaves the largest weights without their random start, which is most of what a trial takes.

    They are those of a classifier behind all layers with a grid (VGG-19's: nine tenths of it).
    """

    def __init__(self) -> None:
        super().__init__()
        self.large: set[int] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # see torch.overrides
        kwargs = kwargs or {}
        # a method of the tensor, or a function of torch.nn.init
        if func.__name__.endswith(("uniform_", "normal_")):
            weights = args[0] if args else kwargs["tensor"]
            if weights.numel() > LARGE:
                self.large.add(id(weights))
                return weights
        return func(*args, **kwargs)

    def fill(self, network: nn.Module) -> None:
        """Make up for it in what is left of the network."""
        generator = torch.Generator().manual_seed(0)
        for weights in network.parameters():
            if id(weights) in self.large:
                scale = weights[0].numel() ** -0.5
                weights.data.normal_(0, scale, generator=generator)


def _trial_minima(backbone: str, layers: list[str]) -> dict[str, float]:
    """Smallest value of each layer in one random forward pass with random weights."""
    if not layers:
        return {}
    family = family_of(backbone)
    with _Unfilled() as unfilled:
        built = build(backbone, "cpu")
    network = prune(trace(backbone, built), layers)
    unfilled.fill(network)
    for side in (96, USUAL_SIDE):
        images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        try:
            outputs = run(network, images).items()
            grids = {name: family.to_grid(backbone, one, side, side) for name, one in outputs}
            return {name: grid.amin().item() for name, grid in grids.items() if grid is not None}
        except Exception:  # whatever its forward does with a size
            if side == USUAL_SIDE:
                raise
    raise AssertionError("unreachable")


def nearby_relus(traced: Traced, node: str, count: int = 3) -> list[str]:
    """The ReLU nodes nearest to a node in the order of execution, nearest first."""
    order = {name: place for place, name in enumerate(traced.nodes)}
    relus = [name for name, found in traced.nodes.items() if _is_relu(traced.network, found)]
    # of two equally near, the one after: a convolution's own ReLU
    return sorted(relus, key=lambda name: (abs(order[name] - order[node]), -order[name]))[:count]


def _is_relu(network: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        # a block that torchvision does not trace into (convolution, norm, ReLU) ends in its ReLU
        last = list(network.get_submodule(str(node.target)).modules())[-1]
        return isinstance(last, nn.ReLU | nn.ReLU6)
    return getattr(node.target, "__name__", str(node.target)) in ("relu", "relu_", "relu6")
