"""The rows of one image set as they are factorized: normalised, and in memory where they fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.normalised import CENTRE, NONE, mean_row, normalised, weighted
from stages.artifacts.activations import Activations
from stages.factorize.needs import set_needs
from stages.factorize.params import FactorizeParams
from stages.frame.errors import StageError
from stages.frame.memory import Needs, resources_within
from stages.frame.resources import Resources
from store import Ragged, SetRows

if TYPE_CHECKING:
    from stages.algorithms.rows import RowBlocks


@dataclass(frozen=True)
class Source:
    """Where the rows of a layer are; a worker that it is sent to opens them itself.

    Attributes
    ----------
    path : Path
        Of the activations.
    layer : str
    fingerprint : str
        Of what lies there.
    """

    path: Path
    layer: str
    fingerprint: str

    @classmethod
    def of(cls, activations: Activations, path: Path, layer: str) -> Source:
        """A layer of activations that are open here."""
        found = cls(path.absolute(), layer, activations.fingerprint)
        found.__dict__["ragged"] = activations.at(layer)
        return found

    @cached_property
    def ragged(self) -> Ragged:
        """The rows.

        Raises
        ------
        StageError
            When something else lies there.
        """
        return _opened(self.path, self.layer, self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        return Source, (self.path, self.layer, self.fingerprint)


@lru_cache(maxsize=4)  # a worker has the sets of a layer one by one
def _opened(path: Path, layer: str, fingerprint: str) -> Ragged:
    activations = Activations.open(path)
    if activations.fingerprint != fingerprint:
        raise StageError(
            f"{path}: a worker sees other activations there than the machine that runs the stage: "
            "all must see the same files under the same paths"
        )
    return activations.at(layer)


@dataclass(frozen=True)
class SetOfLayer:
    """One image set at one layer.

    Attributes
    ----------
    source : Source
    members : int64 [images]
        Entries of its ragged array.
    cells : int64 [images, sizes]
        Rows of each image at each size.
    first_row : int
        Of all sets' coefficients.
    rank : int
        Of all sets.
    finest : int
        Most cells of an image's map that is combined of several sizes; 0 of one.
    shares : Path or None
        File of the rows' weights, where the set lies within a factor.
    outer_mean : float32 [channels] or None
        The mean that was taken away from the rows of the set that it lies within.
    """

    name: str
    source: Source
    members: NDArray[np.int64]
    cells: NDArray[np.int64]
    first_row: int
    rank: int
    finest: int = 0
    shares: Path | None = None
    outer_mean: NDArray[np.float32] | None = None

    @cached_property
    def size(self) -> int:
        """Its rows."""
        return int(self.cells.sum())

    @property
    def end(self) -> int:
        """One past its last row."""
        return self.first_row + self.size

    @property
    def weights(self) -> NDArray[np.float32] | None:
        """Of the rows, where the set lies within a factor, float32 ``[rows]``: a memory map."""
        if self.shares is None:
            return None
        return np.memmap(self.shares, np.float32, "r", shape=(self.size,))

    def mean(self, how: str) -> NDArray[np.float32] | None:
        """The mean of its rows ``[channels]`` where they are to be centred: one reading of them."""
        if self.outer_mean is not None or how != CENTRE:
            return self.outer_mean
        return mean_row(self.stored(how))

    def stored(self, how: str, places: NDArray[np.int64] | None = None) -> SetRows:
        """The rows of some of its images, or of all, in the form that normalising starts from."""
        rows = self.source.ragged.select(self.members if places is None else self.members[places])
        if how == CENTRE:
            return rows
        # what is normalised or weighted is float32 then
        narrow = how == NONE and self.shares is None
        return rows.compact() if narrow else replace(rows.compact(), narrow=False)

    def taken(
        self,
        rows: SetRows,
        how: str,
        mean: NDArray[np.float32] | None,
        places: NDArray[np.int64] | None = None,
    ) -> RowBlocks:
        """What `stored` gave as it is factorized: normalised, and then weighted."""
        found, weights = normalised(rows, how, mean), self.weights
        if weights is None:
            return found
        if places is None:
            return weighted(found, weights)
        of_each = np.split(weights, np.cumsum(self.cells.sum(axis=1))[:-1])
        none = np.empty(0, np.float32)
        return weighted(found, np.concatenate([none, *(of_each[place] for place in places)]))


def needs_of(
    of: SetOfLayer, params: FactorizeParams, resources: Resources, libraries: int, layer_rows: int
) -> Needs:
    """See `stages.factorize.needs.set_needs`."""
    rows = of.stored(params.normalise)
    density = rows.density if rows.form == "sparse" else 1.0
    of_layer = layer_rows, of.finest
    size = rows.rows_per_block
    return set_needs(params, rows.shape, density, size, of_layer, resources, libraries)


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
    size = rows.rows_per_block
    needs = needs_of(of, params, resources, libraries, layer_rows)
    resources_within("factorize", needs, resources)
    spare = resources.memory - needs.least
    if device != "cpu":
        block = max(1, rows.nbytes * size // max(1, rows.shape[0]))
        readers = max(1, min(READERS, resources.workers, spare // block))
        rows = rows.reading(int(readers))
        whole = how == NONE and of.shares is None  # others are float32 there
        if device_holds(rows.shape, rows.density, device, half=whole):
            return of.taken(rows, how, mean)
    taken = of.taken(rows, how, mean)
    if rows.nbytes > spare:
        return taken
    # an estimate from the whole layer's share of non-zeros: this set may have more
    return ResidentRows.within(taken, spare) or taken
