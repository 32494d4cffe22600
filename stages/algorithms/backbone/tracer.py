"""Tracing a network with torchvision's names of nodes, without torchvision.

It takes longer to load than torch itself, and only its own networks need it.
"""

import math
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import fx, nn


class NamingTracer(fx.Tracer):
    """Names every operation by the module whose ``forward`` it is in, as torchvision does.

    A module that is not traced into goes by its path, ``features.3``; what else a ``forward`` does
    by the path of that module and the name of the operation, ``layer4.2.add``. What comes again
    gets a number: ``relu``, ``relu_1``.

    Parameters
    ----------
    towards : str
        A module's path: only those that it lies in are traced into, and all others are one
        operation each, whatever their ``forward`` does. By default as torch.fx does.

    Attributes
    ----------
    names : dict of node to str
        In the order of execution; input and output of the network among them.
    """

    def __init__(self, towards: str = "") -> None:
        operations = torchvision_operations()
        super().__init__(autowrap_modules=(math, *operations))  # type: ignore[arg-type]
        self._leaves = tuple(
            one
            for module in operations
            for one in vars(module).values()
            if isinstance(one, type) and issubclass(one, nn.Module)
        )
        self._towards = towards
        self._module = ""
        self._last: dict[str, int] = {}
        self.names: dict[fx.Node, str] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Not traced into: torch's own modules, and torchvision's operations."""
        if self._towards:
            return not self._towards.startswith(f"{module_qualified_name}.")
        return isinstance(m, self._leaves) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """See `fx.Tracer`; keeps in mind whose ``forward`` it is in."""
        outside, self._module = self._module, self.path_of_module(m)
        try:
            return super().call_module(m, forward, args, kwargs)
        finally:
            self._module = outside

    def create_proxy(self, *args: Any, **kwargs: Any) -> fx.Proxy:
        """See `fx.Tracer`; names the node."""
        proxy = super().create_proxy(*args, **kwargs)
        self.names[proxy.node] = self._name(proxy.node)
        return proxy

    def _name(self, node: fx.Node) -> str:
        parts = [self._module] if self._module else []
        if node.op != "call_module":
            parts.append(str(node))
        # numbers of torch.fx count over the whole network; these count below one module
        name = re.sub(r"(?<=.)_[0-9]+$", "", ".".join(parts))
        times = self._last[name] = self._last.get(name, -1) + 1
        return f"{name}_{times}" if times else name


def torchvision_operations() -> tuple[ModuleType, ...]:
    """``torchvision.ops``, where it is loaded: a network that has any of them has loaded it."""
    module = sys.modules.get("torchvision.ops")
    return (module,) if module else ()
