"""Ways from heat maps to masks that the product does not have, for `benchmarks/discovery.py`.

Rules say where the masks of heat maps of k = 1 begin, in shares of the set's largest coefficient;
`Ddt` and `Clusters` find masks in the same rows of activations without NMF.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from stages.algorithms.baselines import kmeans, pca
from stages.algorithms.heatmap import upsample

BINS = 256
CERTAIN = 0.425  # refine.certain
Floats = NDArray[np.float64]
Levels = NDArray[np.uint16]  # [h, w, columns], whole numbers of 65535 shares
Masks = NDArray[np.bool_]  # [columns, h, w]


@dataclass(frozen=True)
class SetOtsu:
    """Otsu's threshold of all values of a factor over its image set, ``[columns]``."""

    thresholds: Floats

    @classmethod
    def of(cls, maps: Iterable[Levels]) -> "SetOtsu":
        """One reading of all maps, whose values are counted in `BINS` bins."""
        counts: NDArray[np.int64] | int = 0
        for levels in maps:
            planes = np.moveaxis(levels >> 8, -1, 0)
            counts = counts + np.stack([np.bincount(p.ravel(), minlength=BINS) for p in planes])
        assert not isinstance(counts, int)
        centres = (np.arange(BINS) + 0.5) / BINS
        return cls(np.array([_otsu(row, centres) for row in counts]))


def thresholds_by_rule(levels: Levels, percentile: Floats, of_set: SetOtsu) -> dict[str, Floats]:
    """Where masks of one image begin, by rule: shares ``[columns]``.

    Parameters
    ----------
    percentile : float64 [columns]
        The product's thresholds: the set's 75th percentile.
    """
    peaks = levels.max(axis=(0, 1)) / 65535
    otsu = np.array([_image_otsu(plane) for plane in np.moveaxis(levels, -1, 0)])
    there = percentile > 0
    rules = {
        "set's Otsu": of_set.thresholds,
        "image's Otsu": otsu,
        "mean of percentile and Otsu": np.sqrt(percentile * otsu),
        "0.425 of the image's largest": np.maximum(CERTAIN * peaks, percentile),
    }
    # a factor that the paper's rule calls absent is absent under each
    return {name: np.where(there, found, 0.0) for name, found in rules.items()}


def _image_otsu(plane: NDArray[np.uint16]) -> float:
    peak = int(plane.max())
    if peak == plane.min():
        return peak / 65535  # nothing to divide: all of it, or nothing where there is no heat
    counts, edges = np.histogram(plane, bins=BINS, range=(0, peak))
    return _otsu(counts, (edges[1:] + edges[:-1]) / 2 / 65535)


def _otsu(counts: NDArray[np.int64], centres: Floats) -> float:
    return float(threshold_otsu(hist=(counts, centres)))


@dataclass(frozen=True)
class Ddt:
    """Deep Descriptor Transforming (Wei et al., Pattern Recognition 2019).

    The rows of a set less their mean, projected onto their first principal component; the mask is
    the largest component of where the projection is above zero. Of both signs of the component that
    which goes with strong rows: the paper leaves it open.

    Attributes
    ----------
    projections : list of float32 [h * w, 1]
        By image.
    grids : list of (h, w)
    """

    projections: list[NDArray[np.float32]]
    grids: list[tuple[int, int]]

    @classmethod
    def of(cls, maps: list[NDArray[np.float32]]) -> "Ddt":
        """From activations ``[h, w, channels]`` of all images of a set."""
        rows = np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps])
        found = pca(rows - rows.mean(axis=0), 1).coefficients[:, 0]
        energy = np.linalg.norm(rows, axis=1)
        if np.dot(found, energy - energy.mean()) < 0:
            found = -found
        ends = np.cumsum([one.shape[0] * one.shape[1] for one in maps])
        parts = np.split(found[:, None], ends[:-1])
        return cls(parts, [(one.shape[0], one.shape[1]) for one in maps])

    def masks(self, image: int, size: tuple[int, int]) -> Masks:
        """The mask of one image, ``[1, h, w]``."""
        rows = torch.from_numpy(np.ascontiguousarray(self.projections[image]))
        above = upsample(rows, self.grids[image], size).numpy()[0] > 0
        labels, count = ndimage.label(above, structure=np.ones((3, 3)))
        if not count:
            return above[None]
        largest = np.bincount(labels.ravel())[1:].argmax() + 1
        return np.asarray(labels == largest)[None]


@dataclass(frozen=True)
class Clusters:
    """k-means of the rows of a set: a pixel is of the cluster that most of its cells are of.

    Attributes
    ----------
    one_hot : list of float32 [h * w, k]
        By image.
    grids : list of (h, w)
    """

    one_hot: list[NDArray[np.float32]]
    grids: list[tuple[int, int]]

    @classmethod
    def of(cls, maps: list[NDArray[np.float32]], k: int, seed: int) -> "Clusters":
        """From activations ``[h, w, channels]`` of all images of a set."""
        rows = np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps])
        ends = np.cumsum([one.shape[0] * one.shape[1] for one in maps])
        parts = np.split(kmeans(rows, k, seed).coefficients, ends[:-1])
        return cls(parts, [(one.shape[0], one.shape[1]) for one in maps])

    def masks(self, image: int, size: tuple[int, int]) -> Masks:
        """Masks of one image, ``[k, h, w]``; every pixel is in one."""
        rows = torch.from_numpy(np.ascontiguousarray(self.one_hot[image]))
        nearest = upsample(rows, self.grids[image], size).numpy().argmax(axis=0)
        return nearest == np.arange(rows.shape[1])[:, None, None]

    def within(self, figures: list[NDArray[np.bool_]]) -> Floats:
        """The share of each cluster's cells that lies in the figure, ``[k]``."""
        rows, there = np.concatenate(self.one_hot), np.concatenate(figures)
        sums = rows.sum(axis=0, dtype=np.float64)
        found: Floats = rows[there].sum(axis=0, dtype=np.float64) / np.maximum(sums, 1)
        return found
