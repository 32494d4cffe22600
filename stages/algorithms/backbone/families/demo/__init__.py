"""The network that ships with the project, with its weights and the record of their training."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn

from stages.algorithms.backbone.families.demo.network import (
    DEMO_LAYER,
    DEMO_MEAN,
    DEMO_STD,
    WEIGHTS_PATH,
    build_demo_network,
)
from stages.algorithms.backbone.families.plain import maps_to_grid, vgg_aliases
from stages.algorithms.backbone.family import Family, Preprocessing, Published

__all__ = ["DemoFamily"]


class DemoFamily(Family):
    """See `Family`; one network, `demo`, for use without any download."""

    summary = "demo"
    usual_weights = "bundled"

    def names(self) -> Sequence[str]:
        """See `Family.names`."""
        return ("demo",)

    def build(self, name: str) -> nn.Module:
        """See `Family.build`."""
        return build_demo_network(classes=2)  # the features are the same whatever the number

    def weights(self, name: str) -> Mapping[str, Published]:
        """See `Family.weights`."""
        return {"bundled": Published(WEIGHTS_PATH, self.preprocessing(name))}

    def preprocessing(self, name: str) -> Preprocessing:
        """See `Family.preprocessing`."""
        return Preprocessing(DEMO_MEAN, DEMO_STD)

    def aliases(self, name: str, network: nn.Module) -> Mapping[str, str]:
        """See `Family.aliases`: those of VGG."""
        return vgg_aliases(cast(nn.Sequential, network.features))

    def default_layer(self, name: str, network: nn.Module) -> str | None:
        """See `Family.default_layer`."""
        return DEMO_LAYER

    def to_grid(
        self, name: str, output: torch.Tensor, height: int, width: int
    ) -> torch.Tensor | None:
        """See `Family.to_grid`."""
        return maps_to_grid(output)
