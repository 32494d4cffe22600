"""Dense-CRF mean field with the guided filter as its message passing.

P. Kraehenbuehl, V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", NIPS 2011, algorithm 1, with two pairwise terms under a Potts compatibility: the colour
guided filter in place of the lattice, as in the DFF paper, for the edges nearby; and a bilateral
kernel over a thumbnail for whatever looks alike further away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.algorithms.bilateral import Bilateral
from stages.algorithms.colour_term import ColourTerm
from stages.algorithms.guided_filter import AT_ONCE, Guide, apply_fit, resized
from stages.algorithms.inference.images import (
    VOTES_RADIUS,
    Terms,
    infer_image,
    loops_suit,
    window_radius,
    working_size,
)
from stages.algorithms.refinement_defaults import (
    EPS,
    ITERATIONS,
    PROBABILITY_FLOOR,
    WEIGHT,
    WORKING_SIDE,
)


def unary(heat: Tensor, threshold: Tensor) -> Tensor:
    """Probability of a factor from its heat map: ``p = h / (h + t)``.

    With t the factor's mask threshold (docs/method.md, 4), p >= 0.5 is exactly the mask rule
    h >= t, so that refinement starts from the paper's masks.

    Parameters
    ----------
    heat : Tensor [..., n, h, w], floating point, finite
        Upsampled coefficients, in any unit. Negative values (PCA has them) count as 0.
    threshold : Tensor [n] or [..., n]
        One per factor (and image), in the same unit; the set's percentile, not the image's.

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
    if heat.ndim < 3 or threshold.shape not in (heat.shape[-3:-2], heat.shape[:-2]):
        raise ValueError(
            f"heat must be [..., n, h, w] and threshold [n], got {tuple(heat.shape)} "
            f"and {tuple(threshold.shape)}"
        )
    if not heat.is_floating_point():
        raise ValueError(f"heat must be floating point, got {heat.dtype}")
    scale = threshold.to(dtype=heat.dtype, device=heat.device)[..., None, None]
    present = scale > 0
    # tiny: a subnormal threshold may be flushed to zero inside the sum and give 0 / 0.
    scale = scale.masked_fill(~present, 1.0).clamp(min=torch.finfo(heat.dtype).tiny)
    h = heat.clamp(min=0)
    return h.div_(h + scale).mul_(present)


@torch.no_grad()
def mean_field(
    guide: Tensor,
    probability: Tensor,
    radius: int | None = None,
    eps: float = EPS,
    weight: float = WEIGHT,
    iterations: int = ITERATIONS,
    joint: bool = False,
    colour: ColourTerm | None = ColourTerm(),  # noqa: B008 (frozen)
    working_side: int = WORKING_SIDE,
    few_kernels: bool | None = None,
) -> Tensor:
    """Refine factor probabilities so that their edges follow those of the image.

    Independent (default): every factor against its own background,
    ``q <- sigmoid(logit(p) + weight (2 GF(q) - 1) + colour.weight (2 BF(q) - 1))`` from q = p, GF
    being the guided filter and BF the bilateral one of `stages.algorithms.bilateral`.

    Joint: one label per pixel, ``q <- softmax(log p + weight GF(q) + colour.weight BF(q))`` over
    the factors and a background of probability ``1 - max p``. That background wins where no factor
    reaches 0.5, the mask rule of `unary`; ``prod(1 - p)`` would vanish as factors are added
    although each of them is weak. With a single factor both forms are the same.

    All updates but the last are made at the working resolution. The last one is made at full
    resolution: the filters' local linear models are interpolated and applied to the full image
    (`Guide.fit`), so that the result has its edges. No gradients are kept.

    Parameters
    ----------
    guide : Tensor [b, 3, h, w], floating point, RGB in [0, 1]
    probability : Tensor [b, n, h, w], floating point
        Clamped to [1e-4, 1 - 1e-4].
    radius : int, optional
        Radius of the guided filter in pixels of the guide; by default `window_radius`.
    eps : float
        Regularisation of the guided filter, > 0.
    weight : float
        Strength of the guided filter's term, in nats.
    iterations : int
        Mean-field updates; 0 returns the clamped probability (joint: normalised over labels).
    joint : bool
        Labels compete for pixels.
    colour : ColourTerm, optional
        The bilateral term; None leaves it out, which is the paper's inference.
    working_side : int
        Pixels of the working resolution's long side; 0, or more than the image has: the image's
        own, at which the bilateral kernel needs ``4 h w cells`` bytes.
    few_kernels : bool, optional
        Few large steps, as a GPU wants them, or what suits a CPU: in float32, labels that do not
        compete go through compiled loops (`stages.algorithms.inference`). By default by the guide's
        device. The results differ by rounding, and by votes by colour that are too faint to count.

    Returns
    -------
    Tensor [b, n, h, w], dtype of `probability`, values in [0, 1]
        Joint: the factors' share; the background is what is missing to 1.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit or a number is out of range.
    """
    _check(guide, probability, iterations, working_side)
    size = int(guide.shape[-2]), int(guide.shape[-1])
    radius, side = window_radius(size) if radius is None else radius, working_side or max(size)
    few_kernels = guide.device.type != "cpu" if few_kernels is None else few_kernels
    if not few_kernels and _suit_loops(guide, probability, iterations, colour, joint=joint):
        terms = Terms(radius, eps, weight, iterations, colour, side)
        return _by_loops(guide, probability, terms)
    pairwise = _Pairwise.of(
        guide, radius, eps, weight, colour, side, probability.dtype, few_kernels
    )
    update = _joint if joint else _independent
    if iterations == 0:
        return update(probability, None, pairwise.total)
    p = resized(probability, pairwise.size)
    q = update(p, None, pairwise.total)
    for _ in range(iterations - 1):
        q = update(p, pairwise.smooth(q), pairwise.total)
    full = pairwise.smooth(q) if pairwise.size == size else pairwise.smooth_full(q, guide)
    return update(probability, full, pairwise.total)


