"""A network whole, and the two ways to cut it behind what is tapped: its graph, or hooks."""

from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from typing import Any

import torch
from torch import fx, nn

from stages.algorithms.backbone.families import family_of
from stages.algorithms.backbone.families.plain import first_line
from stages.algorithms.backbone.family import BackboneError
from stages.algorithms.backbone.graph import Traced, build, prune, run, trace
from stages.algorithms.backbone.hooks import (
    FACETS,
    Tapped,
    has_facets,
    surveyed,
    used_names,
)

TOKEN = "token"  # the facet of a block that is its output

Cut = fx.GraphModule | Tapped


class Whole:
    """A network in eval mode that can be tapped.

    Parameters
    ----------
    backbone
        Its name.
    network
        As `build` gives it.
    model
        The same network on the meta device, where this one has values: it is asked about names.
    """

    def __init__(self, backbone: str, network: nn.Module, model: "Whole | None" = None) -> None:
        self.backbone, self.network = backbone, network
        self._model = model or self
        self._modules_first = family_of(backbone).modules_first

    @property
    def nodes(self) -> Mapping[str, fx.Node]:
        """Every operation by torchvision's node name.

        Raises
        ------
        BackboneError
            No graph can be made of the network.
        """
        return self.graph.nodes

    @cached_property
    def graph(self) -> Traced:
        """The network's graph; raises as `trace`."""
        return trace(self.backbone, self.network)

    @cached_property
    def has_graph(self) -> bool:
        """Whether one can be made."""
        if self._model is not self:
            return self._model.has_graph
        try:
            return bool(self.graph.nodes)
        except BackboneError:
            return False

    @cached_property
    def calls(self) -> Mapping[str, int]:
        """How often a pass calls each module, in the order in which they are done."""
        if self._model is not self:
            return self._model.calls
        side = family_of(self.backbone).side(self.backbone)
        images = torch.empty(2, 3, side, side, device=_device_of(self.network))
        try:
            return surveyed(self.network, seen(self.backbone, images))
        except Exception as error:
            raise BackboneError(
                f"backbone {self.backbone!r} does not run on images of {side}x{side} pixels "
                f"({first_line(error)}): choose another"
            ) from error

    @property
    def as_graph(self) -> bool:
        """Whether its layers are nodes of its graph before they are modules."""
        return not self._modules_first and self.has_graph

    def layers(self) -> list[str]:
        """Full names of all that may be tapped, in the order of execution."""
        if self.as_graph:
            return list(self.nodes)
        found = []
        for path in self.calls:
            module = self.network.get_submodule(path)
            if isinstance(module, nn.Identity | nn.Dropout):
                continue
            found.append(path)
            if has_facets(module):
                found += [f"{path}:{facet}" for facet in FACETS]
        return found

    def find(self, layer: str) -> str | None:
        """The full name of what a layer means, or None; see `Traced.find` for truncated names."""
        path, colon, facet = layer.partition(":")
        if colon:
            if path not in self.calls or not has_facets(self.network.get_submodule(path)):
                return None
            return self.find(path.rpartition(".")[0]) if facet == TOKEN else _facet(path, facet)
        if self._modules_first and layer in self.calls:
            return layer
        found = self.graph.find(layer) if self.has_graph else None
        return layer if found is None and layer in self.calls else found

    def way(self, nodes: Iterable[str]) -> str:
        """How these are tapped in one pass: ``graph`` or ``hooks``.

        Raises
        ------
        BackboneError
            Some are nodes of the graph alone, and others are none.
        """
        nodes = tuple(nodes)
        for hooks in (self._modules_first, not self._modules_first):
            if hooks and all(node.partition(":")[0] in self.calls for node in nodes):
                return "hooks"
            if not hooks and self.has_graph and not self._not_in_graph(nodes):
                return "graph"
        inner = self._not_in_graph(nodes) if self.has_graph else nodes
        raise BackboneError(
            f"layers {' and '.join(map(repr, inner))} of {self.backbone} are not in its graph, "
            "which the others are taken from: extract them by themselves"
        )

    def _not_in_graph(self, nodes: Iterable[str]) -> list[str]:
        return [node for node in nodes if self._model.graph.find(node) is None]

    def cut(self, nodes: Iterable[str], *, to_load: bool = False) -> Cut:
        """The network down to some nodes (full names): images to a dict of outputs by node.

        Parameters
        ----------
        to_load
            It gets weights, and so must know which of its tensors it computes with.
        """
        nodes = tuple(dict.fromkeys(nodes))
        if self.way(nodes) == "graph":
            return prune(self.graph, nodes)
        used = _used(self.backbone, nodes) if to_load else None
        return Tapped(self.network, nodes, self.calls, used)

    def used(self, node: str) -> frozenset[str]:
        """Names of the tensors that one node depends on, for a node tapped by a hook."""
        return _used(self.backbone, (node,))

    @property
    def has_unsaved(self) -> bool:
        """Whether some of its buffers are in no state dict, and need the values it starts with."""
        saved = self.network.state_dict().keys()
        return any(name not in saved for name, _ in self.network.named_buffers())


def _facet(path: str, facet: str) -> str | None:
    return f"{path}:{facet}" if facet in FACETS else None


def _device_of(network: nn.Module) -> torch.device:
    return next((one.device for one in network.parameters()), torch.device("cpu"))


@cache
def skeleton(backbone: str) -> Whole:
    """The network on the meta device: names and shapes without weights. Do not modify."""
    whole = Whole(backbone, build(backbone, "meta"))
    if whole.as_graph:
        whole.nodes  # noqa: B018 - traced before a ReLU is no longer one
    for module in whole.network.modules():
        if isinstance(module, nn.ReLU):
            # as torch has it on the meta device, it would load all of torch's compiler
            module.forward = torch.empty_like  # type: ignore[method-assign]
    return whole


@cache
def _used(backbone: str, nodes: tuple[str, ...]) -> frozenset[str]:
    whole = skeleton(backbone)
    side = family_of(backbone).side(backbone)
    images = torch.empty(2, 3, side, side, device="meta")
    tapped = Tapped(whole.network, nodes, whole.calls)
    return used_names(tapped, seen(backbone, images))


def seen(backbone: str, images: torch.Tensor) -> torch.Tensor:
    """Images ``[n, 3, h, w]`` as the network sees them: see `Family.seen_at`."""
    height, width = images.shape[2:]
    shape = family_of(backbone).seen_at(backbone, height, width)
    if shape == (height, width):
        return images
    resampled = nn.functional.interpolate(images.float(), shape, mode="bilinear")
    return resampled.to(images.dtype)


def look(backbone: str, cut: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor | None]:
    """What a cut network gives for images, by node as rows of a grid ``[n, h, w, channels]``.

    None for an output that is no tensor or has no grid.
    """
    family = family_of(backbone)
    with torch.inference_mode():
        placed = seen(backbone, images)
    height, width = placed.shape[2:]
    return {
        node: family.to_grid(backbone, one, height, width) if _is_tensor(one) else None
        for node, one in run(cut, placed).items()
    }


def _is_tensor(output: Any) -> bool:
    return isinstance(output, torch.Tensor)
