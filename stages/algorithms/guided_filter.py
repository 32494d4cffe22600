"""The colour guided filter: edge-aware smoothing in time linear in the pixels.

K. He, J. Sun, X. Tang, "Guided Image Filtering", IEEE TPAMI 35(6), 2013. Equation numbers below are
of that paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.algorithms.windows import window_matrix, window_mean

_CHANNELS = 3
# Windows as matrices take a product with a line's length: longer lines are summed one by one.
MATRIX_SIDE = 256
# Channels at full resolution that a GPU takes at once: fewer leave it idle, more take memory.
AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class Guide:
    """What the filter needs to know of a guide image, computed once for any number of signals.

    Build it with `Guide.of`. All tensors are float64: the covariances are differences of nearly
    equal numbers, then divided by an eps as small as 1e-4, which float32 does not survive.

    Attributes
    ----------
    image : Tensor [..., 3, h, w]
    mean : Tensor [..., 3, h, w]
        Window means of the guide, mu_k.
    inverse : Tensor [..., 3, 3, h, w]
        (Sigma_k + eps I)^-1, symmetric in its two channel axes.
    radius : int
        Window radius in pixels.
    matrices : (Tensor [h, h], Tensor [w, w]), optional
        The windows as `window_matrix`, where means are taken by these.
    """

    image: Tensor
    mean: Tensor
    inverse: Tensor
    radius: int
    matrices: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, image: Tensor, radius: int, eps: float, few_kernels: bool | None = None) -> Guide:
        """Statistics of a colour guide.

        Parameters
        ----------
        image : Tensor [..., 3, h, w], floating point, values in [0, 1]
        radius : int
            Window radius in pixels, >= 0; may exceed the image.
        eps : float
            Regularisation in squared units of the guide, > 0. A window whose variance is well
            below eps is averaged, one well above keeps its edges.
        few_kernels : bool, optional
            Few large steps, as a GPU wants them, or many that stay in a CPU's cache. By default
            by the image's device. The results differ by rounding.

        Raises
        ------
        ValueError
            If the image is not floating point or not [..., 3, h, w], or radius or eps is out of
            range.
        """
        if image.ndim < 3 or image.shape[-3] != _CHANNELS:
            raise ValueError(f"guide must be [..., 3, h, w], got {tuple(image.shape)}")
        if not image.is_floating_point():
            raise ValueError(f"guide must be floating point in [0, 1], got {image.dtype}")
        if not eps > 0:
            raise ValueError(f"eps must be > 0, got {eps}")
        guide = image.to(torch.float64)
        matrices = None
        if few_kernels is None:
            few_kernels = image.device.type != "cpu"
        if few_kernels and max(image.shape[-2:]) <= MATRIX_SIDE:
            h, w = (window_matrix(side, radius, image.device) for side in image.shape[-2:])
            matrices = h, w
        mean = window_mean(guide, radius, matrices)
        products = torch.stack([guide[..., i, :, :] * guide[..., j, :, :] for i, j in _UPPER], -3)
        covariance = window_mean(products, radius, matrices)
        for at, (i, j) in enumerate(_UPPER):
            covariance[..., at, :, :] -= mean[..., i, :, :] * mean[..., j, :, :]
            if i == j:
                covariance[..., at, :, :] += eps
        return cls(guide, mean, _symmetric_inverse(covariance), radius, matrices)

    def filter(self, signal: Tensor) -> Tensor:
        """Filter every channel of a signal on its own (eqs. 19-21).

        Parameters
        ----------
        signal : Tensor [..., n, h, w], floating point
            Leading dimensions, h and w as the guide's.

        Returns
        -------
        Tensor [..., n, h, w], dtype of `signal`
            Linear in the signal. A constant comes back unchanged; elsewhere values may leave the
            signal's range a little, as a local linear fit does.

        Raises
        ------
        ValueError
            If the shapes disagree or the signal is not floating point.
        """
        parts = self._split(signal)
        return torch.cat([apply_fit(self._fit(part), self.image) for part in parts], dim=-3).to(
            signal.dtype
        )

    def fit(self, signal: Tensor) -> Tensor:
        """The local linear models whose values the filter's output is: ``a . image + b``.

        They vary slowly, so they may be brought to the resolution of a larger image of the same
        scene and applied there (`apply_fit`): the fast guided filter (He & Sun, arXiv 1505.00996).

        Parameters
        ----------
        signal : Tensor [..., n, h, w], floating point

        Returns
        -------
        Tensor [..., n, 4, h, w], float64
            Slopes of the three colours, then the offset: window means of eqs. 19 and 20.

        Raises
        ------
        ValueError
            As `filter`.
        """
        return torch.cat([self._fit(part) for part in self._split(signal)], dim=-4)

    def _split(self, signal: Tensor) -> tuple[Tensor, ...]:
        expected = (*self.image.shape[:-3], "n", *self.image.shape[-2:])
        same_lead = signal.ndim >= 3 and signal.shape[:-3] == self.image.shape[:-3]
        if not same_lead or signal.shape[-2:] != self.image.shape[-2:]:
            raise ValueError(
                f"signal {tuple(signal.shape)} does not fit guide {tuple(self.image.shape)}: "
                f"expected {expected}"
            )
        if not signal.is_floating_point():
            raise ValueError(f"signal must be floating point, got {signal.dtype}")
        # Channels are independent. On a CPU one at a time is twice as fast as all at once, because
        # the temporaries of one stay in the cache; a GPU wants few large kernels.
        by_one = signal.device.type == "cpu" and self.matrices is None
        at_once = 1 if by_one else max(1, signal.shape[-3])
        return torch.split(signal, at_once, dim=-3)

    def _fit(self, signal: Tensor) -> Tensor:
        p = signal.to(torch.float64).unsqueeze(-3)  # [..., n, 1, h, w]
        image, mean = self.image.unsqueeze(-4), self.mean.unsqueeze(-4)  # [..., 1, 3, h, w]
        signals = torch.cat([p, image * p], dim=-3)  # [..., n, 4, h, w]
        means = window_mean(signals, self.radius, self.matrices)
        mean_p, covariance = means.narrow(-3, 0, 1), means.narrow(-3, 1, _CHANNELS)
        covariance -= mean * mean_p
        slope = _apply(self.inverse, covariance)  # a_k, eq. 19
        offset = mean_p - (slope * mean).sum(-3, keepdim=True)  # b_k, eq. 20
        return window_mean(torch.cat([slope, offset], dim=-3), self.radius, self.matrices)


def apply_fit(fit: Tensor, image: Tensor) -> Tensor:
    """Values of local linear models on an image (eq. 21).

    Parameters
    ----------
    fit : Tensor [..., n, 4, h, w]
        From `Guide.fit`.
    image : Tensor [..., 3, h, w]

    Returns
    -------
    Tensor [..., n, h, w], dtype of `fit`
    """
    values = fit.select(-3, _CHANNELS).clone()
    for channel in range(_CHANNELS):
        values.addcmul_(
            fit.select(-3, channel), image.select(-3, channel).unsqueeze(-3).to(fit.dtype)
        )
    return values


# Upper triangle of a symmetric 3 x 3 matrix, in storage order.
_UPPER = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def _symmetric_inverse(matrix: Tensor) -> Tensor:
    """Inverse of symmetric 3 x 3 matrices by cofactors: upper triangle [..., 6, h, w] in,
    full matrices [..., 3, 3, h, w] out. With eps on the diagonal the determinant is >= eps^3."""
    rr, rg, rb, gg, gb, bb = matrix.unbind(-3)
    c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    rows = (c_rr, c_rg, c_rb), (c_rg, c_gg, c_gb), (c_rb, c_gb, c_bb)
    cofactors = torch.stack([torch.stack(row, dim=-3) for row in rows], dim=-4)
    return cofactors / determinant[..., None, None, :, :]


def _apply(inverse: Tensor, vectors: Tensor) -> Tensor:
    """Matrix times vector at every pixel: [..., 3, 3, h, w], [..., n, 3, h, w] -> vectors' shape.
    Written out row by row: einsum would copy both operands into matrix-product layout."""
    rows = []
    for i in range(_CHANNELS):
        row = inverse[..., i, 0, :, :].unsqueeze(-3) * vectors[..., 0, :, :]
        for j in range(1, _CHANNELS):
            row.addcmul_(inverse[..., i, j, :, :].unsqueeze(-3), vectors[..., j, :, :])
        rows.append(row)
    return torch.stack(rows, dim=-3)


def resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Planes ``[..., h, w]`` at another size: area means down, bilinear up."""
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    planes = values.reshape(-1, 1, *values.shape[-2:])
    if size[0] * size[1] < planes.shape[-2] * planes.shape[-1]:
        planes = torch.nn.functional.adaptive_avg_pool2d(planes, size)
    else:
        planes = torch.nn.functional.interpolate(
            planes, size=size, mode="bilinear", align_corners=False
        )
    return planes.reshape(*values.shape[:-2], *size)


