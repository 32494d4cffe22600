"""From image files to rows on disk: several batches at once, written in order.

On a CPU every core takes a job of its own, on one thread from decoding to the last layer: nothing
waits for the slowest thread of each layer, and decoding, forward passes and writing overlap by
themselves. Four images at a time in the network were measured 1.2 (VGG-19) to 1.5 (SqueezeNet)
times faster than sixteen, whose intermediate results fit no cache. On a GPU threads decode and
encode, or processes decode, and it is given large batches: `stages.extract.device`.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.image_index import ImageIndex
from stages.extract.outputs import Outputs
from stages.extract.photographs import Photographs
from stages.extract.plan import Job, Lanes, Order
from stages.extract.reuse import Known
from stages.frame.parallel import ordered_map, torch_threads_kept
from stages.frame.progress import track
from stages.images.resize import normalise
from store import RaggedWriter

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
    known : Known
        Whose rows are copied instead of computed.
    writers : mapping of layer to writer
    lanes : Lanes
        How many batches are in work at once, and on how many threads each.
    decode : str
        `gpu` to let a GPU decode JPEG files.
    """

    index: ImageIndex
    backbone: "Backbone"
    order: Order
    known: Known
    writers: Mapping[str, RaggedWriter]
    lanes: Lanes
    decode: str = "cpu"

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
        outputs = self._lanes(todo) if threads is None else self._gpu(jobs, todo, threads, half)
        # closed: an interrupted run must not leave batches in work behind it
        with (
            closing(outputs),
            track("extract", total, "images", done) as advance,
            torch_threads_kept(),
        ):
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
        from stages.extract.device import GRAPH_JOBS, DeviceLane
        from stages.extract.pixels import DevicePixels, HostPixels
        from stages.extract.slots import Streams

        # of all jobs, so that a resumed run computes each as the first one did
        full = Counter(job.shape for job in jobs if len(job.batch) == self.lanes.slice)
        recorded = {shape for shape, count in full.items() if count >= GRAPH_JOBS}
        grids = {
            layer: (int(np.diff(writer.offsets).max(initial=0)), writer.channels)
            for layer, writer in self.writers.items()
        }
        largest = max((h * w for h, w in set(self.order.shapes)), default=1)
        photographs = Photographs.of(self.index, self.order.image_ids)
        streams = Streams(self.backbone.device)
        with closing(
            DevicePixels(photographs, self.backbone.device, threads, streams)
            if self.decode == "gpu"
            else HostPixels.decoding(photographs, threads, self._processes(todo), streams)
        ) as source:
            lane = DeviceLane(
                self.backbone, grids, self.lanes.slice, largest, half, source, streams
            )
            yield from lane.outputs(todo, recorded)

    def _processes(self, todo: Sequence[Job]) -> int:
        """How many decode."""
        many = sum(len(job.batch) for job in todo) >= PROCESSES_FROM
        return self.lanes.processes if many else 0

    def _compute(self, job: Job) -> Outputs:
        """Activations of a job's batch, on a CPU."""
        import torch

        torch.set_num_threads(self.lanes.threads)
        outputs: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in self.writers}
        for start in range(0, len(job.batch), self.lanes.slice):
            images = [
                self._decode(position, job.shape)
                for position in job.batch[start : start + self.lanes.slice]
            ]
            # One image alone takes another path through some libraries, with other last bits.
            batch = torch.from_numpy(np.stack(images if len(images) > 1 else 2 * images))
            found = self.backbone(batch.permute(0, 3, 1, 2))
            for layer, values in found.items():
                outputs[layer].append(values[: len(images)].numpy())
        return outputs

    def _decode(self, position: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        """One image, normalised, float32 ``[h, w, 3]``."""
        rgb = self.index.rgb_at(self.order.image_ids[position], shape)
        return normalise(rgb, self.backbone.mean, self.backbone.std)

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
                    blocks = _images(computed[layer], first, first + len(positions))
                    first += len(positions)
                else:
                    blocks = self.known.earlier[source].rows(layer, self.known.entry[positions])
                for block in blocks:
                    writer.append(row, block)
                    row += len(block)


def _images(arrays: Sequence[NDArray[Any]], start: int, stop: int) -> Iterator[NDArray[Any]]:
    """Rows of the images ``start:stop`` of a batch that lies in several arrays."""
    at = 0
    for array in arrays:
        some = array[max(0, start - at) : max(0, stop - at)]
        if len(some):
            yield some.reshape(-1, some.shape[-1])
        at += len(array)
