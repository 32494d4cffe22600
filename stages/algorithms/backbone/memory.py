"""How much memory a forward pass takes, without running it."""

from typing import Any

import torch
from torch import fx

from stages.algorithms.backbone.graph import prune, skeleton
from stages.algorithms.backbone.layers import full_node


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
    nodes = [full_node(backbone, layer) for layer in layers]
    interpreter = _Peak(prune(skeleton(backbone), nodes))
    with torch.inference_mode():
        outputs = interpreter.run(torch.empty(batch, 3, height, width, device="meta"))
    return interpreter.peak, sum(output.nbytes for output in outputs.values())
