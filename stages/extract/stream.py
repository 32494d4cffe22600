"""From image files to rows on disk: several batches at once, written in order.

On a CPU every core takes a job of its own, on one thread from decoding to the last layer: nothing
waits for the slowest thread of each layer, and decoding, forward passes and writing overlap by
themselves. Four images at a time in the network were measured 1.2 (VGG-19) to 1.5 (SqueezeNet)
times faster than sixteen, whose intermediate results fit no cache. On a GPU the lanes decode and
copy while it computes whole batches.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from itertools import chain, groupby
from threading import Semaphore
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.extract.plan import Job, Lanes, Order
from stages.extract.reuse import Known
from stages.image_index import ImageIndex
from stages.images import ImageError, decode_rgb, normalise, resize_rgb
from stages.parallel import ordered_map, torch_threads_kept
from stages.progress import track
from stages.stage import StageError
from store import RaggedWriter

if TYPE_CHECKING:
    from stages.algorithms.backbone import Backbone

# Per layer float32 arrays [n, h, w, channels], together the images of a batch.
Outputs = Mapping[str, Sequence[NDArray[np.float32]]]


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
    """

    index: ImageIndex
    backbone: "Backbone"
    order: Order
    known: Known
    writers: Mapping[str, RaggedWriter]
    lanes: Lanes
    # a second batch is queued while a GPU computes; more would only take its memory
    _turn: Semaphore = field(default_factory=lambda: Semaphore(2))

    def run(self, jobs: Sequence[Job]) -> None:
        """Do what is not on disk yet, in order."""
        # A job is repeated whole, so that a resumed run computes just what the first one did.
        todo = [job for job in jobs if self._unwritten(job)]
        total = len(self.order.image_ids)
        done = total - sum(job.stop - job.start for job in todo)
        outputs = ordered_map(
            self._compute, todo, workers=self.lanes.count, limit=self.lanes.waiting
        )
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

    def _compute(self, job: Job) -> Outputs:
        """Activations of a job's batch."""
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
            if self.backbone.device.type == "cuda":
                batch = batch.pin_memory()
            with self._turn if self.backbone.device.type == "cuda" else nullcontext():
                try:
                    found = self.backbone(batch.permute(0, 3, 1, 2))
                except torch.OutOfMemoryError as error:  # of a GPU
                    raise StageError(
                        f"a batch of {len(batch)} images of {job.shape[0]}x{job.shape[1]} does "
                        f"not fit {self.backbone.device}: lower extract.batch"
                    ) from error
            for layer, values in found.items():
                outputs[layer].append(values[: len(images)].cpu().numpy())
        return outputs

    def _decode(self, position: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        """One image, normalised, float32 ``[h, w, 3]``."""
        image_id = self.order.image_ids[position]
        try:
            rgb = resize_rgb(decode_rgb(self.index.read(image_id)), shape)
        except ImageError as error:
            raise StageError(
                f"{self.index.names[image_id]}: {error}; it decoded when the index was made: is "
                "this another version of Pillow? `dff run` checks them anew"
            ) from error
        return normalise(rgb, self.backbone.mean, self.backbone.std)

    def _write(self, job: Job, computed: Outputs) -> None:
        """Append a job's rows to every layer, computed and known ones in their order."""
        for layer, writer in self.writers.items():
            fresh = chain.from_iterable(computed[layer])
            for source, run in groupby(
                range(job.start, job.stop), key=lambda position: int(self.known.source[position])
            ):
                positions = list(run)
                row = int(writer.offsets[positions[0]])
                for block in (
                    (next(fresh).reshape(-1, writer.channels) for _ in positions)
                    if source < 0
                    else self.known.earlier[source].rows(layer, self.known.entry[positions])
                ):
                    writer.append(row, block)
                    row += len(block)
