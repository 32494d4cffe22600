"""The small VGG-style network that ships with the project, for use without any download.

It is torchvision's ``VGG`` with fewer channels, so the layer aliases ``conv{block}_{i}`` mean what
they mean for VGG-16: the activation after that convolution's ReLU. It was trained by
`scripts/train_demo_network.py` to tell the procedural demo scenes apart.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

DEMO_CFG: tuple[int | str, ...] = (16, "M", 32, "M", 64, 64, "M", 128, 128)
"""Channels of each convolution; ``M`` halves the grid. The deepest layers have stride 8."""

DEMO_LAYER = "conv4_2"
"""The recommended layer: the deepest, a 28x28 grid for a 224x224 image."""

DEMO_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green, blue in 0 to 1 (the usual ImageNet numbers)."""

DEMO_STD = (0.229, 0.224, 0.225)
"""Standard deviation of red, green, blue in 0 to 1 (the usual ImageNet numbers)."""

WEIGHTS_PATH = Path(__file__).with_name("demo-bundled.pth")
"""The state dict; loads with ``torch.load(WEIGHTS_PATH, weights_only=True)``."""


class DemoNetwork(nn.Module):
    """Convolutions, global average pooling, one linear layer; see `build_demo_network`.

    Names are those of torchvision's ``VGG``, which would take longer to load than torch.
    """

    def __init__(self, classes: int, batch_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for one in DEMO_CFG:
            if isinstance(one, str):
                layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
                continue
            norm = [nn.BatchNorm2d(one)] if batch_norm else []
            convolution = nn.Conv2d(width, one, kernel_size=3, padding=1)
            layers += [convolution, *norm, nn.ReLU(inplace=True)]
            width = one
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(width, classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits float32 [n, classes] of images float32 [n, 3, h, w]."""
        pooled = torch.flatten(self.avgpool(self.features(images)), 1)
        logits: torch.Tensor = self.classifier(pooled)
        return logits


def build_demo_network(classes: int, batch_norm: bool = False) -> DemoNetwork:
    """The untrained network: convolutions, global average pooling, one linear layer.

    Parameters
    ----------
    classes : number of kinds told apart
    batch_norm : with batch normalisation after each convolution, as in training; the shipped
        weights have it folded into the convolutions

    Returns
    -------
    DemoNetwork
        Maps float32 [n, 3, h, w] to logits float32 [n, classes].

    Raises
    ------
    ValueError
        ``classes`` is below 1.
    """
    if classes < 1:
        raise ValueError(f"classes must be at least 1, got {classes}")
    return DemoNetwork(classes, batch_norm)
