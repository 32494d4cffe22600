"""What is known of each image set in the end, and how a layer's arrays have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.factors import Heat, LayerFactors
from stages.factorize.held import Held
from stages.factorize.params import FactorizeParams

if TYPE_CHECKING:
    import zarr

    from stages.algorithms.nmf import Factorization
    from stages.algorithms.nmf.usage import Usage


@dataclass(frozen=True)
class SetResult:
    """What is known of one set in the end, besides its coefficients."""

    factorizations: list[Factorization]
    stability: Sequence[tuple[float, float]]
    factor_stability: NDArray[np.float64]  # [columns]
    held_out: Sequence[float]
    usage: Usage
    parent: NDArray[np.int64]
    parent_cosine: NDArray[np.float64]
    held: Held | None
    explained: NDArray[np.float64]  # [problems, 2], see `LayerFactors`
    carried: tuple[int, int]
    told: list[str]  # how far new images are from what pinned factors explain
    mean: NDArray[np.float32] | None  # what was taken away from centred rows


def write_results(group: zarr.Group, params: FactorizeParams, results: Sequence[SetResult]) -> None:
    """Store what is known of a layer's image sets besides their coefficients."""
    of = LayerFactors
    per_set = [result.factorizations for result in results]
    updates = max(len(one.loss) for mine in per_set for one in mine)
    padded = [
        [np.pad(one.loss, (0, updates - len(one.loss)), constant_values=np.nan) for one in mine]
        for mine in per_set
    ]
    of.loss.write(group, padded)
    of.W.write(group, [np.concatenate([one.factors for one in mine]) for mine in per_set])
    of.energy.write(group, [np.concatenate([one.energy for one in mine]) for mine in per_set])
    means = [one.mean for one in results if one.mean is not None]
    if means:
        of.mean.write(group, means)
    of.norm.write(group, [mine[0].norm for mine in per_set])
    for array in (of.passes, of.converged, of.reseeded):
        array.write(group, [[int(getattr(one, array.name)) for one in mine] for mine in per_set])
    stable = np.full((len(results), len(params.k), 2), np.nan)
    for row, result in zip(stable, results, strict=True):
        for entry, one in zip(row, result.stability, strict=False):
            entry[:] = one
    of.stability.write(group, stable)
    of.factor_stability.write(group, [result.factor_stability for result in results])
    of.held_out.write(group, [result.held_out for result in results])
    of.nonzero.write(group, [result.usage.nonzero for result in results])
    of.hoyer.write(group, [result.usage.hoyer for result in results])
    nothing = np.full(len(params.factorizations.columns), np.nan)
    none = Heat(*(nothing for _ in Heat._fields))
    held = [one.held.heat if one.held else none for one in results]
    for name in Heat._fields:
        getattr(of, f"held_{name}").write(group, [getattr(one, name) for one in held])
    of.explained.write(group, [result.explained for result in results])
    of.carried.write(group, [result.carried for result in results])
    of.parent.write(group, [result.parent for result in results])
    of.parent_cosine.write(group, [result.parent_cosine for result in results])