def _check(guide: Tensor, probability: Tensor, iterations: int, working_side: int) -> None:
    if iterations < 0 or working_side < 0:
        raise ValueError(
            f"iterations and working_side must be >= 0, got {iterations} and {working_side}"
        )
    if guide.ndim < 3 or probability.ndim != guide.ndim or probability.shape[-3] == 0:
        raise ValueError(
            f"guide must be [b, 3, h, w] and probability [b, n, h, w] with n >= 1, got "
            f"{tuple(guide.shape)} and {tuple(probability.shape)}"
        )
    if not probability.is_floating_point():
        raise ValueError(f"probability must be floating point, got {probability.dtype}")
    if guide.shape[-2:] != probability.shape[-2:] or guide.shape[:-3] != probability.shape[:-3]:
        raise ValueError(
            f"guide {tuple(guide.shape)} and probability {tuple(probability.shape)} must agree in "
            "all but their channels"
        )


def _suit_loops(
    guide: Tensor, probability: Tensor, iterations: int, colour: ColourTerm | None, *, joint: bool
) -> bool:
    """Whether the compiled loops are for such images."""
    floats = guide.dtype == probability.dtype == torch.float32 and guide.device.type == "cpu"
    return floats and guide.ndim == 4 and loops_suit(iterations, colour, joint=joint)


def _by_loops(guide: Tensor, probability: Tensor, terms: Terms) -> Tensor:
    """Image by image."""
    images = zip(guide.numpy(), probability.numpy(), strict=True)
    return torch.from_numpy(np.stack([infer_image(image, p, terms) for image, p in images]))


@dataclass(frozen=True, eq=False)
class _Pairwise:
    """Both filters of one batch of images at the working resolution."""

    size: tuple[int, int]
    weight: float
    near: Guide
    colour_weight: float
    far: Bilateral | None
    carrier: Guide | None  # brings the bilateral filter's output to full resolution
    at_once: int  # channels at full resolution

    @classmethod
    def of(
        cls,
        guide: Tensor,
        radius: int,
        eps: float,
        weight: float,
        colour: ColourTerm | None,
        side: int,
        dtype: torch.dtype,
        few_kernels: bool,
    ) -> _Pairwise:
        scale, size = working_size((int(guide.shape[-2]), int(guide.shape[-1])), side)
        small = resized(guide, size)
        near = Guide.of(small, round(radius * scale), eps, few_kernels)
        # On a CPU the temporaries of one channel stay in the cache.
        at_once = AT_ONCE if few_kernels else 1
        if colour is None or colour.weight == 0:
            return cls(size, weight, near, 0.0, None, None, at_once)
        far = Bilateral.of(small, colour, dtype, few_kernels)
        carrier = Guide.of(small, VOTES_RADIUS, eps, few_kernels)
        return cls(size, weight, near, colour.weight, far, carrier, at_once)

    @property
    def total(self) -> float:
        """What `smooth` gives where every q is 1."""
        return self.weight + self.colour_weight

    def smooth(self, q: Tensor) -> Tensor:
        """``weight GF(q) + colour.weight BF(q)``; both filters are linear and keep constants."""
        smooth = self.weight * self.near.filter(q)
        if self.far:
            smooth += self.colour_weight * self.far.filter(q)
        return smooth

    def smooth_full(self, q: Tensor, guide: Tensor) -> Tensor:
        """The same at the resolution of `guide`, from q at the working resolution."""
        fit = self.weight * self.near.fit(q)
        if self.far and self.carrier:
            fit += self.colour_weight * self.carrier.fit(self.far.filter(q))
        full = int(guide.shape[-2]), int(guide.shape[-1])
        parts = [
            apply_fit(resized(part.to(q.dtype), full), guide)
            for part in torch.split(fit, self.at_once, dim=-4)
        ]
        return torch.cat(parts, dim=-3)


def _clamped(p: Tensor) -> Tensor:
    return p.clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)


def _independent(p: Tensor, smooth: Tensor | None, total: float) -> Tensor:
    if smooth is None:
        return _clamped(p)
    # in place: at full resolution these are what takes memory
    evidence = torch.logit(p, eps=PROBABILITY_FLOOR)
    return evidence.add_(smooth, alpha=2).sub_(total).sigmoid_()


def _joint(p: Tensor, smooth: Tensor | None, total: float) -> Tensor:
    clamped = _clamped(p)
    background = 1 - clamped.amax(-3, keepdim=True)
    evidence = torch.log(torch.cat([clamped, background], dim=-3))  # [b, n + 1, h, w]
    if smooth is not None:
        # The filters are linear and keep constants, so the labels' messages sum to `total`.
        rest = total - smooth.sum(-3, keepdim=True)
        evidence = evidence + torch.cat([smooth, rest], dim=-3)
    return torch.softmax(evidence, dim=-3).narrow(-3, 0, p.shape[-3])
