"""How much each concept decides about a network's classes, found by switching concepts off.

Of one image the coefficients H ``[h, w, k]`` and the factors W ``[k, channels]`` make a map that
the rest of the network (`stages.algorithms.backbone.head`) turns into logits. A mask m in
``[0, 1]^k`` weakens the concepts: ``f(m) = logits(head((H * m) W))``.

- **Total Sobol indices** (Fel et al. 2023, CRAFT): the share of f's variance over all masks that is
  gone once all concepts but one are fixed, that is what the concept does alone and together with
  others. Estimated by Jansen's formula (1999) on a scrambled Sobol design, each image its own.
- **Effect**: how many logits the concept adds on average while it goes from 0 to 1, the others
  being anywhere: the least-squares slope of the same evaluations. Its sign says for or against.
- **Gradient times coefficient**: the derivative of f by m at m = 1, the effect of the last bit.
- **Insertion and deletion**: logits while concepts are added from nothing, or taken from all of
  them, those first that speak most for the class; and the mean over all orders, which a ranking
  that means nothing would have.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Logits = Callable[[torch.Tensor], torch.Tensor]  # float32 [n, h, w, channels] -> [n, classes]

DRAWS = 200  # of the bootstrap
ALL_ORDERS = 6  # up to so many concepts all 2^k choices of them are tried
ORDERS = 16  # of more concepts so many orders, drawn at random


@dataclass(frozen=True)
class Importance:
    """What an image set's concepts mean to some classes: means over its images.

    ``_error`` is the standard error of the mean between the images (NaN of one image), in which the
    error of the estimate is contained; ``_noise`` is that of the estimate alone, by a bootstrap of
    the design's points: more points make it smaller, more images the other.

    Attributes
    ----------
    total, total_error, total_noise : float64 [k, classes]
        Total Sobol indices, 0 to about 1; they add up to 1 where concepts do not interact.
    effect, effect_error : float64 [k, classes]
        In logits.
    gradient, gradient_error : float64 [k, classes]
        In logits.
    insertion, deletion, orders : float64 [classes, k + 1]
        Logits with 0 to k concepts added, or taken away; `orders` is insertion's mean over all (of
        more than `ALL_ORDERS` concepts over some) orders, and deletion's read backwards.
    """

    total: Floats
    total_error: Floats
    total_noise: Floats
    effect: Floats
    effect_error: Floats
    gradient: Floats
    gradient_error: Floats
    insertion: Floats
    deletion: Floats
    orders: Floats


@dataclass(frozen=True)
class Design:
    """Masks for the total indices of k concepts.

    Attributes
    ----------
    first, second : float64 [points, k]
        Two independent samples of ``[0, 1]^k``.
    """

    first: Floats
    second: Floats

    @classmethod
    def sobol(cls, k: int, points: int, seed: int) -> "Design":
        """Scrambled Sobol points.

        Raises
        ------
        ValueError
            `points` is no power of 2, which the sequence's balance needs.
        """
        if points < 2 or points & (points - 1):
            raise ValueError(f"points: {points} must be a power of 2, at least 2")
        from scipy.stats.qmc import Sobol  # here: it takes longer to load than what it does

        drawn = Sobol(2 * k, scramble=True, rng=np.random.default_rng(seed)).random(points)
        return cls(drawn[:, :k], drawn[:, k:])

    @property
    def masks(self) -> Floats:
        """All that f is evaluated at, ``[(1 + k) points, k]``.

        The first sample; then, for each concept, the first with that concept's values of the
        second.
        """
        blocks = [self.first]
        for j in range(self.first.shape[1]):
            mixed = self.first.copy()
            mixed[:, j] = self.second[:, j]
            blocks.append(mixed)
        return np.concatenate(blocks)


def total_indices(values: Floats, design: Design) -> tuple[Floats, Floats]:
    """Total Sobol indices by Jansen's estimator, and their standard errors.

    ``S_j = E[(f(A) - f(A with B's j))^2] / (2 Var f)``; the variance is that of all evaluations,
    each of which is uniform. A function that does not vary has indices of 0.

    Parameters
    ----------
    values : float64 [(1 + k) points, classes]
        Of f at `Design.masks`.

    Returns
    -------
    indices, errors : float64 [k, classes]
        Errors are a bootstrap's over the points, which takes them for independent: those of a
        Sobol design are more even, so it says rather too much than too little.
    """
    points, k = design.first.shape
    of = values.reshape(1 + k, points, -1)
    squares = (of[0] - of[1:]) ** 2 / 2  # [k, points, classes]
    scale = np.abs(of).max(axis=(0, 1))
    least = (1e-6 * scale) ** 2  # what float32 makes of a constant

    def estimate(which: NDArray[np.int64]) -> Floats:
        """Of some points ``[draws, points]``: ``[draws, k, classes]``."""
        chosen = of[:, which]  # [1 + k, draws, points, classes]
        variance = chosen.var(axis=(0, 2))
        top = squares[:, which].mean(axis=2)
        varies = variance > least
        return np.moveaxis(np.divide(top, variance, out=np.zeros_like(top), where=varies), 0, 1)

    everything = np.arange(points)
    drawn = np.random.default_rng(0).integers(0, points, (DRAWS, points))
    return estimate(everything[None])[0], estimate(drawn).std(axis=0)


def effects(values: Floats, design: Design) -> Floats:
    """Least-squares slopes of f by each concept, ``[k, classes]``; values as `total_indices`."""
    points, k = design.first.shape
    of = values.reshape(1 + k, points, -1)
    steps = design.first - design.second  # [points, k]
    products = np.einsum("pk,kpc->kc", steps, of[0] - of[1:])
    return np.asarray(products / (steps**2).sum(axis=0)[:, None])


def evaluated(head: Logits, H: torch.Tensor, W: torch.Tensor, masks: Floats, batch: int) -> Floats:
    """Logits of an image under masks, float64 ``[masks, classes]``.

    Parameters
    ----------
    head
        Called with `batch` maps at most.
    H, W
        float32 ``[h, w, k]`` and ``[k, channels]``, on the head's device.
    """
    found = []
    with torch.inference_mode():
        for start in range(0, len(masks), batch):
            some = torch.from_numpy(masks[start : start + batch]).to(H)
            found.append(head((H * some[:, None, None]) @ W).double().cpu().numpy())
    return np.concatenate(found)


def gradients(head: Logits, H: torch.Tensor, W: torch.Tensor) -> Floats:
    """Derivatives of the logits by each concept's mask where all are there, ``[k, classes]``."""
    mask = torch.ones(H.shape[-1], device=H.device, requires_grad=True)
    logits = head(((H * mask) @ W)[None])[0]
    found = [
        torch.autograd.grad(one, mask, retain_graph=True)[0].double().cpu().numpy()
        for one in logits
    ]
    return np.stack(found, axis=1)


def importance(
    head: Logits,
    images: Sequence[NDArray[np.float32]],
    W: NDArray[np.float32],
    *,
    points: int = 32,
    seed: int = 0,
    batch: int = 64,
    device: str | torch.device = "cpu",
    advance: Callable[[int], None] = lambda _: None,
) -> Importance:
    """What the concepts of an image set mean to a network's classes.

    Parameters
    ----------
    head
        The rest of the network, for the classes in question.
    images
        Coefficients of each image, float32 ``[h, w, k]``.
    W
        Factors, float32 ``[k, channels]``.
    points
        Of the design, a power of 2: an image takes ``(1 + k) points`` maps through the head, and
        ``2^k`` for the curves.
    seed
        Of the designs' scrambles: image i has ``seed + i``.
    batch
        Maps that are in memory at once.
    device
        The head's.
    advance
        Called with 1 after each image.

    Raises
    ------
    ValueError
        No images, or W is not of their k.
    """
    if not images or any(one.ndim != 3 or one.shape[2] != len(W) for one in images):
        shapes = [one.shape for one in images[:3]]
        raise ValueError(f"images {shapes} are not [h, w, k] with the k of W {W.shape}")
    k = len(W)
    directions = torch.from_numpy(np.ascontiguousarray(W)).to(device)
    binary = _choices(k, seed)
    totals, noises, slopes, gradient, of_choices = [], [], [], [], []
    for at, grid in enumerate(images):
        H = torch.from_numpy(np.ascontiguousarray(grid)).to(device)
        design = Design.sobol(k, points, seed + at)
        values = evaluated(head, H, directions, np.concatenate([design.masks, binary]), batch)
        total, noise = total_indices(values[: len(design.masks)], design)
        totals.append(total)
        noises.append(noise)
        slopes.append(effects(values[: len(design.masks)], design))
        gradient.append(gradients(head, H, directions))
        of_choices.append(values[len(design.masks) :])
        advance(1)
    chosen = np.mean(of_choices, axis=0)  # [choices, classes]
    ranked = ranking(np.mean(totals, axis=0), np.mean(slopes, axis=0))
    if k <= ALL_ORDERS:
        curves = _exact_curves(chosen, ranked)
    else:
        curves = _drawn_curves(head, images, directions, chosen, ranked, batch)
    return Importance(
        *_mean_and_error(totals),
        np.sqrt((np.array(noises) ** 2).sum(axis=0)) / len(images),
        *_mean_and_error(slopes),
        *_mean_and_error(gradient),
        *curves,
    )


def ranking(total: Floats, effect: Floats) -> NDArray[np.int64]:
    """Concepts by class, those that speak most for it first, those against it last.

    Parameters
    ----------
    total, effect : float64 [k, classes]

    Returns
    -------
    int64 [classes, k]
    """
    return np.argsort(-(total * np.sign(effect)), axis=0, kind="stable").T


def _mean_and_error(of_images: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Over images, and its standard error; NaN of one image."""
    values = np.array(of_images)
    count = len(values)
    if count == 1:
        return values[0], np.full_like(values[0], np.nan)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(count)


def _choices(k: int, seed: int) -> Floats:
    """Masks of 0 and 1: all of them, by the number that they are in binary; or those of orders."""
    if k <= ALL_ORDERS:
        return np.array([[(n >> j) & 1 for j in range(k)] for n in range(2**k)], np.float64)
    rng = np.random.default_rng(seed)
    return np.concatenate([_prefixes(rng.permutation(k)) for _ in range(ORDERS)])


def _prefixes(order: Iterable[int]) -> Floats:
    """Masks with the first 0 to k concepts of an order, ``[k + 1, k]``."""
    listed = list(order)
    masks = np.zeros((len(listed) + 1, len(listed)))
    for step, concept in enumerate(listed, 1):
        masks[step:, concept] = 1
    return masks


def _exact_curves(chosen: Floats, ranked: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Insertion, deletion and the mean over all orders, ``[classes, k + 1]``, from all choices."""
    k = ranked.shape[1]
    numbers = 2 ** np.arange(k)
    sizes = np.array([int(n).bit_count() for n in range(2**k)])

    def along(order: NDArray[np.int64], of: int) -> Floats:
        return chosen[(_prefixes(order) @ numbers).astype(np.int64), of]

    insertion = np.array([along(order, of) for of, order in enumerate(ranked)])
    # what is left while the best go first is what is added in the opposite order
    deletion = np.array([along(order[::-1], of)[::-1] for of, order in enumerate(ranked)])
    # in a random order every choice of that size is as likely
    orders = np.array([chosen[sizes == size].mean(axis=0) for size in range(k + 1)]).T
    return insertion, deletion, orders


def _drawn_curves(
    head: Logits,
    images: Sequence[NDArray[np.float32]],
    W: torch.Tensor,
    chosen: Floats,
    ranked: NDArray[np.int64],
    batch: int,
) -> tuple[Floats, Floats, Floats]:
    """The same of many concepts, `chosen` being logits along drawn orders."""
    classes, k = ranked.shape
    masks = np.concatenate([_prefixes(one) for order in ranked for one in (order, order[::-1])])
    values = []
    for grid in images:
        H = torch.from_numpy(np.ascontiguousarray(grid)).to(W.device)
        values.append(evaluated(head, H, W, masks, batch))
    along = np.mean(values, axis=0).reshape(classes, 2, k + 1, -1)
    insertion = np.array([along[of, 0, :, of] for of in range(classes)])
    deletion = np.array([along[of, 1, ::-1, of] for of in range(classes)])
    return insertion, deletion, chosen.reshape(ORDERS, k + 1, -1).mean(axis=0).T
