"""Means over square windows: by running sums, or by matrices.

Running sums take time linear in the pixels; matrices take two kernels in place of two dozen, which
is what a GPU's time goes into while images are small.
"""

from __future__ import annotations

import torch
from torch import Tensor


def box_mean(values: Tensor, radius: int) -> Tensor:
    """Mean over the square window of side ``2 radius + 1`` around every pixel.

    Windows are cut at the border and divided by the number of pixels left, so a constant stays
    constant. The cost does not depend on the radius, which may exceed the image.

    Parameters
    ----------
    values : Tensor [..., h, w], floating point
        Running sums lose digits with the length of a line: pass float64 where these matter.
    radius : int
        In pixels, >= 0.

    Returns
    -------
    Tensor [..., h, w], dtype and device of `values`

    Raises
    ------
    ValueError
        If `values` has no pixels or `radius` is negative.
    """
    if values.ndim < 2 or values.shape[-1] == 0 or values.shape[-2] == 0:
        raise ValueError(f"values must be [..., h, w] with h, w >= 1, got {tuple(values.shape)}")
    if radius < 0:
        raise ValueError(f"radius must be >= 0, got {radius}")
    running = torch.empty_like(values)
    means = torch.empty_like(values)
    _line_mean(values, radius, -1, running, means)
    _line_mean(means, radius, -2, running, means)
    return means


def _line_mean(values: Tensor, radius: int, dim: int, running: Tensor, out: Tensor) -> None:
    """Windowed mean along one axis into `out`, which may be `values`; `running` is scratch.

    One axis at a time keeps the running sums, and with them the cancellation in their differences,
    a line long instead of an image long as in a 2-D integral image.
    """
    length = values.shape[dim]
    r = min(radius, length - 1)
    torch.cumsum(values, dim, out=running)
    out.narrow(dim, 0, length - r).copy_(running.narrow(dim, r, length - r))
    if r > 0:
        out.narrow(dim, length - r, r).copy_(running.narrow(dim, length - 1, 1))
    if r + 1 < length:
        out.narrow(dim, r + 1, length - r - 1).sub_(running.narrow(dim, 0, length - r - 1))
    at = torch.arange(length, device=values.device)
    size = (at + r).clamp(max=length - 1) - (at - r).clamp(min=0) + 1
    out.div_(size.to(out.dtype).view(-1, *[1] * (-dim - 1)))


def window_matrix(length: int, radius: int, device: torch.device) -> Tensor:
    """Windows along one axis as a matrix, float64 ``[length, length]``: row i averages the window
    around i. ``box_mean(v)`` is ``rows @ v @ columns.T``."""
    at = torch.arange(length, device=device)
    inside = ((at[:, None] - at).abs() <= radius).to(torch.float64)
    return inside / inside.sum(1, keepdim=True)


def window_mean(values: Tensor, radius: int, matrices: tuple[Tensor, Tensor] | None) -> Tensor:
    """`box_mean`, by matrices where there are any."""
    if matrices is None:
        return box_mean(values, radius)
    rows, columns = matrices
    return rows @ (values @ columns.T)
