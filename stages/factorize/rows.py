"""The rows of one image set as they are factorized: normalised, and in memory where they fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.normalised import CENTRE, NONE, mean_row, normalised
from stages.factorize.needs import set_needs
from stages.factorize.params import FactorizeParams
from stages.frame.memory import resources_within
from stages.frame.resources import Resources
from store import Ragged, SetRows

if TYPE_CHECKING:
    from stages.algorithms.rows import RowBlocks


@dataclass(frozen=True)
class SetOfLayer:
    """One image set at one layer.

    Attributes
    ----------
    members : int64 [images]
        Entries of `ragged`.
    cells : int64 [images, sizes]
        Rows of each image at each size.
    first_row : int
        Of all sets' coefficients.
    finest : int
        Most cells of an image's map that is combined of several sizes.
    """

    name: str
    ragged: Ragged
    members: NDArray[np.int64]
    cells: NDArray[np.int64]
    first_row: int
    checkpoint: Path
    finest: int = 0

    @property
    def end(self) -> int:
        """One past its last row."""
        return self.first_row + int(self.cells.sum())

    def mean(self, how: str) -> NDArray[np.float32] | None:
        """The mean of its rows ``[channels]`` where they are to be centred: one reading of them."""
        return mean_row(self.stored(how)) if how == CENTRE else None

    def stored(self, how: str, members: NDArray[np.int64] | None = None) -> SetRows:
        """The rows of some members, or of all, in the form that normalising them starts from."""
        rows = self.ragged.select(self.members if members is None else members)
        if how == CENTRE:
            return rows
        # what is normalised is float32 then
        return rows.compact() if how == NONE else replace(rows.compact(), narrow=False)


def rows_within_budget(
    of: SetOfLayer,
    params: FactorizeParams,
    resources: Resources,
    libraries: int,
    layer_rows: int,
    mean: NDArray[np.float32] | None,
) -> RowBlocks:
    """The rows kept in memory where they fit the budget, streamed from disk otherwise.

    A GPU that can keep them has them from disk, once.

    Parameters
    ----------
    libraries : int
        See `stages.factorize.needs.set_needs`.
    layer_rows : int
        Rows of all sets together.
    mean : float32 [channels] or None
        What is taken away from centred rows.
    """
    from stages.algorithms.nmf.budget import READERS, device_holds
    from stages.algorithms.rows import ResidentRows

    how, device = params.normalise, resources.torch_device()
    rows = of.stored(how)
    density = rows.density if rows.form == "sparse" else 1.0
    of_layer = layer_rows, of.finest
    size = rows.rows_per_block
    needs = set_needs(params, rows.shape, density, size, of_layer, resources, libraries)
    resources_within("factorize", needs, resources)
    spare = resources.memory - needs.least
    if device != "cpu":
        block = max(1, rows.nbytes * size // max(1, rows.shape[0]))
        readers = max(1, min(READERS, resources.workers, spare // block))
        rows = rows.reading(int(readers))
        whole = how == NONE  # others are float32 there
        if device_holds(rows.shape, rows.density, device, half=whole):
            return normalised(rows, how, mean)
    taken = normalised(rows, how, mean)
    if rows.nbytes > spare:
        return taken
    # an estimate from the whole layer's share of non-zeros: this set may have more
    return ResidentRows.within(taken, spare) or taken
