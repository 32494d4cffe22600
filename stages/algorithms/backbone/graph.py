"""Networks as graphs: build one by name, trace it, keep only what the tapped layers need."""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import fx, nn

from stages.algorithms.backbone.families import family_of
from stages.algorithms.backbone.families.plain import first_line
from stages.algorithms.backbone.family import BackboneError
from stages.algorithms.backbone.tracer import NamingTracer

# torch.fx patches torch's modules while it traces: two traces at once leave them patched
_TRACING = Lock()
TRACED_CONSTANT = "_tensor_constant"  # what torch.fx calls them


def build(backbone: str, device: str, seed: int = 0) -> nn.Module:
    """An untrained network in eval mode, without in-place operations.

    Parameters
    ----------
    backbone
        A name from `backbone_names`.
    device
        `meta` (shapes only, instant) or `cpu` (its own random start).
    seed
        Of that random start; the caller's random state is left as it was.

    Raises
    ------
    BackboneError
        Unknown name.
    """
    family = family_of(backbone)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            with torch.device(device):
                network = family.build(backbone)
        except (NotImplementedError, RuntimeError):
            if device != "meta":
                raise
            # RegNet computes its widths with tensors, which have no values on the meta device.
            network = family.build(backbone).to(device)
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return network.eval()


@dataclass(frozen=True, eq=False)
class Traced:
    """A network and its graph in eval mode.

    Attributes
    ----------
    nodes
        Every operation by torchvision's node name, in the order of execution. The graph's input
        and output are not operations.
    """

    backbone: str
    network: nn.Module
    nodes: Mapping[str, fx.Node]

    def find(self, layer: str) -> str | None:
        """The full name of the node `layer` means, or None.

        As in torchvision, a truncated name means the last node below it: `layer4` of ResNet-18
        is `layer4.1.relu_1`.
        """
        if layer in self.nodes:
            return layer
        below = [name for name in self.nodes if name.startswith(f"{layer}.")]
        return below[-1] if below else None

    @property
    def has_constants(self) -> bool:
        """Whether tracing froze tensors computed in `forward` into the graph."""
        return any(
            node.op == "get_attr" and str(node.target).startswith(TRACED_CONSTANT)
            for node in self.nodes.values()
        )


def trace(backbone: str, network: nn.Module, towards: str = "") -> Traced:
    """Trace a network in eval mode, with torchvision's rules and node names.

    Only eval mode is traced (torchvision's own extractor also needs a train-mode graph with the
    same nodes, which GoogLeNet and Inception do not have).

    Parameters
    ----------
    towards
        See `NamingTracer`.

    Raises
    ------
    BackboneError
        The network's `forward` cannot be traced.
    """
    tracer = NamingTracer(towards)
    try:
        with _TRACING:
            tracer.trace(network)
    except Exception as error:  # whatever its forward does with a symbolic input
        raise BackboneError(
            f"backbone {backbone!r} cannot be traced ({first_line(error)}): choose another"
        ) from error
    nodes = {
        name: node
        for node, name in tracer.names.items()
        if node.op not in ("placeholder", "output")
    }
    return Traced(backbone, network, nodes)


def prune(traced: Traced, wanted: Iterable[str]) -> fx.GraphModule:
    """The part of a network that the wanted nodes depend on, and nothing else.

    Parameters
    ----------
    traced
        Its modules are shared, not copied.
    wanted
        Node names, full or truncated.

    Returns
    -------
    fx.GraphModule
        float32 `[n, 3, h, w]` to a dict from node name to that node's output. No node writes into
        its input, so that a tapped convolution is not overwritten by the ReLU after it.
    """
    outputs = {name: traced.nodes[traced.find(name) or name] for name in wanted}
    needed: set[fx.Node] = set()
    pending = list(outputs.values())
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending.extend(node.all_input_nodes)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    whole = next(iter(outputs.values())).graph
    for node in whole.nodes:
        if node in needed or node.op == "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
            _make_out_of_place(copies[node])
    graph.output({name: copies[node] for name, node in outputs.items()})
    graph.lint()
    return fx.GraphModule(traced.network, graph)


def run(network: nn.Module, images: torch.Tensor) -> dict[str, Any]:
    """Outputs of a network that was cut, by node name, under inference mode.

    `forward` is called as it is: calling the module prints a traceback to stderr before raising.
    """
    with torch.inference_mode():
        outputs: dict[str, Any] = network.forward(images)
    return outputs


_OUT_OF_PLACE: dict[Any, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    torch.relu_: torch.relu,
    nn.functional.relu_: torch.relu,
}


def _make_out_of_place(node: fx.Node) -> None:
    """Turn `relu(x, inplace=True)`, `x += y` and `x.relu_()` into their pure forms."""
    if node.op == "call_function":
        node.target = _OUT_OF_PLACE.get(node.target, node.target)
        if node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
    elif node.op == "call_method":
        method = str(node.target)
        if method.endswith("_") and not method.endswith("__"):
            node.target = method[:-1]
