"""Networks as they are, with hooks where they are tapped: for those that no graph can be made of.

A pass ends with the last layer that is tapped: what would come after it is never run. Layers are
modules by their paths, and facets of attention: ``blocks.11.attn:key``.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

FACETS = ("query", "key", "value")
# What libraries call the three projections of an attention, where they are modules of their own.
SEPARATE = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("to_q", "to_k", "to_v"),
    ("q", "k", "v"),
)
Projection = tuple[torch.Tensor, torch.Tensor | None]


class _Reached(Exception):
    """All that is tapped is there."""


@dataclass
class _Pass:
    """One thread's way through a network."""

    owner: object
    left: int
    calls: Counter[str] = field(default_factory=Counter)
    outputs: dict[str, Any] = field(default_factory=dict)


_RUNNING = threading.local()  # `_Pass` of each thread: several go through one network at once


class Tapped(nn.Module):
    """A network that gives what some of its layers give, and stops after the last of them.

    Parameters
    ----------
    network
        Shared, not copied; it gets hooks.
    nodes
        Paths of modules, with a facet where one is meant.
    calls
        How often a whole pass calls each module: its last call counts.
    used
        Names of the tensors that decide the output; all, unless somebody knows.
    """

    def __init__(
        self,
        network: nn.Module,
        nodes: Iterable[str],
        calls: Mapping[str, int],
        used: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self._nodes, self._calls, self._used = tuple(dict.fromkeys(nodes)), calls, used
        for node in self._nodes:
            path, _, facet = node.partition(":")
            module = network.get_submodule(path)
            if facet:
                before = partial(self._before, node, path, facet)
                module.register_forward_pre_hook(before, with_kwargs=True)
            else:
                module.register_forward_hook(partial(self._after, node))

    def forward(self, images: torch.Tensor) -> dict[str, Any]:
        """Outputs by node, of images ``[n, 3, h, w]``."""
        running, outside = _Pass(self, len(self._nodes)), getattr(_RUNNING, "one", None)
        _RUNNING.one = running
        try:
            self.network(images)
        except _Reached:
            pass
        finally:
            _RUNNING.one = outside
        missing = [node for node in self._nodes if node not in running.outputs]
        if missing:
            raise RuntimeError(f"{missing[0]} is not reached")
        return running.outputs

    def _before(
        self, node: str, path: str, facet: str, module: nn.Module, args: Any, kwargs: Any
    ) -> None:
        running = getattr(_RUNNING, "one", None)
        if running is None or running.owner is not self or not self._is_last(running, node, path):
            return
        projection = projection_of(module, facet)
        assert projection is not None  # `has_facets` was asked
        given = next(one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor))
        self._keep(running, node, nn.functional.linear(given, *projection))

    def _after(self, node: str, module: nn.Module, args: Any, output: Any) -> None:
        running = getattr(_RUNNING, "one", None)
        if running is None or running.owner is not self or not self._is_last(running, node, node):
            return
        output = first_tensor(output)
        if running.left > 1 and isinstance(output, torch.Tensor):
            output = output.clone()  # what comes next may write into it
        self._keep(running, node, output)

    def _is_last(self, running: _Pass, node: str, path: str) -> bool:
        running.calls[node] += 1
        return running.calls[node] == self._calls.get(path, 1)

    def _keep(self, running: _Pass, node: str, output: Any) -> None:
        running.outputs[node] = output
        running.left -= 1
        if not running.left:
            raise _Reached

    def drop_unused(self) -> None:
        """Let go of parameters that nothing tapped depends on; buffers without values get zeros."""
        assert self._used is not None
        for path, module in self.network.named_modules():
            prefix = f"{path}." if path else ""
            for name in module._parameters:
                if prefix + name not in self._used:
                    module._parameters[name] = None
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_meta and prefix + name not in self._used:
                    module._buffers[name] = torch.zeros_like(buffer, device="cpu")

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Of the tensors that are used, by the network's own names."""
        state = self.network.state_dict()
        return {name: t for name, t in state.items() if self._used is None or name in self._used}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """The same the other way round."""
        return self.network.load_state_dict(state_dict, strict=False, assign=assign)


def first_tensor(output: Any) -> Any:
    """An output, or of several that come together the first."""
    if isinstance(output, tuple | list) and output:
        return first_tensor(output[0])
    return output


def has_facets(module: nn.Module) -> bool:
    """Whether a module is an attention whose projections can be told apart."""
    return projection_of(module, "key") is not None


def projection_of(module: nn.Module, facet: str) -> Projection | None:
    """Weight and bias that make queries, keys or values of an attention's input.

    Heads lie side by side; values are as before a norm or a rotation of them.

    Returns
    -------
    tuple or None
        Float ``[heads * width, channels]`` and ``[heads * width]`` or None; None for what is no
        attention of a known kind.
    """
    at = FACETS.index(facet)
    together = getattr(module, "qkv", None)
    if isinstance(together, nn.Linear) and together.out_features % 3 == 0:
        size = together.out_features // 3
        bias = together.bias
        if bias is not None:
            return together.weight[at * size : (at + 1) * size], bias[at * size : (at + 1) * size]
        own = getattr(module, ("q_bias", "k_bias", "v_bias")[at], None)  # BEiT's and EVA's
        return together.weight[at * size : (at + 1) * size], own
    for names in SEPARATE:
        three = [getattr(module, name, None) for name in names]
        if all(isinstance(one, nn.Linear) for one in three):
            return three[at].weight, three[at].bias  # type: ignore[union-attr]
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        rows = slice(at * module.embed_dim, (at + 1) * module.embed_dim)
        bias = module.in_proj_bias
        return module.in_proj_weight[rows], None if bias is None else bias[rows]
    return None


def surveyed(network: nn.Module, images: torch.Tensor) -> dict[str, int]:
    """How often a pass calls each module, in the order in which they are done for the last time."""
    calls: dict[str, int] = {}

    def done(path: str, module: nn.Module, args: Any, output: Any) -> None:
        calls[path] = calls.pop(path, 0) + 1

    modules = [(path, one) for path, one in network.named_modules() if path]
    hooks = [one.register_forward_hook(partial(done, path)) for path, one in modules]
    try:
        with torch.inference_mode():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


class _Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Calls back with the arguments and results of every operation."""

    def __init__(self, seen: Callable[[Any, Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # see torch.utils._python_dispatch
        output = func(*args, **(kwargs or {}))
        self._seen((args, kwargs), output)
        return output


def watching(seen: Callable[[Any, Any], None]) -> AbstractContextManager[Any]:
    """Have `seen` called with (arguments, result) of every operation of torch's meanwhile."""
    return _Watching(seen)


def used_names(tapped: Tapped, images: torch.Tensor) -> frozenset[str]:
    """Names of the parameters and buffers that a pass computes with."""
    network = tapped.network
    named: dict[int, list[str]] = {}
    tensors = [
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in tensors:
        named.setdefault(id(tensor), []).append(name)
    used: set[str] = set()

    def seen(arguments: Any, output: Any) -> None:
        for one in torch.utils._pytree.tree_leaves(arguments):
            used.update(named.get(id(one), ()))

    with torch.inference_mode(), watching(seen):
        tapped.forward(images)
    return frozenset(used)
