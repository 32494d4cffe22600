"""The rest of a network: from the maps of a layer that is tapped to the logits of its classes.

The network's graph is cut at the layer, and what comes behind it is a network of its own. Of layers
that are tapped as modules (all of timm's) the graph is a coarse one, which `torch.fx` can make of
nearly every network: modules that the layer does not lie in are one operation each. What cannot be
cut (another path goes round the layer, tokens were dropped) is refused, and what was cut is tried:
of the same images it must give what the whole network gives.
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from stages.algorithms.backbone.cut import Cut, as_output, cut_at, network_behind, traced_towards
from stages.algorithms.backbone.families import family_of
from stages.algorithms.backbone.family import BackboneError, ClassNames, NoClassifierError
from stages.algorithms.backbone.graph import build, prune, run, trace
from stages.algorithms.backbone.layers import channels, full_node, side_of
from stages.algorithms.backbone.memory import peak_bytes
from stages.algorithms.backbone.network import fill, load_backbone
from stages.algorithms.backbone.precision import convolutions
from stages.algorithms.backbone.weights import digest, parse_weights, read, used_tensors
from stages.algorithms.backbone.whole import seen, skeleton

# How far logits of the same images may be apart, of the largest: operations in another order.
TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Head:
    """The rest of a network behind a layer; made by `load_head`.

    Attributes
    ----------
    backbone, layer : str
    classes : int
        Number of logits.
    names : ClassNames or None
        What they are called; None where nobody says.
    digest : str
        SHA-256 of the tensors of the whole network, down to the logits.
    device : torch.device
    """

    backbone: str
    layer: str
    classes: int
    names: ClassNames | None
    digest: str
    device: torch.device
    _network: fx.GraphModule
    _layout: str  # of the layer's output: see `Cut`

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """Logits of some maps, differentiable.

        Parameters
        ----------
        maps
            float32 ``[n, h, w, channels]``, as `Backbone` gives them, on `device`.

        Returns
        -------
        tensor
            float32 ``[n, classes]``.
        """
        exact = convolutions(tf32=False) if self.device.type == "cuda" else nullcontext()
        with exact:
            logits: torch.Tensor = self._network.forward(as_output(maps, self._layout))
        return logits

    def only(self, classes: Sequence[int], maps: torch.Tensor) -> "Head":
        """The same with the logits of some classes alone, in this order.

        The last layer computes no others, where that is all that it takes: of SqueezeNet that is
        nearly all of the work. Else they are chosen in the end.

        Parameters
        ----------
        maps
            Some, as `__call__` takes them: what is made is tried on them.
        """
        chosen = torch.tensor(list(classes), device=self.device)
        with torch.no_grad():
            wanted = self(maps)[:, chosen]
            for change in (_narrowed, _picked):
                network = change(self._network, self.classes, chosen)
                if network is None:
                    continue
                head = replace(self, classes=len(classes), names=None, _network=network)
                if _alike(head, maps, wanted):
                    return head
        raise AssertionError("a choice of logits is none")


def load_head(
    backbone: str, layer: str, weights: str, device: str = "cpu", trunk: str = ""
) -> Head:
    """The rest of a network behind a layer, with its weights.

    Parameters
    ----------
    backbone, layer, weights, device
        As for `load_backbone`.
    trunk
        `Backbone.layer_digests` of the layer, of the network whose maps it is to be given; empty:
        not compared.

    Raises
    ------
    BackboneError
        It is of another network, or cannot be read; a `NoClassifierError` where there is none.
    """
    source = parse_weights(backbone, weights)
    if weights.startswith("random:"):
        raise NoClassifierError(f"weights {weights}: the classes of a random start mean nothing")
    cut, model = cut_at(backbone, layer), skeleton(backbone)
    if source.seed is not None:
        network = build(backbone, "cpu", source.seed)
    else:  # what a module computes when it is made, or tracing freezes, is in no weights file
        values = model.has_unsaved or traced_towards(backbone, cut.towards).has_constants
        network = build(backbone, "cpu" if values else "meta")
    traced = trace(backbone, network, cut.towards)
    everything = prune(traced, [cut.tap, cut.logits])
    trunk_only = used_tensors(prune(traced, [cut.tap])).keys()
    if source.seed is None:
        _as_many_classes(everything, read(source).tensors)
        try:
            fill(everything, backbone, source, weights)
        except BackboneError as error:
            load_backbone(backbone, [layer], weights)  # where it does not fit at all, it says so
            missing = [one for one in used_tensors(everything) if one not in trunk_only]
            raise NoClassifierError(
                f"weights {weights} have no classifier of {backbone} ({', '.join(missing[:2])})"
            ) from error
    mine = model.used(full_node(backbone, layer)) if cut.towards else trunk_only
    if trunk and digest(everything, mine) != trunk:
        raise BackboneError(
            f"weights {weights} are not those that the activations of {layer} were made with"
        )
    place = torch.device(device)
    head = Head(backbone, layer, 0, None, digest(everything), torch.device("cpu"),
                network_behind(everything, cut), cut.layout)  # fmt: skip
    head = replace(head, classes=_tried(head, everything, cut))
    names = family_of(backbone).class_names(backbone, weights, head.classes)
    head._network.to(place).requires_grad_(False)
    return replace(head, names=names, device=place)


def head_bytes(backbone: str, layer: str, grid: tuple[int, int]) -> tuple[int, int]:
    """Bytes of a network's weights, and what its rest holds at most for one map of a grid.

    Raises
    ------
    NoClassifierError
        There is none, as far as can be known without weights.
    """
    cut = cut_at(backbone, layer)
    whole = prune(traced_towards(backbone, cut.towards), [cut.tap, cut.logits])
    maps = torch.empty(2, *grid, channels(backbone, layer), device="meta")
    held = peak_bytes(network_behind(whole, cut), as_output(maps, cut.layout)) // 2
    return sum(one.nbytes for one in used_tensors(whole).values()), held


def _as_many_classes(network: fx.GraphModule, tensors: Mapping[str, torch.Tensor]) -> None:
    """Let the last layer have as many classes as a weights file has: of a fine-tuned network."""
    weighing = [(path, one) for path, one in network.named_modules()
                if isinstance(one, nn.Linear | nn.Conv2d)]  # fmt: skip
    if not weighing:
        return
    path, last = weighing[-1]
    for name, one in list(last.named_parameters(recurse=False)):
        whole = f"{path}.{name}"
        given = [t for n, t in tensors.items() if n == whole or n.endswith(f".{whole}")]
        if len(given) == 1 and given[0].shape[1:] == one.shape[1:]:
            empty = torch.empty(given[0].shape, device=one.device)
            last._parameters[name] = nn.Parameter(empty, requires_grad=False)


def _last(network: fx.GraphModule) -> tuple[str, nn.Module] | None:
    """Path of the last layer with weights, when it is one that weighs inputs; and itself."""
    for node in reversed(network.graph.nodes):
        if node.op == "call_module":
            last = network.get_submodule(str(node.target))
            if isinstance(last, nn.Linear | nn.Conv2d):
                return str(node.target), last
            if any(True for _ in last.parameters()):
                return None
    return None


def _tried(head: Head, everything: fx.GraphModule, cut: Cut) -> int:
    """Number of classes, when the head gives what the whole network gives for some images."""
    side = side_of(head.backbone)
    noise = torch.Generator().manual_seed(0)
    images = seen(head.backbone, torch.randn(2, 3, side, side, generator=noise))
    outputs = run(everything, images)
    wanted = outputs[cut.logits]
    if not isinstance(wanted, torch.Tensor) or wanted.ndim != 2 or len(wanted) != 2:
        raise NoClassifierError(f"backbone {head.backbone!r} gives no logits [n, classes]")
    if not any(one.ndim > 1 and len(one) == wanted.shape[1] for one in head._network.parameters()):
        raise NoClassifierError(f"backbone {head.backbone!r} has no classifier, features alone")
    family = family_of(head.backbone)
    grid = family.to_grid(head.backbone, outputs[cut.tap], *images.shape[2:])
    assert grid is not None  # asked when it was cut
    with torch.inference_mode():
        if not _alike(head, grid.contiguous(), wanted):
            raise NoClassifierError(
                f"layer {head.layer!r} of {head.backbone}: what comes behind it gives other "
                "classes than the whole network"
            )
    return int(wanted.shape[1])


def _alike(head: Head, maps: torch.Tensor, wanted: torch.Tensor) -> bool:
    try:
        found = head(maps)
    except (RuntimeError, TypeError, ValueError):  # of a shape that does not fit
        return False
    if found.shape != wanted.shape:
        return False
    scale = float(wanted.abs().max()) or 1.0
    return bool(torch.isfinite(found).all()) and float((found - wanted).abs().max()) <= (
        TOLERANCE * scale
    )


def _narrowed(network: fx.GraphModule, classes: int, chosen: torch.Tensor) -> fx.GraphModule | None:
    """The network whose last layer with weights has those of some classes alone; None for none."""
    found = _last(network)
    if found is None:
        return None
    path, last = found
    if any(one.shape[0] != classes for one in last.parameters()):
        return None
    narrow = copy.copy(last)
    narrow._parameters = {
        name: None if one is None else nn.Parameter(one[chosen], requires_grad=False)
        for name, one in last._parameters.items()
    }
    made = fx.GraphModule(network, copy.deepcopy(network.graph))
    made.set_submodule(path, narrow)
    return made


def _picked(network: fx.GraphModule, classes: int, chosen: torch.Tensor) -> fx.GraphModule:
    """The network with some of its logits picked in the end."""
    made = fx.GraphModule(network, copy.deepcopy(network.graph))
    made.register_buffer("chosen_classes", chosen)
    (end,) = (node for node in made.graph.nodes if node.op == "output")
    with made.graph.inserting_before(end):
        which = made.graph.get_attr("chosen_classes")
        arguments: tuple[Any, ...] = (end.args[0], 1, which)
        end.args = (made.graph.call_function(torch.index_select, arguments),)
    made.recompile()
    return made
