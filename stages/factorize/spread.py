"""Passes over the rows of one set that the workers of a cluster make together.

W goes out once a pass, and comes to each worker once; ``H^T A`` and ``H^T H`` of ranges of units
are added up on the workers, in a tree, and those of all come back: what goes over the network in a
pass does not depend on the number of rows. The order of the sums (`stages.algorithms.unit_sums`) is
that of one process alone, so what comes out is the same, to the last bit, whatever the number of
workers and whoever was lost. The last pass brings the coefficients, in their order, to who writes
them.
"""

from __future__ import annotations

import operator
import pickle
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.nmf.cpu import CpuEngine
from stages.algorithms.nmf.sample import Sample
from stages.algorithms.nmf.stack import Matrix, Rule, Stack, Sums, Write
from stages.algorithms.normalised import mean_of
from stages.algorithms.rows import RowBlocks
from stages.algorithms.unit_sums import TreeSum, tree_sum
from stages.factorize.units import (
    Pass,
    RangeSums,
    Units,
    added,
    coefficients,
    row_sums,
    sums_of_range,
    sums_together,
    survey,
)
from stages.frame.cluster import Call

if TYPE_CHECKING:
    from stages.frame.cluster import Cluster, Task

Array = NDArray[Any]
FAN_IN = 8  # ranges whose sums one task adds up: a power of two
TASKS = 2  # ranges a slot, at least, and below twice as many


class SpreadEngine(CpuEngine):
    """Passes over the rows of one set on a cluster, over all others in this process.

    Parameters
    ----------
    cluster : Cluster
    units : Units
    rows : RowBlocks
        The same rows, as `Sweep` has them: none is read here.
    threads : int
        Of this process.

    Attributes
    ----------
    traffic : list of (int, int)
        Bytes of what went out and of what came back in each pass but the last.
    """

    def __init__(self, cluster: Cluster, units: Units, rows: RowBlocks, threads: int) -> None:
        super().__init__(threads)
        self.cluster, self.units, self.rows = cluster, units, rows
        self.traffic: list[tuple[int, int]] = []
        self._told = cluster.shared(units)
        self._places: dict[int, str] = {}
        self._turn = 0

    def read(self, rows: RowBlocks, indices: NDArray[np.int64]) -> tuple[float, Sample] | None:
        """See `DeviceEngine.read`."""
        if rows is not self.rows:
            return None
        ranges = self._ranges()

        def tasks() -> Iterator[Task[tuple[float, list[Any]]]]:
            for first, last in ranges:
                rows_of_range = self.units.span(first)[0], self.units.span(last - 1)[1]
                low, high = np.searchsorted(indices, rows_of_range)
                label = self._label("survey", first, last)
                drawn, near = indices[low:high], self._places[first]
                yield self.cluster.submit(
                    survey, self._told, first, last, drawn, label=label, near=near
                )

        squares, parts = TreeSum[float](operator.add), list[Any]()
        for (first, _), (norm, found) in zip(ranges, self.cluster.results(tasks()), strict=True):
            self._places[first] = self.cluster.last_worker
            squares.push(norm)
            parts += found
        return squares.total() or 0.0, Sample.of(parts)

    def accelerated(
        self, rows: RowBlocks, starts: Sequence[Matrix], updates: int, dtype: np.dtype[Any]
    ) -> list[tuple[float, Matrix]] | None:
        """See `DeviceEngine.accelerated`: the row sample is here, and so is the work on it."""
        return None

    def run_pass(
        self,
        rows: RowBlocks,
        stack: Stack,
        rule: Rule,
        *,
        H: Array | None = None,
        write: Write | None = None,
        with_HtA: bool = True,
    ) -> list[Sums]:
        """See `Engine.run_pass`."""
        if rows is not self.rows:
            return super().run_pass(rows, stack, rule, H=H, write=write, with_HtA=with_HtA)
        if H is not None:
            raise ValueError("coefficients that are kept between passes are not spread")
        self._turn += 1
        stack = Stack(stack.factors, stack.dtype)
        _ = stack.grams  # goes with it: made by BLAS, whose last bits are each machine's own
        work = Pass(stack, rule, self._turn, with_HtA)
        return self._sums(work) if write is None else self._written(work, write)

    def _sums(self, work: Pass) -> list[Sums]:
        told = self.cluster.shared(work)
        calls = [
            Call(
                sums_of_range,
                (self._told, told, first, last),
                self._label("pass", first, last),
                self._places[first],
            )
            for first, last in self._ranges()
        ]
        label = f"factorize: {self.units.of.name}: sums"
        found: RangeSums = self.cluster.reduced(calls, sums_together, FAN_IN, label)
        self._places = found.places
        self.traffic.append((len(pickle.dumps(work)), len(pickle.dumps(found.sums))))
        return found.sums

    def _written(self, work: Pass, write: Write) -> list[Sums]:
        """The last pass, unit by unit, as `CpuEngine` hands over blocks."""
        told, count, size = self.cluster.shared(work), self.units.count, self.units.block_rows
        step = self._ranges()[0][1]
        sums = TreeSum(added)
        tasks = (
            self.cluster.submit(
                coefficients,
                self._told,
                told,
                unit,
                label=self._label("coefficients", unit, unit + 1),
                near=self._places.get(unit // step * step, ""),
            )
            for unit in range(count)
        )
        for unit, (found, H) in enumerate(self.cluster.results(tasks)):
            sums.push(found)
            start, _ = self.units.span(unit)
            for at in range(0, len(H), size):
                write(start + at, H[at : at + size])
        return sums.total() or []

    def _ranges(self) -> list[tuple[int, int]]:
        """Those of all units; each has its place from then on: left alone, Dask would bring them
        all to whoever has what they are told, and others had to steal them."""
        found = ranges(self.units.count, self.cluster.slots)
        if not all(first in self._places for first, _ in found):
            slots = self.cluster.places or [""]
            for number, (first, _) in enumerate(found):
                self._places.setdefault(first, slots[number * len(slots) // len(found)])
        return found

    def _label(self, what: str, first: int, last: int) -> str:
        return f"factorize: {self.units.of.name}: {what}, units {first} to {last}"

    def told(self) -> list[str]:
        """What went over the network, for a person."""
        if not self.traffic:
            return []
        out, back = (max(some) / 1e3 for some in zip(*self.traffic, strict=True))
        return [
            f"factorize: {self.units.of.name}: {len(self.traffic)} passes on {self.cluster.slots} "
            f"threads of the cluster, each with {out:.1f} kB sent and {back:.1f} kB got, whatever "
            "the number of rows"
        ]


def ranges(count: int, slots: int) -> list[tuple[int, int]]:
    """(first unit, one past the last) of `TASKS` to twice as many ranges a slot, where there are so
    many units; of a power of two of units but for the last, as `TreeSum` wants them."""
    step = 1
    while -(-count // (2 * step)) >= TASKS * slots:
        step *= 2
    return [(at, min(at + step, count)) for at in range(0, count, step)]


def spread_mean(cluster: Cluster, units: Units) -> Array:
    """The mean of a set's rows ``[channels]``, as `stages.algorithms.normalised.mean_row`."""
    told = cluster.shared(units)
    tasks = (
        cluster.submit(
            row_sums,
            told,
            first,
            last,
            label=f"factorize: {units.of.name}: mean, units {first} to {last}",
        )
        for first, last in ranges(units.count, cluster.slots)
    )
    with np.errstate(invalid="ignore", over="ignore"):
        total = tree_sum(cluster.results(tasks), np.add)
    return mean_of(total, units.of.stored(units.how))
