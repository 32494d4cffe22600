"""What families of networks have in common: outputs as grids, aliases."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

# Pixels of one token where nobody says: as vision transformers have them, and multiples.
PATCHES = (4, 7, 8, 14, 16, 32, 64)
ROUNDING = 1.5  # cells by which padding and rounding change a side of a grid


def maps_to_grid(output: torch.Tensor) -> torch.Tensor | None:
    """Feature maps ``[n, channels, h, w]`` as ``[n, h, w, channels]``; None for other shapes."""
    return output.permute(0, 2, 3, 1) if output.ndim == 4 else None


def maps_either_way(
    output: torch.Tensor, height: int, width: int, channels_last: bool
) -> torch.Tensor | None:
    """Feature maps with channels first or last as ``[n, h, w, channels]``; None for other shapes.

    The sides of a grid are to each other as those of the image, which tells them from channels.

    Parameters
    ----------
    channels_last
        What is taken where both readings do.
    """
    if output.ndim != 4:
        return None
    first, second, third = output.shape[1:]
    readings = {True: (first, second), False: (second, third)}
    for last in (channels_last, not channels_last):
        if _is_grid_of(height, width, *readings[last]):
            return output if last else output.permute(0, 2, 3, 1)
    return None


def _is_grid_of(height: int, width: int, h: int, w: int) -> bool:
    """Whether one stride explains both sides of a grid."""
    if (h, w) == (1, 1):
        return True

    def strides(pixels: int, cells: int) -> tuple[float, float]:
        return pixels / (cells + ROUNDING), pixels / max(cells - ROUNDING, 0.5)

    (low_h, high_h), (low_w, high_w) = strides(height, h), strides(width, w)
    return max(low_h, low_w) <= min(high_h, high_w) and h <= height + 2 and w <= width + 2


def tokens_to_grid(
    output: torch.Tensor,
    height: int,
    width: int,
    patch: tuple[int, int] | None,
    leading: Sequence[int],
) -> torch.Tensor | None:
    """Tokens ``[n, leading + h * w, channels]`` as ``[n, h, w, channels]``; None for other shapes.

    Parameters
    ----------
    patch
        Pixels of one token; networks of several stages have multiples, too. None: the usual ones.
    leading
        How many tokens before the image's there may be (classes, registers); the first that fits.
    """
    if output.ndim != 3:
        return None
    count, tokens, width_of_one = output.shape
    for first in leading:
        for h, w in _grids(height, width, patch):
            if h * w == tokens - first:
                return output[:, first:].reshape(count, h, w, width_of_one)
    return None


def _grids(height: int, width: int, patch: tuple[int, int] | None) -> Iterator[tuple[int, int]]:
    """Grids that images of this size may have, finest first, whole patches before begun ones."""
    sizes = [(one, one) for one in PATCHES]
    if patch is not None:
        sizes = [(patch[0] * times, patch[1] * times) for times in (1, 2, 4, 8)]
    for ph, pw in sizes:
        yield height // ph, width // pw
        yield -(-height // ph), -(-width // pw)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type when it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


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
