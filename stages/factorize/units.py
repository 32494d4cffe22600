"""A set's rows in units, as the workers of a cluster read them, keep them and add them up.

The order of the sums is that of `stages.algorithms.unit_sums`, so it does not matter who adds up
which units.
"""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.normalised import normalised, sum_of_rows, weighted
from stages.algorithms.rows import ResidentRows, RowBlocks
from stages.algorithms.unit_sums import tree_sum, unit_blocks
from stages.factorize.rows import SetOfLayer
from stages.frame.cluster import FORGETTING, own_address, own_memory
from store import SetRows

if TYPE_CHECKING:
    from stages.algorithms.nmf.stack import Rule, Stack, Sums

Array = NDArray[Any]
KEPT_SHARE = 1 / 3  # of a worker's memory: what dask does not know of, and what it does, come to it


@dataclass(frozen=True)
class PartOfRows:
    """Some rows of a set as row blocks: whole blocks of it, but for its last."""

    rows: SetRows
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, channels)."""
        return self.stop - self.start, self.rows.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.rows.dtype

    def blocks(self) -> Iterator[Any]:
        """Yield the blocks, read one by one."""
        size = self.rows.rows_per_block
        for at in range(self.start, self.stop, size):
            yield self.rows.read(at, min(at + size, self.stop))


@dataclass(frozen=True)
class Units:
    """The rows of one set, in units: what workers are told of them.

    Attributes
    ----------
    of : SetOfLayer
    how : str
        They are normalised.
    mean : float32 [channels] or None
        What is taken away from them.
    token : str
        Of this set in this run: what workers keep is called after it.
    block_rows : int
    blocks : int
        Of a unit.
    signed : bool
        Whether values may be below zero.
    memory : int
        Bytes that a worker may hold where it does not know itself.
    """

    of: SetOfLayer
    how: str
    mean: NDArray[np.float32] | None
    token: str
    signed: bool
    memory: int
    block_rows: int = 0
    blocks: int = 0

    @classmethod
    def made(
        cls,
        of: SetOfLayer,
        how: str,
        mean: NDArray[np.float32] | None,
        token: str,
        signed: bool,
        memory: int,
    ) -> Units:
        """Units of the size that this process adds up in one go."""
        size = of.stored(how).rows_per_block
        return cls(of, how, mean, token, signed, memory, size, unit_blocks(size))

    @property
    def rows(self) -> int:
        """Of a unit."""
        return self.block_rows * self.blocks

    @property
    def count(self) -> int:
        """Units."""
        return -(-self.of.size // self.rows)

    def span(self, unit: int) -> tuple[int, int]:
        """First row of a unit, and one past its last."""
        return unit * self.rows, min((unit + 1) * self.rows, self.of.size)

    def stored(self, unit: int) -> PartOfRows:
        """A unit's rows as they are stored."""
        rows = replace(self.of.stored(self.how), block_rows=self.block_rows)
        return PartOfRows(rows, *self.span(unit))

    def taken(self, unit: int, turn: int) -> RowBlocks:
        """A unit's rows as they are factorized: kept in memory where there is room for them.

        Parameters
        ----------
        turn : int
            Number of the pass.
        """
        found = _KEPT.get(self.token, unit, turn)
        if found is not None:
            return found
        stored = self.stored(unit)
        rows = normalised(stored, self.how, self.mean)
        weights = self.of.weights
        if weights is not None:
            rows = weighted(rows, weights[stored.start : stored.stop])
        limit = int(KEPT_SHARE * (own_memory() or self.memory))
        size = stored.rows.nbytes * rows.shape[0] // max(1, self.of.size)
        if not _KEPT.make_room(self.token, turn, size, limit):
            return rows
        resident = ResidentRows.of(rows)
        _KEPT.put(self.token, unit, turn, resident, limit)
        return resident


@dataclass
class _Entry:
    rows: ResidentRows
    nbytes: int
    turn: int


