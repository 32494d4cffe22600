"""Dense CRF of Kraehenbuehl and Koltun (NIPS 2011) through pydensecrf.

The only module that imports pydensecrf (distribution ``pydensecrf2``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D

from stages.algorithms.refinement_defaults import (
    BILATERAL_COMPAT,
    BILATERAL_SRGB,
    BILATERAL_SXY,
    CRF_ITERATIONS,
    GAUSSIAN_COMPAT,
    GAUSSIAN_SXY,
    PROBABILITY_FLOOR,
)


def dense_crf(
    image: NDArray[np.uint8],
    probability: NDArray[np.floating],
    *,
    iterations: int = CRF_ITERATIONS,
    gaussian_sxy: float = GAUSSIAN_SXY,
    gaussian_compat: float = GAUSSIAN_COMPAT,
    bilateral_sxy: float = BILATERAL_SXY,
    bilateral_srgb: float = BILATERAL_SRGB,
    bilateral_compat: float = BILATERAL_COMPAT,
) -> NDArray[np.float32]:
    """Refine factor probabilities with a fully connected CRF, each factor against background.

    Parameters
    ----------
    image : uint8 [h, w, 3]
        RGB in 0..255.
    probability : float [n, h, w]
        Probability of each factor, clamped to [1e-4, 1 - 1e-4]; factors do not compete.
    iterations : int
        Mean-field updates, >= 0; 0 returns the clamped probability.
    gaussian_sxy, bilateral_sxy : float
        Standard deviations of the two kernels in space, in pixels, > 0.
    bilateral_srgb : float
        Standard deviation of the bilateral kernel in colour, in grey levels, > 0.
    gaussian_compat, bilateral_compat : float
        Potts penalties of the two kernels, in nats.

    Returns
    -------
    float32 [n, h, w], values in [0, 1]
        The same for the same input: inference is serial and has no random part.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit, a probability is NaN, or a parameter is out of range.
    """
    _check(image, probability)
    if iterations < 0:
        raise ValueError(f"iterations must be >= 0, got {iterations}")
    if min(gaussian_sxy, bilateral_sxy, bilateral_srgb) <= 0:
        raise ValueError(
            f"kernel widths must be > 0, got gaussian_sxy={gaussian_sxy}, "
            f"bilateral_sxy={bilateral_sxy}, bilateral_srgb={bilateral_srgb}"
        )
    height, width = image.shape[:2]
    # Building the bilateral lattice is the costly part; it depends on the image alone, so one CRF
    # serves every factor: setting a unary discards the one before and inference starts anew.
    crf = DenseCRF2D(width, height, 2)
    crf.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=bilateral_sxy,
        srgb=bilateral_srgb,
        # pydensecrf refuses views that are not C-contiguous and buffers that are read-only.
        rgbim=np.array(image, dtype=np.uint8, order="C", copy=True),
        compat=bilateral_compat,
    )
    refined = np.empty(probability.shape, dtype=np.float32)
    for factor, p in enumerate(probability):
        crf.setUnaryEnergy(_energies(p))
        posterior = np.asarray(crf.inference(iterations), dtype=np.float32)  # [2, h * w]
        refined[factor] = posterior[1].reshape(height, width)
    return refined


def _check(image: NDArray[np.uint8], probability: NDArray[np.floating]) -> None:
    """The library reads these buffers unchecked: a wrong size would end the process."""
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must be [h, w, 3] with h, w >= 1, got {image.shape}")
    if image.dtype != np.uint8:
        raise ValueError(f"image must be uint8, got {image.dtype}")
    if probability.ndim != 3 or probability.shape[1:] != image.shape[:2]:
        raise ValueError(
            f"probability must be [n, h, w], got {probability.shape} for an image {image.shape}"
        )
    if not np.issubdtype(probability.dtype, np.floating):
        raise ValueError(f"probability must be floating point, got {probability.dtype}")
    if np.isnan(probability).any():
        raise ValueError(f"probability {probability.shape} contains NaN")


def _energies(p: NDArray[np.floating]) -> NDArray[np.float32]:
    """Negative log-probabilities float32 [2, h * w], background first."""
    clamped = np.clip(p.astype(np.float64).ravel(), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return np.ascontiguousarray(-np.log(np.stack([1 - clamped, clamped])), dtype=np.float32)
