"""From image files to rows on disk: several batches at once, written in order.

On a CPU every core takes a job of its own, on one thread from decoding to the last layer: nothing
waits for the slowest thread of each layer, and decoding, forward passes and writing overlap by
themselves. Four images at a time in the network were measured 1.2 (VGG-19) to 1.5 (SqueezeNet)
times faster than sixteen, whose intermediate results fit no cache. On a GPU threads decode and
encode, or processes decode, and it is given large batches: `stages.extract.device`.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.image_index import ImageIndex
from stages.extract.outputs import Blocks, Outputs
from stages.extract.photographs import Photographs
from stages.extract.plan import Job, Lanes, Order, Shape, Shapes
from stages.extract.reuse import Known
from stages.frame.parallel import ordered_map, torch_threads_kept
from stages.frame.progress import track
from stages.images.resize import normalise
from store import RaggedWriter, RangeWriter

if TYPE_CHECKING:
    from stages.algorithms.backbone import Backbone

# Fewer images are decoded by threads: the cores that processes take to start, about three seconds,
# would have done two or three thousand images meanwhile.
PROCESSES_FROM = 4000


@dataclass(frozen=True)
class Stream:
    """All that turns jobs into rows on disk.

    Attributes
    ----------
    grids : mapping of layer to (h, w) of each image at each size ``[n, sizes, 2]``
    known : Known
        Whose rows are copied instead of computed.
    writers : mapping of layer to writer
    lanes : Lanes
        How many batches are in work at once, and on how many threads each.
    decode : str
        `gpu` to let a GPU decode JPEG files.
    recorded : frozenset of (height, width), optional
        As `recorded_shapes` has them of all jobs, where these are not all.
    """

    index: ImageIndex
    backbone: "Backbone"
    order: Order
    grids: Mapping[str, NDArray[np.int64]]
    known: Known
    writers: Mapping[str, RaggedWriter | RangeWriter]
    lanes: Lanes
    decode: str = "cpu"
    recorded: frozenset[Shape] | None = None

    def run(self, jobs: Sequence[Job], threads: Executor | None = None, half: bool = False) -> None:
        """Do what is not on disk yet, in order.

        Parameters
        ----------
        jobs : sequence of Job
            All there are.
        threads : Executor, optional
            They decode for a GPU until processes do; without them every lane does all of its own
            batches.
        half : bool
            Let a GPU give float16.

        Raises
        ------
        BeyondFloat16
            With `half`, when a value is too large for it.
        """
        # A job is repeated whole, so that a resumed run computes just what the first one did.
        todo = [job for job in jobs if self._unwritten(job)]
        total = len(self.order.image_ids)
        done = total - sum(job.stop - job.start for job in todo)
        with track("extract", total, "images", done) as advance:
            self.write(jobs, todo, advance, threads, half)

    def write(
        self,
        jobs: Sequence[Job],
        todo: Sequence[Job],
        advance: Callable[[int], None],
        threads: Executor | None = None,
        half: bool = False,
    ) -> None:
        """Do some of all jobs, and close the writers; the rest is as `run` has it."""
        outputs = self._lanes(todo) if threads is None else self._gpu(jobs, todo, threads, half)
        # closed: an interrupted run must not leave batches in work behind it
        with closing(outputs), torch_threads_kept():
            for job, computed in zip(todo, outputs, strict=True):
                self._write(job, computed)
                advance(job.stop - job.start)
        for writer in self.writers.values():
            writer.close()

    def _unwritten(self, job: Job) -> bool:
        return any(w.offsets[job.stop] > w.flushed for w in self.writers.values())

    def _lanes(self, todo: Sequence[Job]) -> Generator[Outputs, None, None]:
        return ordered_map(self._compute, todo, workers=self.lanes.count, limit=self.lanes.waiting)

    def _gpu(
        self, jobs: Sequence[Job], todo: Sequence[Job], threads: Executor, half: bool
    ) -> Generator[Outputs, None, None]:
        """Activations of each job: a lane per size, job by job beside each other."""
        from stages.extract.device import DeviceLane
        from stages.extract.passes import Passes
        from stages.extract.pixels import DevicePixels, HostPixels
        from stages.extract.slots import Streams

        recorded = self.recorded
        if recorded is None:
            recorded = recorded_shapes(jobs, self.lanes.slice)
        how = self.backbone.interpolation
        photographs = Photographs.of(self.index, self.order.image_ids, how)
        streams = Streams(self.backbone.device)
        passes = Passes(self.backbone, streams)
        seen = set(self.order.shapes)
        with ExitStack() as stack:
            lanes = []
            for at in range(self.sizes):
                source = stack.enter_context(
                    closing(
                        DevicePixels(photographs, self.backbone.device, threads, streams)
                        if self.decode == "gpu"
                        else HostPixels.decoding(
                            photographs, threads, self._processes(todo), streams
                        )
                    )
                )
                largest = max((h * w for h, w in {shapes[at] for shapes in seen}), default=1)
                lane = DeviceLane(
                    self.backbone,
                    self._most(at),
                    self.lanes.slice,
                    largest,
                    half,
                    source,
                    passes,
                    at,
                )
                lanes.append(stack.enter_context(closing(lane.outputs(todo, recorded))))
            for found in zip(*lanes, strict=True):
                yield {layer: [one[layer] for one in found] for layer in self.writers}

    def _most(self, at: int) -> dict[str, tuple[int, int]]:
        """By layer the most rows of an image at a size, and its channels."""
        return {
            layer: (int(self.grids[layer][:, at].prod(axis=1).max(initial=0)), writer.channels)
            for layer, writer in self.writers.items()
        }

    def _processes(self, todo: Sequence[Job]) -> int:
        """How many decode for each size; one is no faster than threads."""
        many = sum(len(job.batch) for job in todo) >= PROCESSES_FROM
        each = self.lanes.processes // self.sizes
        return each if many and each > 1 else 0

    @property
    def sizes(self) -> int:
        """How many there are at which the network sees each photograph."""
        return next((grids.shape[1] for grids in self.grids.values()), 1)

    def _compute(self, job: Job) -> Outputs:
        """Activations of a job's batch, on a CPU."""
        import torch

        torch.set_num_threads(self.lanes.threads)
        outputs: dict[str, list[list[NDArray[np.float32]]]] = {
            layer: [[] for _ in job.shapes] for layer in self.writers
        }
        for start in range(0, len(job.batch), self.lanes.slice):
            some = job.batch[start : start + self.lanes.slice]
            decoded = [self._decode(position, job.shapes) for position in some]
            for at in range(len(job.shapes)):
                images = [one[at] for one in decoded]
                # One image alone takes another path through some libraries, with other last bits.
                batch = torch.from_numpy(np.stack(images if len(images) > 1 else 2 * images))
                found = self.backbone(batch.permute(0, 3, 1, 2))
                for layer, values in found.items():
                    outputs[layer][at].append(values[: len(images)].numpy())
        return outputs

    def _decode(self, position: int, shapes: Shapes) -> list[NDArray[np.float32]]:
        """One image at each size, normalised, float32 ``[h, w, 3]``."""
        image_id, how = self.order.image_ids[position], self.backbone.interpolation
        found = self.index.rgb_at_each(image_id, shapes, how)
        return [normalise(rgb, self.backbone.mean, self.backbone.std) for rgb in found]

    def _write(self, job: Job, computed: Outputs) -> None:
        """Append a job's rows to every layer, computed and known ones in their order."""
        for layer, writer in self.writers.items():
            first = 0  # of the batch
            for source, run in groupby(
                range(job.start, job.stop), key=lambda position: int(self.known.source[position])
            ):
                positions = list(run)
                row = int(writer.offsets[positions[0]])
                if source < 0:
                    blocks = _entries(computed[layer], first, first + len(positions))
                    first += len(positions)
                else:
                    blocks = self.known.earlier[source].rows(layer, self.known.entry[positions])
                for block in blocks:
                    writer.append(row, block)
                    row += len(block)


def recorded_shapes(jobs: Sequence[Job], batch: int) -> frozenset[Shape]:
    """Shapes of so many full batches that recording a CUDA graph is worth it.

    Of all jobs, so that a resumed run computes each as the first one did.
    """
    from stages.extract.device import GRAPH_JOBS

    full = Counter(shape for job in jobs if len(job.batch) == batch for shape in job.shapes)
    return frozenset(shape for shape, count in full.items() if count >= GRAPH_JOBS)


def _entries(sizes: Sequence[Blocks], start: int, stop: int) -> Iterator[NDArray[Any]]:
    """Rows of the images ``start:stop`` of a batch: of each image those of all sizes in turn."""
    if len(sizes) == 1:
        yield from _images(sizes[0], start, stop)
        return
    for image in range(start, stop):
        for arrays in sizes:
            yield from _images(arrays, image, image + 1)


def _images(arrays: Blocks, start: int, stop: int) -> Iterator[NDArray[Any]]:
    """Rows of the images ``start:stop`` of a batch that lies in several arrays."""
    at = 0
    for array in arrays:
        some = array[max(0, start - at) : max(0, stop - at)]
        if len(some):
            yield some.reshape(-1, some.shape[-1])
        at += len(array)
