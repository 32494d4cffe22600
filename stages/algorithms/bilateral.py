"""Bilateral filtering through a thumbnail: votes of all places of an image that look alike.

The long-range half of a dense CRF's pairwise term. P. Kraehenbuehl and V. Koltun (NIPS 2011) let
every pixel exchange messages with every other one, weighted by a Gaussian in colour and place, and
approximate that sum on a lattice. Here it is a sum over the cells of a thumbnail, taken exactly:
the joint bilateral upsampling of J. Kopf et al. (SIGGRAPH 2007) with a window as wide as the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from skimage.color import rgb2lab
from torch import Tensor

from stages.algorithms.colour_term import ColourTerm, thumbnail_of
from stages.algorithms.guided_filter import resized

# Weights below exp(-FAINTEST) of a pixel's strongest are raised to it: smaller ones would be
# subnormal numbers, on which arithmetic is fifty times slower, and change nothing.
FAINTEST = 60.0


@dataclass(frozen=True, eq=False)
class Bilateral:
    """The kernel of one or several guide images, for any number of signals. Build it with `of`.

    Attributes
    ----------
    kernel : Tensor [..., h * w, cells]
        Weight of every cell of the thumbnail for every pixel, not normalised.
    total : Tensor [..., h * w]
        The weights' sums, >= 1.
    size, thumbnail : (h, w)
        Of the images and of the thumbnails.
    """

    kernel: Tensor
    total: Tensor
    size: tuple[int, int]
    thumbnail: tuple[int, int]

    @classmethod
    def of(
        cls,
        image: Tensor,
        term: ColourTerm,
        dtype: torch.dtype = torch.float32,
        few_kernels: bool | None = None,
    ) -> Bilateral:
        """Compute the kernel: ``exp(-|lab - lab'|^2 / 2 colour^2 - |x - x'|^2 / 2 reach^2)``.

        Parameters
        ----------
        image : Tensor [..., 3, h, w], floating point, RGB in [0, 1]
        term : ColourTerm
        dtype : torch.dtype
            Of the kernel, whose ``h * w * cells`` numbers are what takes memory.
        few_kernels : bool, optional
            As `stages.algorithms.guided_filter.Guide.of`: colours by torch, not by skimage.

        Raises
        ------
        ValueError
            If the image is not floating point or not [..., 3, h, w].
        """
        if image.ndim < 3 or image.shape[-3] != 3 or not image.is_floating_point():
            raise ValueError(
                f"image must be [..., 3, h, w] in floating point, got {image.dtype} "
                f"{tuple(image.shape)}"
            )
        size = int(image.shape[-2]), int(image.shape[-1])
        thumbnail = thumbnail_of(size, term.cells)
        small = resized(image, thumbnail)
        # A common origin changes no distance and keeps the products below small and precise.
        by_torch = image.device.type != "cpu" if few_kernels is None else few_kernels
        lab, lab_small = ((torch_lab if by_torch else _lab)(x) for x in (image, small))
        middle = lab_small.mean((-1, -2), keepdim=True)
        # float64 costs a GPU little here, and float32 up to 5e-4 of a refined probability
        wide = torch.float64 if by_torch else dtype
        pixels = _features(lab, middle, size, term).to(wide)
        cells = _features(lab_small, middle, size, term).to(wide)
        # -|a - b|^2 / 2 = a.b - |b|^2 / 2 - |a|^2 / 2, and the last is the same for all cells
        exponent = pixels.transpose(-1, -2) @ cells
        exponent -= cells.square().sum(-2, keepdim=True) / 2
        exponent -= exponent.amax(-1, keepdim=True)
        kernel = exponent.to(dtype).clamp_(min=-FAINTEST).exp_()
        return cls(kernel, kernel.sum(-1), size, thumbnail)

    def filter(self, signal: Tensor) -> Tensor:
        """Weighted means of a signal, every channel on its own.

        Parameters
        ----------
        signal : Tensor [..., n, h, w], of the kernel's dtype
            Leading dimensions, h and w as the guide's.

        Returns
        -------
        Tensor [..., n, h, w]
            Within the signal's range; a constant stays constant. A pixel that looks like no cell
            takes the value of the nearest ones.

        Raises
        ------
        ValueError
            If the shapes disagree.
        """
        if tuple(signal.shape[-2:]) != self.size or signal.shape[:-3] != self.total.shape[:-1]:
            raise ValueError(
                f"signal {tuple(signal.shape)} does not fit the kernel of images of {self.size} "
                f"and {tuple(self.total.shape[:-1])}"
            )
        cells = resized(signal, self.thumbnail).flatten(-2)  # [..., n, cells]
        votes = cells @ self.kernel.transpose(-1, -2) / self.total.unsqueeze(-2)
        return votes.reshape(*votes.shape[:-1], *self.size)


def _features(lab: Tensor, middle: Tensor, size: tuple[int, int], term: ColourTerm) -> Tensor:
    """Colour and place of every pixel in standard deviations, float64 ``[..., 5, pixels]``."""
    h, w = lab.shape[-2:]
    down = (torch.arange(h, device=lab.device, dtype=torch.float64) + 0.5) / h - 0.5
    across = (torch.arange(w, device=lab.device, dtype=torch.float64) + 0.5) / w - 0.5
    places = torch.stack(
        torch.meshgrid(
            down * (size[0] / max(size)) / term.reach,
            across * (size[1] / max(size)) / term.reach,
            indexing="ij",
        )
    )
    colours = (lab - middle) / term.colour
    together = torch.cat([colours, places.expand(*colours.shape[:-3], 2, h, w)], dim=-3)
    return together.flatten(-2)


def _lab(image: Tensor) -> Tensor:
    """CIE Lab of RGB images ``[..., 3, h, w]``, float64."""
    values = image.detach().double().cpu().numpy()
    return torch.from_numpy(rgb2lab(values, channel_axis=-3)).to(image.device)


# CIE XYZ of the three primaries of sRGB (rows X, Y, Z), and of its white: D65, 2 degrees.
_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)


def torch_lab(image: Tensor) -> Tensor:
    """CIE Lab of RGB images, on their device: what skimage's ``rgb2lab`` gives.

    Parameters
    ----------
    image : Tensor [..., 3, h, w], floating point, sRGB in [0, 1]

    Returns
    -------
    Tensor [..., 3, h, w], float64
    """
    rgb = image.detach().double()
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    r, g, b = linear.unbind(-3)
    x, y, z = (
        (r * row[0] + g * row[1] + b * row[2]) / white
        for row, white in zip(_XYZ, _WHITE, strict=True)
    )
    xyz = torch.stack([x, y, z], dim=-3)
    root = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root.unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)
