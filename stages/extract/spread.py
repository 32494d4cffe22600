"""Extraction on a cluster: the workers extract ranges of images, and write each shard once.

A range's rows stay on the worker that made them until all ranges of a shard are there; then one
worker puts them together and writes the shard where it belongs. What comes back is a few counts,
which go on record here, in order, as if the shard had been written here: a run can be begun on one
machine and ended on a cluster, or the other way round.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from stages.extract.needs import in_large_batches
from stages.extract.plan import Job, Lanes, Order
from stages.extract.ranges import (
    Network,
    Range,
    Spec,
    extract_range,
    has_gpu,
    write_layer_shard,
)
from stages.extract.reuse import Known
from stages.extract.stream import recorded_shapes
from stages.frame.cluster import Cluster, Task
from stages.frame.progress import note, track
from stages.frame.resources import Resources
from store import Counted, Location, RaggedWriter
from store.ranges import NextShards

if TYPE_CHECKING:
    from stages.artifacts.image_index import ImageIndex

# A range takes about a second of a small network on a core.
RANGE_IMAGES = 64
RANGE_JOBS = 32  # of a GPU
RANGE_BYTES, GPU_RANGE_BYTES = 64 * 2**20, 256 * 2**20  # of rows, as float16
# So many ranges of each slot are under way, unless a shard needs more of them.
AHEAD = 3


def device_on(cluster: Cluster, resources: Resources) -> str:
    """The device of all workers, by its name in torch: a GPU only where every one has it."""
    if resources.device != "auto":
        return resources.device
    found = cluster.asked(has_gpu)
    without = [worker for worker, has in found.items() if not has]
    if without and len(without) < len(found):
        note(
            f"extract: {len(without)} of {len(found)} workers have no GPU ({without[0]}): all "
            "work on their CPUs"
        )
    return "cpu" if without else "cuda"


@dataclass(frozen=True)
class Spread:
    """All that turns jobs into rows on disk, by the workers of a cluster; see `Stream`.

    Attributes
    ----------
    index : ImageIndex
        With whole paths: workers run in other folders.
    """

    cluster: Cluster
    network: Network
    index: ImageIndex
    order: Order
    grids: Mapping[str, NDArray[np.int64]]
    known: Known
    writers: Mapping[str, RaggedWriter]
    lanes: Lanes
    decode: str = "cpu"

    def run(self, jobs: Sequence[Job], threads: Executor | None = None, half: bool = False) -> None:
        """Do what is not on disk yet; errors as `Stream.run`, and those of `Cluster`.

        Parameters
        ----------
        jobs : sequence of Job
            All there are.
        threads : Executor, optional
            Not needed: workers have their own.
        half : bool
            Let GPUs give float16.
        """
        spec = self.cluster.shared(self._spec(jobs, half))
        todo = [one for one in self._cuts(jobs) if self._unwritten(one[-1].stop)]
        total = len(self.order.image_ids)
        done = total - sum(one[-1].stop - one[0].start for one in todo)
        under_way = _UnderWay(self.cluster, self.writers)
        with track("extract", total, "images", done) as advance, under_way.counting(advance):
            for some in todo:
                of = self._range(some)
                label = f"extract: images {of.start} to {of.stop}"
                task = self.cluster.submit(extract_range, spec, of, label=label)
                stops = {
                    layer: int(writer.offsets[of.stop]) for layer, writer in self.writers.items()
                }
                under_way.add(task, of.stop - of.start, of.rows, stops)
            under_way.finish()
        for writer in self.writers.values():
            writer.close()

    def _spec(self, jobs: Sequence[Job], half: bool) -> Spec:
        on_gpu = in_large_batches(self.network.device)
        places = tuple(
            {layer: _place(one.layers[layer].values) for layer in self.writers}
            for one in self.known.earlier
        )
        return Spec(
            self.network,
            self.index.light([]),
            {layer: writer.plan for layer, writer in self.writers.items()},
            places,
            Lanes(1, 1, self.lanes.slice),
            recorded_shapes(jobs, self.lanes.slice) if on_gpu else frozenset(),
            self.decode,
            half,
            uuid4().hex,
        )

    def _unwritten(self, stop: int) -> bool:
        return any(w.offsets[stop] > w.flushed for w in self.writers.values())

    def _cuts(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """Whole jobs, some a range; small collections keep all workers busy, too."""
        on_gpu = in_large_batches(self.network.device)
        most = RANGE_JOBS * self.lanes.slice if on_gpu else RANGE_IMAGES
        most = min(most, -(-len(self.order.image_ids) // (4 * self.cluster.slots)))
        room = GPU_RANGE_BYTES if on_gpu else RANGE_BYTES
        some: list[Job] = []
        for job in jobs:
            some.append(job)
            if job.stop - some[0].start >= most or self._bytes(some) >= room:
                yield some
                some = []
        if some:
            yield some

    def _bytes(self, jobs: Sequence[Job]) -> int:
        start, stop = jobs[0].start, jobs[-1].stop
        writers = self.writers.values()
        return sum(2 * w.channels * int(w.offsets[stop] - w.offsets[start]) for w in writers)

    def _range(self, jobs: Sequence[Job]) -> Range:
        start, stop = jobs[0].start, jobs[-1].stop
        some = slice(start, stop)
        shifted = tuple(
            Job(j.start - start, j.stop - start, tuple(p - start for p in j.batch), j.shapes)
            for j in jobs
        )
        return Range(
            start,
            stop,
            self.index.light(self.order.image_ids[some]).images,
            Order(tuple(range(stop - start)), self.order.shapes[some]),
            {layer: grids[some] for layer, grids in self.grids.items()},
            {layer: int(writer.offsets[start]) for layer, writer in self.writers.items()},
            self.known.source[some],
            self.known.entry[some],
            shifted,
        )


def _place(values: Any) -> str:
    """Where the group of a ragged array lies."""
    return str(Location.of_node(values).absolute()).removesuffix("/values")


class _UnderWay:
    """Ranges and shards that were handed in; few at a time, written down in order."""

    def __init__(self, cluster: Cluster, writers: Mapping[str, RaggedWriter]) -> None:
        self._cluster = cluster
        self._layers = {
            layer: (writer, NextShards[Task[Any]].after(writer.plan, writer.flushed))
            for layer, writer in writers.items()
        }
        self._shards: deque[tuple[RaggedWriter, int, Task[Counted]]] = deque()
        self._lock = threading.Lock()
        self._ranges: dict[int, Task[Any]] = {}  # not done yet, by number

    @contextmanager
    def counting(self, advance: Any) -> Generator[None, None, None]:
        """Say how many images are done as ranges are; in the end, or after an error, forget all."""
        self._advance = advance
        self._images: dict[int, int] = {}
        try:
            yield
        finally:
            with self._lock:
                left = list(self._ranges.values())
                self._ranges.clear()
            self._cluster.cancel([*left, *(task for _, _, task in self._shards)])

    def add(
        self, task: Task[Any], images: int, starts: Mapping[str, int], stops: Mapping[str, int]
    ) -> None:
        """A range that was handed in; waits where too many are under way."""
        number = len(self._images)
        self._images[number], self._ranges[number] = images, task
        task.when_done(lambda: self._done(number))
        for layer, (writer, shards) in self._layers.items():
            for shard, needed in shards.complete(starts[layer], stops[layer], task):
                label = f"extract: shard {shard} of {layer}"
                write = self._cluster.submit(
                    write_layer_shard, writer.plan, layer, shard, *needed, label=label
                )
                self._shards.append((writer, shard, write))
        while self._shards and len(self._ranges) >= AHEAD * self._cluster.slots:
            self._take()

    def finish(self) -> None:
        """Wait for all that is left."""
        while self._shards:
            self._take()
        for number in list(self._ranges):  # of no rows, or told of late
            self._done(number)

    def _take(self) -> None:
        writer, shard, task = self._shards[0]
        counted = self._cluster.result(task)
        self._shards.popleft()
        writer.written(shard, counted)

    def _done(self, number: int) -> None:
        """Called by any thread, once or twice."""
        with self._lock:
            if self._ranges.pop(number, None) is not None:
                self._advance(self._images[number])