@torch.no_grad()
def guided_filter(
    guide: Tensor, signal: Tensor, radius: int, eps: float, subsample: int = 1
) -> Tensor:
    """Smooth a signal without crossing the edges of a colour image (He et al., eqs. 19-21).

    No gradients are kept.

    Parameters
    ----------
    guide : Tensor [..., 3, h, w], floating point, values in [0, 1]
    signal : Tensor [..., n, h, w], floating point
        Same leading dimensions, h and w as the guide; each channel is filtered on its own.
    radius : int
        Window radius in pixels, >= 0; may exceed the image. The cost does not depend on it.
    eps : float
        Regularisation in squared units of the guide, > 0.
    subsample : int
        Fit the local models on images so many times smaller, and apply them at full size (fast
        guided filter): about ``subsample ** 2`` times faster, an approximation where > 1.

    Returns
    -------
    Tensor [..., n, h, w], dtype of `signal`
        Accurate to the signal's dtype: the arithmetic is float64.

    Raises
    ------
    ValueError
        If shapes, dtypes, radius, eps or subsample do not fit (the message names them).

    See Also
    --------
    Guide : to filter several signals with one guide.
    """
    if subsample < 1:
        raise ValueError(f"subsample must be >= 1, got {subsample}")
    if subsample == 1:
        return Guide.of(guide, radius, eps).filter(signal)
    h, w = guide.shape[-2:]
    size = max(1, round(h / subsample)), max(1, round(w / subsample))
    small = Guide.of(resized(guide, size), round(radius / subsample), eps)
    fit = small.fit(resized(signal, size))
    return apply_fit(resized(fit, (h, w)), guide).to(signal.dtype)
