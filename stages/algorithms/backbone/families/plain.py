"""What families of plain convolutional networks have in common."""

import torch
from torch import nn


def maps_to_grid(output: torch.Tensor) -> torch.Tensor | None:
    """Feature maps ``[n, channels, h, w]`` as ``[n, h, w, channels]``; None for other shapes."""
    return output.permute(0, 2, 3, 1) if output.ndim == 4 else None


def vgg_aliases(features: nn.Sequential) -> dict[str, str]:
    """`conv<block>_<i>` and the nodes of the ReLUs they mean."""
    names: dict[str, str] = {}
    block, position = 1, 0
    for index, module in enumerate(features):
        if isinstance(module, nn.Conv2d):
            position += 1
        elif isinstance(module, nn.ReLU):
            names[f"conv{block}_{position}"] = f"features.{index}"
        elif isinstance(module, nn.MaxPool2d):
            block, position = block + 1, 0
    return names