@dataclass
class Kept:
    """Units that a worker's process keeps between passes.

    Those of other sets go first when there is no room, then those that this one's last passes had
    from elsewhere. The others stay, and what finds no room is read in each pass: passes come by all
    units in turn, so that to drop the one which was not used for longest would be to drop the next.
    """

    entries: OrderedDict[tuple[str, int], _Entry] = field(default_factory=OrderedDict)
    nbytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, token: str, unit: int, turn: int) -> ResidentRows | None:
        """A unit's rows, if they are here."""
        with self.lock:
            found = self.entries.get((token, unit))
            if found is None:
                return None
            found.turn = turn
            self.entries.move_to_end((token, unit))
            return found.rows

    def make_room(self, token: str, turn: int, nbytes: int, limit: int) -> bool:
        """Whether there is room for so many bytes, now that what may go is gone."""
        with self.lock:
            self._shrink(token, turn, limit - nbytes)
            return self.nbytes + nbytes <= limit

    def put(self, token: str, unit: int, turn: int, rows: ResidentRows, limit: int) -> None:
        """Keep a unit's rows, unless they do not fit."""
        nbytes = rows.nbytes
        with self.lock:
            self._shrink(token, turn, limit - nbytes)
            if self.nbytes + nbytes <= limit and (token, unit) not in self.entries:
                self.entries[token, unit] = _Entry(rows, nbytes, turn)
                self.nbytes += nbytes

    def clear(self) -> None:
        """Keep nothing."""
        with self.lock:
            self.entries.clear()
            self.nbytes = 0

    def _shrink(self, token: str, turn: int, most: int) -> None:
        if self.nbytes <= most:
            return
        others = [key for key in self.entries if key[0] != token]
        unused = [
            key for key, one in self.entries.items() if key[0] == token and one.turn < turn - 1
        ]
        for key in (*others, *unused):
            if self.nbytes <= most:
                return
            self.nbytes -= self.entries.pop(key).nbytes


_KEPT = Kept()
FORGETTING.append(_KEPT.clear)


@dataclass(frozen=True)
class Pass:
    """What one pass over all units is made with; `products`: whether for ``H^T A``, too."""

    stack: Stack
    rule: Rule
    turn: int
    products: bool


@dataclass(frozen=True)
class RangeSums:
    """The sums over a range of units, and who made which."""

    sums: list[Sums]
    places: dict[int, str]  # by first unit


def sums_of_range(units: Units, work: Pass, first: int, last: int) -> RangeSums:
    """A task: the sums over some units."""
    from stages.algorithms.nmf.cpu import CpuEngine

    engine = CpuEngine(1)
    each = (
        engine.run_pass(units.taken(unit, work.turn), work.stack, work.rule, with_HtA=work.products)
        for unit in range(first, last)
    )
    return RangeSums(tree_sum(each, added), {first: own_address()})


def sums_together(*ranges: RangeSums) -> RangeSums:
    """A task: the sums over neighbouring ranges."""
    places = {first: address for one in ranges for first, address in one.places.items()}
    return RangeSums(tree_sum([one.sums for one in ranges], added), places)


def added(left: list[Sums], right: list[Sums]) -> list[Sums]:
    """The sums over two neighbouring ranges; neither is changed, for a task may be done again."""
    from stages.algorithms.nmf.stack import Sums

    def both(a: Array | None, b: Array | None) -> Array | None:
        return None if a is None or b is None else a + b

    return [
        Sums(both(a.HtA, b.HtA), a.HtH + b.HtH, a.HtP + b.HtP)
        for a, b in zip(left, right, strict=True)
    ]


def coefficients(units: Units, work: Pass, unit: int) -> tuple[list[Sums], NDArray[np.float32]]:
    """A task of the last pass: the sums over a unit, and its coefficients ``[rows, columns]``."""
    from stages.algorithms.nmf.cpu import CpuEngine

    rows = units.taken(unit, work.turn)
    H = np.empty((rows.shape[0], work.stack.columns), work.stack.dtype)
    sums = CpuEngine(1).run_pass(rows, work.stack, work.rule, H=H, with_HtA=work.products)
    return sums, H.astype(np.float32, copy=False)


def survey(
    units: Units, first: int, last: int, drawn: NDArray[np.int64]
) -> tuple[float, list[Any]]:
    """A task of the first pass: ``||A||_F^2`` of some units, and their drawn rows, by block.

    Parameters
    ----------
    drawn : int64 [n]
        Rows of the set that are drawn, ascending; those of these units at least.
    """
    from stages.algorithms.nmf.cpu import CpuEngine
    from stages.algorithms.nmf.stack import numbered_blocks
    from stages.algorithms.nmf.survey import surveyed

    of = units.of
    whole = of.taken(of.stored(units.how), units.how, units.mean)  # knows the images by their rows
    squares, parts = [], list[Any]()
    for unit in range(first, last):
        at, _ = units.span(unit)
        blocks = ((at + row, block) for row, block in numbered_blocks(units.taken(unit, 0)))
        norm, found = surveyed(blocks, whole, drawn, CpuEngine(1), signed=units.signed)
        squares.append(norm)
        parts += found
    return tree_sum(squares, operator.add), parts


def row_sums(units: Units, first: int, last: int) -> NDArray[np.float64]:
    """A task: the sum of the stored rows of some units ``[channels]``."""
    return tree_sum((sum_of_rows(units.stored(unit)) for unit in range(first, last)), np.add)
