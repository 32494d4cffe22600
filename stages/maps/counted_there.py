"""Percentiles of heat maps by the workers of a cluster, which count; sums come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import groupby
from operator import add
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from stages.frame.cluster import Cluster, Task
from stages.frame.parallel import ordered_map

if TYPE_CHECKING:
    from stages.algorithms.ranks import Brackets, Counts

IMAGES = 256  # of a task, about half a second; a set of no more is one worker's
SUMMED = 8  # tasks whose counts a worker adds: they are megabytes

Seen = Callable[[int], None]


class Maps(Protocol):
    """See `stages.maps.coefficients.HeatMaps`."""

    def of(self, entries: Sequence[int]) -> Self: ...

    def percentile(self, entries: Sequence[int], q: float, seen: Seen) -> NDArray[np.float64]: ...

    def sampled(self, entries: Sequence[int], each: int) -> NDArray[np.float32]: ...

    def counted(self, entries: Sequence[int], brackets: Brackets, seen: Seen) -> Counts: ...


def percentiles_there(
    maps: Maps, cluster: Cluster, asked: Iterable[tuple[Sequence[int], float, Seen]]
) -> Iterator[NDArray[np.float64]]:
    """See `HeatMaps.percentiles`: small sets side by side, large ones one after the other."""
    for small, some in groupby(asked, lambda one: len(one[0]) <= IMAGES):
        sets = list(some)
        if not small:
            yield from (maps.percentile(*one) for one in sets)
            continue
        items = ((maps.of(entries), entries, q) for entries, q, _ in sets)
        found = ordered_map(_of_set, items, cluster=cluster, label="heatmaps: thresholds of sets")
        for (entries, _, seen), thresholds in zip(sets, found, strict=True):
            seen(2 * len(entries))
            yield thresholds


def sampled_there(
    maps: Maps, cluster: Cluster, entries: Sequence[int], each: int
) -> Iterator[NDArray[np.float32]]:
    """See `HeatMaps.sampled`; some entries after the other."""
    tasks = (
        cluster.submit(
            _sampled, maps.of(some), some, each, label=f"heatmaps: sample of maps {some[0]} on"
        )
        for some in _ranges(entries)
    )
    yield from cluster.results(tasks)


def counted_there(
    maps: Maps, cluster: Cluster, entries: Sequence[int], brackets: Brackets, seen: Seen
) -> Counts:
    """See `HeatMaps.counted`; adding is in any order, for what is counted is whole."""
    from stages.algorithms.ranks import Counts

    ranges = list(_ranges(entries))
    groups = [ranges[at : at + SUMMED] for at in range(0, len(ranges), SUMMED)]

    def tasks() -> Iterator[Task[Counts]]:
        for group in groups:
            counts = [
                cluster.submit(
                    _counted, maps.of(some), some, brackets, label=f"heatmaps: maps {some[0]} on"
                )
                for some in group
            ]
            label = f"heatmaps: sum of maps {group[0][0]} to {group[-1][-1]}"
            yield cluster.submit(_sum, *counts, label=label)

    total = Counts.none(len(brackets.low))
    limit = max(2, -(-2 * cluster.slots // SUMMED))
    for group, counts in zip(groups, cluster.results(tasks(), limit=limit), strict=True):
        total += counts
        seen(sum(map(len, group)))
    return total


def _ranges(entries: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(entries), IMAGES):
        yield entries[at : at + IMAGES]


def _of_set(item: tuple[Maps, Sequence[int], float]) -> NDArray[np.float64]:
    maps, entries, q = item
    return maps.percentile(entries, q, lambda images: None)


def _sampled(maps: Maps, entries: Sequence[int], each: int) -> NDArray[np.float32]:
    return maps.sampled(entries, each)


def _counted(maps: Maps, entries: Sequence[int], brackets: Brackets) -> Counts:
    return maps.counted(entries, brackets, lambda images: None)


def _sum(*counts: Counts) -> Counts:
    return reduce(add, counts)
