"""Decoding, forward passes and writing, all at the same time."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.extract.plan import IMAGES_AHEAD, Job, Order
from stages.extract.reuse import Known
from stages.image_index import ImageIndex
from stages.images import decode_rgb, normalise, resize_rgb
from stages.parallel import ordered_map, read_ahead
from stages.progress import track
from store import RaggedWriter

if TYPE_CHECKING:
    import torch

    from stages.algorithms.backbone import Backbone


@dataclass(frozen=True)
class Stream:
    """All that turns jobs into rows on disk.

    Attributes
    ----------
    known : Known
        Whose rows are copied instead of computed.
    writers : mapping of layer to writer
    decoders : int
        Threads that decode.
    """

    index: ImageIndex
    backbone: "Backbone"
    order: Order
    known: Known
    writers: Mapping[str, RaggedWriter]
    decoders: int

    def run(self, jobs: Sequence[Job]) -> None:
        """Do what is not on disk yet, in order."""
        # A job is repeated whole, so that a resumed run computes just what the first one did.
        todo = [job for job in jobs if self._unwritten(job)]
        total = len(self.order.image_ids)
        done = total - sum(job.stop - job.start for job in todo)
        with (
            track("extract", total, "images", done) as advance,
            ThreadPoolExecutor(1, thread_name_prefix="write") as background,
        ):
            # While a batch is in the network, the one before is written, and the next decoded.
            writing: Future[None] | None = None
            for job, pixels in read_ahead(self._inputs(todo), depth=1):
                outputs = self.backbone(pixels) if pixels is not None else {}
                if writing is not None:
                    writing.result()
                writing = background.submit(self._write, job, outputs)
                del outputs
                advance(job.stop - job.start)
            if writing is not None:
                writing.result()
        for writer in self.writers.values():
            writer.close()

    def _unwritten(self, job: Job) -> bool:
        return any(w.offsets[job.stop] > w.flushed for w in self.writers.values())

    def _inputs(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, "torch.Tensor | None"]]:
        """Each job with its batch as the network takes it, on the network's device."""
        import torch

        pinned = self.backbone.device.type == "cuda"
        tasks = ((position, job.shape) for job in jobs for position in job.batch)
        images = ordered_map(self._decode, tasks, workers=self.decoders, ahead=IMAGES_AHEAD)
        for job in jobs:
            if not job.batch:
                yield job, None
                continue
            batch = [next(images) for _ in job.batch]
            # A batch of one takes another path through some libraries, with other last bits.
            pixels = torch.from_numpy(np.stack(batch if len(batch) > 1 else 2 * batch))
            if pinned:
                pixels = pixels.pin_memory().to(self.backbone.device, non_blocking=True)
            yield job, pixels.permute(0, 3, 1, 2)

    def _decode(self, task: tuple[int, tuple[int, int]]) -> NDArray[np.float32]:
        """One image, normalised, float32 ``[h, w, 3]``."""
        position, shape = task
        rgb = resize_rgb(decode_rgb(self.index.read(self.order.image_ids[position])), shape)
        return normalise(rgb, self.backbone.mean, self.backbone.std)

    def _write(self, job: Job, outputs: Mapping[str, "torch.Tensor"]) -> None:
        """Append a job's rows to every layer, computed and known ones in their order."""
        for layer, writer in self.writers.items():
            computed = iter(outputs[layer].cpu().numpy()) if job.batch else iter(())
            for source, run in groupby(
                range(job.start, job.stop), key=lambda position: int(self.known.source[position])
            ):
                positions = list(run)
                row = int(writer.offsets[positions[0]])
                for block in (
                    (next(computed).reshape(-1, writer.channels) for _ in positions)
                    if source < 0
                    else self.known.earlier[source].rows(layer, self.known.entry[positions])
                ):
                    writer.append(row, block)
                    row += len(block)
