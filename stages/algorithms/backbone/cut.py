"""Where a network's graph is cut behind a layer, so that what comes behind it stands alone."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import fx

from stages.algorithms.backbone.families import family_of
from stages.algorithms.backbone.families.plain import first_line
from stages.algorithms.backbone.family import BackboneError, NoClassifierError
from stages.algorithms.backbone.graph import Traced, prune, run, trace
from stages.algorithms.backbone.layers import channels, full_node, maps_of, side_of
from stages.algorithms.backbone.whole import seen, skeleton


@dataclass(frozen=True)
class Cut:
    """Where a network can be cut.

    Attributes
    ----------
    towards : str
        See `NamingTracer`.
    tap, logits : str
        Names of nodes.
    layout : str
        What the layer gives: ``channels first``, ``channels last`` or ``tokens``.
    """

    towards: str
    tap: str
    logits: str
    layout: str


@lru_cache(maxsize=64)
def cut_at(backbone: str, layer: str) -> Cut:
    """Where the network is cut behind a layer; errors as `head_bytes`."""
    node = full_node(backbone, layer)
    channels(backbone, layer)  # refuses what gives no maps
    if ":" in node:
        raise NoClassifierError(
            f"layer {layer!r} of {backbone} is a part of an attention: what the network makes of "
            "it alone cannot be computed"
        )
    towards = node if skeleton(backbone).way([node]) == "hooks" else ""
    traced = traced_towards(backbone, towards)
    if towards:
        calls = [name for name, one in traced.nodes.items() if one.target == node]
        tap = calls[-1] if calls else ""
    else:
        tap = node
    logits = _logits_of(traced)
    if not tap or traced.nodes[tap] not in _before(traced.nodes[logits], None):
        raise NoClassifierError(f"layer {layer!r} of {backbone}: its logits do not depend on it")
    behind = _before(traced.nodes[logits], traced.nodes[tap])
    if any(one.op == "placeholder" for one in behind):
        near = _nearest(backbone, traced, tap, logits)
        raise NoClassifierError(
            f"layer {layer!r} of {backbone}: another path goes round it to the classes"
            + (f"; {near} would do" if near else "")
        )
    return Cut(towards, tap, logits, _layout(backbone, layer, traced, tap))


@lru_cache(maxsize=16)
def traced_towards(backbone: str, towards: str) -> Traced:
    model = skeleton(backbone)
    if not towards:
        return model.graph
    try:
        return trace(backbone, model.network, towards)
    except BackboneError as error:
        raise NoClassifierError(
            f"layer {towards!r} of {backbone}: what comes behind it cannot be told from the rest "
            f"({first_line(error.__cause__ or error)})"
        ) from error


def _logits_of(traced: Traced) -> str:
    """The node that a network gives."""
    graph = next(iter(traced.nodes.values())).graph
    (end,) = (node for node in graph.nodes if node.op == "output")
    for name, node in traced.nodes.items():
        if node is end.args[0]:
            return name
    raise NoClassifierError(f"backbone {traced.backbone!r} gives no logits [n, classes]")


def _before(node: fx.Node, stop: fx.Node | None) -> set[fx.Node]:
    """All that a node is computed from, and itself; nothing on the far side of `stop`."""
    found: set[fx.Node] = set()
    pending = [node]
    while pending:
        one = pending.pop()
        if one not in found:
            found.add(one)
            pending.extend(() if one is stop else one.all_input_nodes)
    return found


def _nearest(backbone: str, traced: Traced, tap: str, logits: str) -> str:
    """The first node behind one that all paths go through and that has a grid; or nothing."""
    names = list(traced.nodes)
    end = traced.nodes[logits]
    for name in names[names.index(tap) + 1 : names.index(logits)]:
        behind = _before(end, traced.nodes[name])
        if traced.nodes[name] not in behind or any(one.op == "placeholder" for one in behind):
            continue
        if skeleton(backbone).find(name) != name:
            continue  # of the coarse graph alone
        (found,) = maps_of(backbone, (name,))
        if found and found.stride:
            return name
    return ""


def _layout(backbone: str, layer: str, traced: Traced, tap: str) -> str:
    """How the layer's output lies, by what `Family.to_grid` makes of numbered values."""
    side = side_of(backbone)
    images = seen(backbone, torch.empty(2, 3, side, side, device="meta"))
    output = run(prune(traced, [tap]), images)[tap]
    numbered = torch.arange(output.numel(), dtype=torch.float64).reshape(output.shape)
    grid = family_of(backbone).to_grid(backbone, numbered, *images.shape[2:])
    if grid is not None:
        for layout in ("channels first", "channels last", "tokens"):
            back = as_output(grid, layout)
            if back.shape == numbered.shape and torch.equal(back, numbered):
                return layout
    raise NoClassifierError(
        f"layer {layer!r} of {backbone}: tokens that decide about the classes are not kept with "
        "its activations"
    )


def as_output(maps: torch.Tensor, layout: str) -> torch.Tensor:
    """Rows of grids ``[n, h, w, channels]`` as the layer gives them."""
    if layout == "tokens":
        return maps.flatten(1, 2)
    return maps.permute(0, 3, 1, 2) if layout == "channels first" else maps


def network_behind(everything: fx.GraphModule, cut: Cut) -> fx.GraphModule:
    """What comes behind the tap of a network that was pruned to its tap and logits."""
    (end,) = (node for node in everything.graph.nodes if node.op == "output")
    tap, logits = end.args[0][cut.tap], end.args[0][cut.logits]
    needed = _before(logits, tap)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {tap: graph.placeholder("maps")}
    for node in everything.graph.nodes:
        if node in needed and node is not tap:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[logits])
    graph.lint()
    return fx.GraphModule(everything, graph)
