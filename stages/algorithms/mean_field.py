"""Dense-CRF mean field with the guided filter as its message passing.

P. Kraehenbuehl, V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", NIPS 2011, algorithm 1, with the permutohedral lattice replaced by the colour guided
filter and a Potts compatibility of strength `weight`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.algorithms.guided_filter import Guide

# Probabilities are kept this far from 0 and 1, so that no unary is infinite and beyond appeal.
PROBABILITY_FLOOR = 1e-4


def unary(heat: Tensor, threshold: Tensor) -> Tensor:
    """Probability of a factor from its heat map: ``p = h / (h + t)``.

    With t the factor's mask threshold (docs/method.md, 4), p >= 0.5 is exactly the mask rule
    h >= t, so that refinement starts from the paper's masks.

    Parameters
    ----------
    heat : Tensor [..., n, h, w], floating point
        Upsampled coefficients, in any unit. Negative values (PCA has them) count as 0.
    threshold : Tensor [n]
        One per factor, in the same unit; the set's percentile, not the image's.

    Returns
    -------
    Tensor [..., n, h, w], dtype of `heat`, values in [0, 1]
        0 everywhere for a factor whose threshold is <= 0: at most a quarter of the set (for the
        75th percentile) shows that factor at all, and without this rule its mask would be full.

    Raises
    ------
    ValueError
        If `heat` is not floating point or `threshold` is not one number per factor.
    """
    if heat.ndim < 3 or threshold.shape != heat.shape[-3:-2]:
        raise ValueError(
            f"heat must be [..., n, h, w] and threshold [n], got {tuple(heat.shape)} "
            f"and {tuple(threshold.shape)}"
        )
    if not heat.is_floating_point():
        raise ValueError(f"heat must be floating point, got {heat.dtype}")
    scale = threshold.to(dtype=heat.dtype, device=heat.device)[:, None, None]
    present = scale > 0
    # tiny: a subnormal threshold may be flushed to zero inside the sum and give 0 / 0.
    scale = torch.where(present, scale, 1.0).clamp(min=torch.finfo(heat.dtype).tiny)
    h = heat.clamp(min=0)
    return torch.where(present, h / (h + scale), 0.0)


def mean_field(
    guide: Tensor,
    probability: Tensor,
    radius: int,
    eps: float = 1e-4,
    weight: float = 10.0,
    iterations: int = 10,
    joint: bool = False,
) -> Tensor:
    """Refine factor probabilities so that their edges follow those of the image.

    Independent (default): every factor against its own background,
    ``q <- sigmoid(logit(p) + weight (2 GF(q) - 1))`` from q = p, GF being the guided filter.

    Joint: one label per pixel, ``q <- softmax(log p + weight GF(q))`` over the factors and a
    background of probability ``1 - max p``. That background wins where no factor reaches 0.5,
    the mask rule of `unary`; ``prod(1 - p)`` would vanish as factors are added although each of
    them is weak. With a single factor both forms are the same.

    Parameters
    ----------
    guide : Tensor [b, 3, h, w], floating point, RGB in [0, 1]
    probability : Tensor [b, n, h, w], floating point
        Clamped to [1e-4, 1 - 1e-4].
    radius : int
        Radius of the guided filter in pixels.
    eps : float
        Regularisation of the guided filter, > 0.
    weight : float
        Strength of the pairwise term, in nats.
    iterations : int
        Mean-field updates; 0 returns the clamped probability (joint: normalised over labels).
    joint : bool
        Labels compete for pixels.

    Returns
    -------
    Tensor [b, n, h, w], dtype of `probability`, values in [0, 1]
        Joint: the factors' share; the background is what is missing to 1.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit or `iterations` is negative.
    """
    if iterations < 0:
        raise ValueError(f"iterations must be >= 0, got {iterations}")
    if guide.ndim < 3 or probability.ndim != guide.ndim or probability.shape[-3] == 0:
        raise ValueError(
            f"guide must be [b, 3, h, w] and probability [b, n, h, w] with n >= 1, got "
            f"{tuple(guide.shape)} and {tuple(probability.shape)}"
        )
    if not probability.is_floating_point():
        raise ValueError(f"probability must be floating point, got {probability.dtype}")
    statistics = Guide.of(guide, radius, eps)
    p = probability.clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    update = _joint if joint else _independent
    return update(statistics, p, weight, iterations)


def _independent(guide: Guide, p: Tensor, weight: float, iterations: int) -> Tensor:
    evidence = torch.logit(p)
    q = p
    for _ in range(iterations):
        q = torch.sigmoid(evidence + weight * (2 * guide.filter(q) - 1))
    return q


def _joint(guide: Guide, p: Tensor, weight: float, iterations: int) -> Tensor:
    factors = p.shape[-3]
    background = 1 - p.amax(-3, keepdim=True)
    evidence = torch.log(torch.cat([p, background], dim=-3))  # [b, n + 1, h, w]
    q = torch.softmax(evidence, dim=-3)
    for _ in range(iterations):
        smooth = guide.filter(q.narrow(-3, 0, factors))
        # The filter is linear and keeps constants, so the labels' messages sum to one.
        rest = 1 - smooth.sum(-3, keepdim=True)
        q = torch.softmax(evidence + weight * torch.cat([smooth, rest], dim=-3), dim=-3)
    return q.narrow(-3, 0, factors)
