"""How much memory a forward pass takes, without running it."""

import weakref
from typing import Any

import torch
from torch import fx, nn

from stages.algorithms.backbone.hooks import watching
from stages.algorithms.backbone.layers import full_node, shape_graph
from stages.algorithms.backbone.whole import seen


class _Peak(fx.Interpreter):
    """Runs a graph on the meta device and notes the most bytes that were alive at once."""

    peak = 0

    def run_node(self, n: fx.Node) -> Any:
        """One operation: its inputs, its output and all that is still needed are alive."""
        output = super().run_node(n)
        alive = {id(value): value for value in [*self.env.values(), output]}
        sizes = (value.nbytes for value in alive.values() if isinstance(value, torch.Tensor))
        self.peak = max(self.peak, sum(sizes))
        return output


class _Alive:
    """The same of a network without a graph, from what its operations give: bytes by storage."""

    def __init__(self, images: torch.Tensor) -> None:
        self.now = self.peak = images.nbytes
        self._users: dict[int, int] = {}

    def seen(self, arguments: Any, output: Any) -> None:
        """One operation's results; a view lives in the storage of another tensor."""
        for one in torch.utils._pytree.tree_leaves(output):
            if isinstance(one, torch.Tensor):
                storage = one.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self._users:
                    self.now += size
                self._users[key] = self._users.get(key, 0) + 1
                weakref.finalize(one, self._gone, key, size)
        self.peak = max(self.peak, self.now)

    def _gone(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self.now -= size


def forward_bytes(
    backbone: str, layers: tuple[str, ...], batch: int, height: int, width: int
) -> tuple[int, int]:
    """Peak bytes of a float32 forward pass, and bytes of its tapped outputs.

    Intermediate results are dropped after their last use, as the pruned network does; its weights
    and what a library needs inside one operation are not counted.

    Parameters
    ----------
    backbone, layers
        As for `load_backbone`.
    batch, height, width
        Of the images.
    """
    cut = shape_graph(backbone, tuple(dict.fromkeys(full_node(backbone, one) for one in layers)))
    images = seen(backbone, torch.empty(batch, 3, height, width, device="meta"))
    if isinstance(cut, fx.GraphModule):
        interpreter = _Peak(cut)
        with torch.inference_mode():
            outputs = interpreter.run(images)
        return interpreter.peak, sum(output.nbytes for output in outputs.values())
    peak, outputs = _watched(cut, images)
    return peak, sum(output.nbytes for output in outputs.values())


def peak_bytes(network: nn.Module, inputs: torch.Tensor) -> int:
    """Most bytes that are alive in a pass of a network on the meta device."""
    return _watched(network, inputs)[0]


def _watched(network: nn.Module, inputs: torch.Tensor) -> tuple[int, Any]:
    alive = _Alive(inputs)
    with torch.inference_mode(), watching(alive.seen):
        outputs = network.forward(inputs)
    return alive.peak, outputs
