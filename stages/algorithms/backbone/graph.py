"""Networks as graphs: build one by name, trace it, keep only what the tapped layers need."""

import difflib
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import torch
import torchvision
from torch import fx, nn
from torchvision.models.feature_extraction import NodePathTracer

DEMO = "demo"
# torch.fx patches torch's modules while it traces: two traces at once leave them patched
_TRACING = Lock()
TRACED_CONSTANT = "_tensor_constant"  # what torch.fx calls them


class BackboneError(ValueError):
    """A backbone, layer, weights file or image size a user asked for cannot be used.

    The message is one line that says what is wrong and what to do about it.
    """


@cache
def backbone_names() -> tuple[str, ...]:
    """`demo` and every torchvision classification network, by torchvision's own names."""
    return (DEMO, *torchvision.models.list_models(module=torchvision.models))


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`, did you mean 'x' or 'y'?` for the nearest choices, or nothing when none is near."""
    by_lower_case = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), by_lower_case, n=3)
    return f", did you mean {' or '.join(repr(by_lower_case[n]) for n in near)}?" if near else ""


def check_backbone(backbone: str) -> None:
    """Raise `BackboneError` with the nearest names unless `backbone` is known."""
    if backbone not in backbone_names():
        hint = did_you_mean(backbone, backbone_names())
        fallback = "; use demo or a torchvision classification model such as vgg19"
        raise BackboneError(f"unknown backbone {backbone!r}{hint or fallback}")


def build(backbone: str, device: str, seed: int = 0) -> nn.Module:
    """An untrained network in eval mode, without in-place operations.

    Parameters
    ----------
    backbone
        A name from `backbone_names`.
    device
        `meta` (shapes only, instant) or `cpu` (torchvision's own random start).
    seed
        Of that random start; the caller's random state is left as it was.

    Raises
    ------
    BackboneError
        Unknown name.
    """
    check_backbone(backbone)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            with torch.device(device):
                network = _constructor(backbone)()
        except NotImplementedError:
            # RegNet computes its widths with tensors, which have no values on the meta device.
            network = _constructor(backbone)().to(device)
    # The published weights of GoogLeNet and Inception v3 were trained on inputs in [-1, 1];
    # torchvision converts to that only when it loads the weights itself, so say it here.
    if hasattr(network, "transform_input"):
        network.transform_input = True  # type: ignore[assignment]
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return network.eval()


def _constructor(backbone: str) -> Callable[[], nn.Module]:
    if backbone == DEMO:
        from stages.algorithms.demo_network import build_demo_network

        # the features are the same whatever the number of classes
        return lambda: build_demo_network(classes=2)
    builder: Callable[..., nn.Module] = torchvision.models.get_model_builder(backbone)
    # Their own truncated-normal start takes minutes and warns that it will change.
    slow_start = backbone in ("googlenet", "inception_v3")
    options = {"init_weights": False} if slow_start else {}
    return lambda: builder(weights=None, **options)


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


def trace(backbone: str, network: nn.Module) -> Traced:
    """Trace a network in eval mode, with torchvision's rules and node names.

    Only eval mode is traced (torchvision's own extractor also needs a train-mode graph with the
    same nodes, which GoogLeNet and Inception do not have).

    Raises
    ------
    BackboneError
        The network's `forward` cannot be traced.
    """
    operations = vars(torchvision.ops).values()
    leaves = [o for o in operations if isinstance(o, type) and issubclass(o, nn.Module)]
    tracer = NodePathTracer(autowrap_modules=(math, torchvision.ops), leaf_modules=leaves)
    try:
        with _TRACING:
            tracer.trace(network)
    except Exception as error:  # whatever its forward does with a symbolic input
        raise BackboneError(
            f"backbone {backbone!r} cannot be traced ({first_line(error)}): choose another"
        ) from error
    nodes = {
        name: node
        for node, name in tracer.node_to_qualname.items()
        if node.op not in ("placeholder", "output")
    }
    return Traced(backbone, network, nodes)


@cache
def skeleton(backbone: str) -> Traced:
    """The traced network on the meta device: names and shapes without weights. Do not modify."""
    return trace(backbone, build(backbone, "meta"))


def prune(traced: Traced, wanted: Iterable[str]) -> fx.GraphModule:
    """The part of a network that the wanted nodes depend on, and nothing else.

    Parameters
    ----------
    traced
        Its modules are shared, not copied.
    wanted
        Full node names.

    Returns
    -------
    fx.GraphModule
        float32 `[n, 3, h, w]` to a dict from node name to that node's output. No node writes into
        its input, so that a tapped convolution is not overwritten by the ReLU after it.
    """
    outputs = {name: traced.nodes[name] for name in wanted}
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


def run(network: fx.GraphModule, images: torch.Tensor) -> dict[str, Any]:
    """Outputs of a pruned network by node name, under inference mode.

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


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type when it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
