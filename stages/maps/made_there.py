"""Maps that the workers of a cluster make, encode and write; what is measured comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stages.artifacts.concept_maps import Measured
from stages.frame.cluster import Cluster, Task
from stages.maps.making import Floats, Known, Making
from stages.maps.plan import Compute, Source
from store import RaggedWriter
from store.encoding import ArrayPlan, Counted
from store.ranges import EncodedRange, NextShards, RangeWriter, write_shard

AHEAD = 3  # ranges and shards under way, for each slot
MOST = 32  # entries of a task, at most: a second or two of refining

Plans = tuple[ArrayPlan, ArrayPlan]  # of maps and masks
Range = tuple[Sequence[int], Known, Floats]  # entries that follow each other; see `Making.made`


class There(NamedTuple):
    """Where maps are made, if not here.

    Attributes
    ----------
    cluster : Cluster
    compute : callable or Source
        What is sent to its workers, in place of the one that is used here.
    label : str
        Stage and layer.
    """

    cluster: Cluster
    compute: Compute | Source
    label: str


@dataclass(frozen=True)
class Made:
    """Some entries as a worker has made them."""

    maps: EncodedRange
    masks: EncodedRange
    measured: Sequence[Measured]

    def __sizeof__(self) -> int:
        return self.maps.__sizeof__() + self.masks.__sizeof__()


@dataclass
class Spreading:
    """Hands ranges of entries to the workers, and shards as soon as all of their entries are.

    Attributes
    ----------
    there : There
    making : Making
    maps, masks : RaggedWriter
        Are told of shards, in order.
    take : callable
        Gets what was measured of each range, in order.
    """

    there: There
    making: Making
    maps: RaggedWriter
    masks: RaggedWriter
    take: Callable[[Sequence[Measured]], None]

    def run(self, ranges: Iterable[Range]) -> None:
        """Make and write the entries of ranges that follow each other."""
        cluster, plans = self.there.cluster, (self.maps.plan, self.masks.plan)
        sent = cluster.shared((self.making, plans))
        waiting: deque[Callable[[], None]] = deque()
        offsets = self.maps.offsets
        # maps and masks have the same rows, and so have their shards
        shards = NextShards[Task[Made]].after(plans[0], self.maps.flushed)
        for entries, known, thresholds in ranges:
            first, last = entries[0], entries[-1] + 1
            label = f"{self.there.label}: images {first} to {last}"
            start, stop = int(offsets[first]), int(offsets[last])
            made = cluster.submit(_make, sent, entries, known, thresholds, start, label=label)
            waiting.append(self._taken(cluster.submit(_measured, made, label=label)))
            for shard, needed in shards.complete(start, stop, made):
                label = f"{self.there.label}: shard {shard}"
                written = cluster.submit(_write, sent, shard, *needed, label=label)
                waiting.append(self._written(shard, written))
            while len(waiting) > AHEAD * cluster.slots:
                waiting.popleft()()
        while waiting:
            waiting.popleft()()

    def _taken(self, task: Task[Sequence[Measured]]) -> Callable[[], None]:
        return lambda: self.take(self.there.cluster.result(task))

    def _written(self, shard: int, task: Task[tuple[Counted, Counted]]) -> Callable[[], None]:
        def told() -> None:
            maps, masks = self.there.cluster.result(task)
            self.maps.written(shard, maps)
            self.masks.written(shard, masks)

        return told


def _make(
    sent: tuple[Making, Plans], entries: Sequence[int], known: Known, thresholds: Floats, start: int
) -> Made:
    making, plans = sent
    grid_hw = np.array([making.plan.sizes[entry] for entry in entries])
    writers = [RangeWriter(plan, start, grid_hw, handed_over=True) for plan in plans]
    found: list[Measured] = []
    for one in making.made(entries, thresholds, known):
        finished = making.finish(thresholds, one)
        at = int(writers[0].offsets[finished.first - entries[0]])
        for writer, rows in zip(writers, (finished.levels, finished.bits), strict=True):
            writer.append(at, rows)
        found += finished.measured
    for writer in writers:
        writer.close()
    return Made(writers[0].encoded, writers[1].encoded, found)


def _measured(made: Made) -> Sequence[Measured]:
    return made.measured


def _write(sent: tuple[Making, Plans], shard: int, *made: Made) -> tuple[Counted, Counted]:
    maps, masks = sent[1]
    return (
        write_shard(maps, shard, [one.maps for one in made]),
        write_shard(masks, shard, [one.masks for one in made]),
    )
