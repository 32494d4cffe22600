"""Coefficients of one set as they come: to disk, and into what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.factorize.held import Carrying, Held, drift_line
from stages.factorize.params import FactorizeParams
from stages.factorize.results import SetResult
from stages.factorize.rows import SetOfLayer
from stages.factorize.sharing import Shares, Sharing
from stages.factorize.solve import Solved

if TYPE_CHECKING:
    from stages.algorithms.nmf.choice import Links
    from stages.algorithms.nmf.usage import Usage

Array = NDArray[Any]
Write = Callable[[int, NDArray[np.float32]], None]


class Taking:
    """Takes the coefficients of one set, in order.

    Parameters
    ----------
    write : callable
        Puts rows, from one of all sets' coefficients on, to disk.
    """

    def __init__(
        self,
        of: SetOfLayer,
        params: FactorizeParams,
        held: Held | None,
        shares: Shares,
        write: Write,
    ) -> None:
        from stages.algorithms.nmf.choice import Links
        from stages.algorithms.nmf.usage import Usage

        self.of, self.params, self.held = of, params, held
        self._shares, self._write_rows = shares, write
        self._links: Links = Links(params.factorizations.columns)
        self._usage: Usage = Usage(len(params.factorizations.columns))
        self._W: Sequence[Array] = ()
        self._carrying = Carrying(held, of.cells, self._write) if held else None

    def take(self, row: int, block: NDArray[np.float32], W: Sequence[Array]) -> None:
        """Coefficients ``[rows, columns]`` of rows from `row` on, and W of each factorization."""
        self._W = W
        (self._carrying or self._write)(row, block)

    def _write(self, row: int, block: NDArray[np.float32]) -> None:
        self._links.add(block)
        self._usage.add(block)
        self._shares.add(row, block, self._W)
        self._write_rows(self.of.first_row + row, block)

    def result(self, solved: Solved) -> SetResult:
        """What is known of the set when all its coefficients have been taken."""
        of, held, found = self.of, self.held, solved.factorizations
        stability, each = solved.stability, solved.factor_stability
        held_out, carried, told = solved.held_out, (0, 0), []
        explained = np.full((len(found), 2), np.nan)
        if held and self._carrying:
            if held.stability:
                stability, each = held.stability, held.factor_stability
            held_out = held.held_out or held_out
            how, of_all = self.params.normalise, self.params.factorizations
            fresh = of.taken(of.stored(how, held.fresh), how, solved.mean, held.fresh)
            new = self._carrying.explained(fresh, found, of_all)
            explained = np.stack([held.explained, new], axis=1)
            carried = self._carrying.kept, len(held.fresh)
            told = [drift_line(of.name, len(of.members), carried, explained, of_all)]
        return SetResult(
            list(found),
            stability,
            each,
            held_out,
            self._usage,
            *self._links.parents(),
            held,
            explained,
            carried,
            told,
            solved.mean,
        )


@contextmanager
def taking(
    of: SetOfLayer, params: FactorizeParams, held: Held | None, sharing: Sharing, write: Write
) -> Iterator[Taking]:
    """What takes the coefficients of a set, those that lie within its factors served as well."""
    with sharing.of(of.name, of.weights) as shares:
        yield Taking(of, params, held, shares, write)
