"""Which layers a backbone has and what they are: what `dff show-model` lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from stages.algorithms.backbone.families import family_of
from stages.algorithms.backbone.family import BackboneError
from stages.algorithms.backbone.graph import build, run
from stages.algorithms.backbone.layers import aliases, full_node, maps_of, side_of
from stages.algorithms.backbone.whole import Whole, seen, skeleton

TRIAL = 96  # pixels of a side that is enough to see signs, where a network takes it
LARGE = 8_000_000  # weights of one layer


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
    whole = skeleton(backbone)
    nodes = tuple(whole.layers())
    maps = {node: one for node, one in zip(nodes, maps_of(backbone, nodes), strict=True) if one}
    names = {whole.find(node): alias for alias, node in reversed(list(aliases(backbone).items()))}
    found = []
    for node, tried in _trial(backbone, list(maps)).items():
        positive = _is_positive(whole, node, tried)
        what, one = _what(whole, node, positive, tried.dimensions), maps[node]
        alias = names.get(node)
        found.append(LayerInfo(node, alias, one.channels, one.stride, positive, what))
    return found


@cache
def _signed(backbone: str, nodes: tuple[str, ...]) -> frozenset[str]:
    """Those of some layers (full names) that have values below zero: one trial down to them."""
    whole = skeleton(backbone)
    tried = _trial(backbone, nodes)
    return frozenset(node for node in tried if not _is_positive(whole, node, tried[node]))


def signed_layers(backbone: str, layers: Sequence[str]) -> list[str]:
    """Those of some layers that have values below zero, as `describe_layers` tries it.

    The network is tried only as deep as they are, and once.

    Raises
    ------
    BackboneError
        Unknown backbone or layer.
    """
    nodes = {layer: full_node(backbone, layer) for layer in layers}
    signed = _signed(backbone, tuple(sorted(nodes.values())))
    return [layer for layer, node in nodes.items() if node in signed]


class _Tried(NamedTuple):
    """Smallest and largest value of a layer, and dimensions of its output."""

    lowest: float
    highest: float
    dimensions: int


def _is_positive(whole: Whole, node: str, tried: _Tried) -> bool:
    # nothing but zeros: a norm that starts at zero, which says nothing of its sign
    return tried.lowest >= 0 and (tried.highest > 0 or _is_relu(whole, node))


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

    Of a network whose layers are nodes of its graph that is the deepest that has a grid, by its
    alias where it has one; what pools or drops the values of another is passed over. Of others the
    deepest of these without negative values, if it is as coarse as their last features.

    Raises
    ------
    BackboneError
        Unknown backbone, or none of its layers fits.
    """
    known = family_of(backbone).default_layer(backbone, skeleton(backbone).network)
    if known:
        return known
    whole = skeleton(backbone)
    if whole.as_graph:
        return _deepest(whole)
    layers = describe_layers(backbone)
    features = aliases(backbone).get("-1")  # the last, as a library counts them
    coarsest = next((one.stride for one in layers if one.node == features), 0)
    for layer in reversed(layers):
        fits = layer.non_negative and layer.stride and layer.stride >= coarsest
        if fits and not _thins(whole, layer.node):
            return layer.node
    deepest = [layer.node for layer in layers if layer.stride]
    if deepest:
        return features or deepest[-1]
    raise _without_grid(backbone)


def _deepest(whole: Whole) -> str:
    """The deepest node with a grid, from shapes alone: no weights are drawn for it."""
    backbone, nodes = whole.backbone, tuple(whole.layers())
    for node, found in reversed(list(zip(nodes, maps_of(backbone, nodes), strict=True))):
        if found and found.stride and not _thins(whole, node):
            named = (alias for alias, of in aliases(backbone).items() if whole.find(of) == node)
            return next(named, node)
    raise _without_grid(backbone)


def _without_grid(backbone: str) -> BackboneError:
    return BackboneError(f"backbone {backbone!r} has no layer with a grid: choose another")


def _thins(whole: Whole, node: str) -> bool:
    """Whether it only pools or drops the values of another."""
    kind = _kind(whole, node)
    return "pool" in kind or "dropout" in kind


def _kind(whole: Whole, node: str) -> str:
    """What an operation does, in lower case: ``maxpool2d``, ``relu``, ``cat``."""
    if not whole.as_graph:
        return type(whole.network.get_submodule(node.partition(":")[0])).__name__.lower()
    operation = whole.nodes[node]
    if operation.op == "call_module":
        return type(whole.network.get_submodule(str(operation.target))).__name__.lower()
    return getattr(operation.target, "__name__", str(operation.target)).lower()


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


def _trial(backbone: str, layers: Sequence[str]) -> dict[str, _Tried]:
    """What each layer gives in a random trial.

    One forward pass of random images with random weights.
    """
    if not layers:
        return {}
    family, usual = family_of(backbone), side_of(backbone)
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
                node: _Tried(grid.amin().item(), grid.amax().item(), dimensions)
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
