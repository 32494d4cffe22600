"""Which layers a backbone has, what the paper calls them, and the shapes they give."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from stages.algorithms.backbone.families import family_of
from stages.algorithms.backbone.families.plain import first_line
from stages.algorithms.backbone.family import BackboneError
from stages.algorithms.backbone.graph import build, run
from stages.algorithms.backbone.whole import Cut, Whole, look, seen, skeleton
from stages.algorithms.names import suggestion

TALLER = 256  # pixels; a multiple of every stride, and with patches of 14 of nearly all
TRIAL = 96  # pixels of a side that is enough to see signs, where a network takes it
LARGE = 8_000_000  # weights of one layer
Shape = tuple[int, ...] | None


@dataclass(frozen=True)
class LayerInfo:
    """One layer that gives feature maps.

    Attributes
    ----------
    node
        torchvision's node name, or the path of a module and a facet: ``blocks.11.attn:key``.
    alias
        The name the paper or torchvision uses for it (`conv5_4`, `fire9`, `layer4`), or None.
    channels
        Length of one row of activations.
    stride
        Pixels from one grid cell to the next; 0 when the grid does not depend on the image.
    non_negative
        Whether no value is below zero, as far as a random trial can tell.
    what
        In words: `ReLU map`, `map`, `tokens`, `keys of attention`.
    """

    node: str
    alias: str | None
    channels: int
    stride: int
    non_negative: bool
    what: str = "map"


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


def _side(backbone: str) -> int:
    """Pixels of the side that every network takes, and some take no other."""
    return family_of(backbone).side(backbone)


def _taller(backbone: str, nodes: tuple[str, ...]) -> tuple[Shape, ...] | None:
    """Shapes for an image `TALLER` pixels higher; None for a network of one size only."""
    side = _side(backbone)
    try:
        return _shapes(backbone, nodes, side + TALLER, side)
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
    (usual,) = _shapes(backbone, node, _side(backbone), _side(backbone))
    (taller,) = _taller(backbone, node) or (None,)
    if _gives_maps(usual, taller):
        return usual[3]
    images = torch.empty(2, 3, _side(backbone), _side(backbone), device="meta")
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
    usual = _side(backbone)
    for pixels in range(min(side, usual), usual + 1):
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
    whole, side = skeleton(backbone), _side(backbone)
    nodes = tuple(whole.layers())
    usual = _shapes(backbone, nodes, side, side)
    taller = _taller(backbone, nodes) or (None,) * len(nodes)
    maps = {
        node: (shape[3], _stride(shape, higher, side))
        for node, shape, higher in zip(nodes, usual, taller, strict=True)
        if _gives_maps(shape, higher)
    }
    names = {whole.find(node): alias for alias, node in reversed(list(aliases(backbone).items()))}
    ends = _trial(backbone, list(maps))
    found = []
    for node, (width, stride) in maps.items():
        lowest, highest, dimensions = ends[node]
        # nothing but zeros: a norm that starts at zero, which says nothing of its sign
        positive = lowest >= 0 and (highest > 0 or _is_relu(whole, node))
        what = _what(whole, node, positive, dimensions)
        found.append(LayerInfo(node, names.get(node), width, stride, positive, what))
    return found


FACETS_IN_WORDS = {
    "query": "queries of attention",
    "key": "keys of attention",
    "value": "values of attention",
}


def _what(whole: Whole, node: str, non_negative: bool, dimensions: int) -> str:
    """A layer in words."""
    facet = node.partition(":")[2]
    if facet:
        return FACETS_IN_WORDS[facet]
    if dimensions == 3:
        return "tokens"
    return "ReLU map" if non_negative and _is_relu(whole, node) else "map"


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
    whole = skeleton(backbone)
    layers = describe_layers(backbone)
    for layer in reversed(layers):
        kind = _kind(whole, layer.node)
        thins = "pool" in kind or "dropout" in kind
        if layer.non_negative and layer.stride and not thins:
            return layer.alias or layer.node
    deepest = [layer.node for layer in layers if layer.stride]
    if not whole.as_graph and deepest:
        # its last features, as its library counts them, else the last of all with a grid
        return aliases(backbone).get("-1") or deepest[-1]
    raise BackboneError(
        f"backbone {backbone!r} has no layer without negative values, which alone can be "
        "factorised: choose another"
    )


def _kind(whole: Whole, node: str) -> str:
    """What an operation does, in lower case: ``maxpool2d``, ``relu``, ``cat``."""
    if not whole.as_graph:
        return type(whole.network.get_submodule(node.partition(":")[0])).__name__.lower()
    operation = whole.nodes[node]
    if operation.op == "call_module":
        return type(whole.network.get_submodule(str(operation.target))).__name__.lower()
    return getattr(operation.target, "__name__", str(operation.target)).lower()


def _stride(usual: Shape, taller: Shape, side: int) -> int:
    assert usual is not None
    if taller is None:
        return round(side / usual[1])
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


def _trial(backbone: str, layers: list[str]) -> dict[str, tuple[float, float, int]]:
    """Smallest and largest value of each layer, and dimensions of its output, by a random trial.

    One forward pass of random images with random weights.
    """
    if not layers:
        return {}
    family, usual = family_of(backbone), _side(backbone)
    with _Unfilled() as unfilled:
        built = build(backbone, "cpu")
    network = Whole(backbone, built, skeleton(backbone)).cut(layers)
    unfilled.fill(network)
    for side in sorted({min(TRIAL, usual), usual}):
        images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        try:
            placed = seen(backbone, images)
            outputs = run(network, placed).items()
            grids = {
                node: (family.to_grid(backbone, one, *placed.shape[2:]), one.ndim)
                for node, one in outputs
            }
            return {
                node: (grid.amin().item(), grid.amax().item(), dimensions)
                for node, (grid, dimensions) in grids.items()
                if grid is not None
            }
        except Exception:  # whatever its forward does with a size
            if side == usual:
                raise
    raise AssertionError("unreachable")


def nearby_relus(backbone: str, node: str, count: int = 3) -> list[str]:
    """The ReLU nodes nearest to a node in the order of execution, nearest first."""
    whole = skeleton(backbone)
    order = {name: place for place, name in enumerate(whole.layers())}
    relus = [name for name in order if _is_relu(whole, name)]
    # of two equally near, the one after: a convolution's own ReLU
    return sorted(relus, key=lambda name: (abs(order[name] - order[node]), -order[name]))[:count]


def _is_relu(whole: Whole, node: str) -> bool:
    if not whole.as_graph:
        return ":" not in node and _ends_in_relu(whole.network.get_submodule(node))
    operation = whole.nodes[node]
    if operation.op == "call_module":
        return _ends_in_relu(whole.network.get_submodule(str(operation.target)))
    return getattr(operation.target, "__name__", str(operation.target)) in RELUS


RELUS = ("relu", "relu_", "relu6")


def _ends_in_relu(module: nn.Module) -> bool:
    """Of a block that is not traced into (convolution, norm, ReLU): its last module is its ReLU."""
    last = list(module.modules())[-1]
    return isinstance(last, nn.ReLU | nn.ReLU6)
