"""Batches through a GPU: decoding, copying in, computing and copying out, all at the same time.

Where pixels come from is `stages.extract.pixels`: threads or processes decode into pinned memory,
or the device does it itself. One thread alone, the caller's, has the device compute, on three
streams: one copies pixels in, one computes, one copies activations back; events order them, and the
only wait is for a batch's activations to have arrived, with another batch queued behind it. The
check for infinite values is computed there and read with the rest.

Where many batches have one shape, the pass is recorded once as a CUDA graph: launching the hundreds
of operations of a ResNet takes the interpreter lock hundreds of times, and sixteen threads that
decode or encode want it, too.
"""

from collections import deque
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import nullcontext
from math import prod
from typing import TYPE_CHECKING

import torch

from stages.algorithms.backbone.precision import FLOAT16_END
from stages.extract.memory import is_out_of_memory, no_fit
from stages.extract.outputs import BeyondFloat16, Blocks
from stages.extract.passes import Passes
from stages.extract.pixels import Pixels
from stages.extract.plan import SLOTS, Job
from stages.extract.slots import Slot, shaped

if TYPE_CHECKING:
    from stages.algorithms.backbone import Backbone

Shape = tuple[int, int]
OfSize = Mapping[str, Blocks]  # by layer

# So many full batches of one shape make it worth recording a graph.
GRAPH_JOBS = 4


class DeviceLane:
    """A pipeline of batches through one device, at one of the sizes of ``extract.size``.

    Parameters
    ----------
    backbone : Backbone
    grids : mapping of layer to (most rows of an image, channels)
    batch : int
        Most images of a job.
    largest : int
        Most pixels of an image as the network sees it.
    half : bool
        Bring activations back as float16, rounded as numpy rounds.
    source : Pixels
        Of images by their positions in the order.
    passes : Passes
        Of the network on the device, shared by the lanes of all sizes.
    size : int
        Which of the sizes of a job it is.
    """

    def __init__(
        self,
        backbone: "Backbone",
        grids: Mapping[str, tuple[int, int]],
        batch: int,
        largest: int,
        half: bool,
        source: Pixels,
        passes: Passes,
        size: int = 0,
    ) -> None:
        self._backbone, self._source, self._size = backbone, source, size
        self._grids, self._batch, self._largest = grids, max(2, batch), largest
        self._dtype = torch.float16 if half else torch.float32
        self._passes, self._streams = passes, passes.streams

    def outputs(
        self, jobs: Sequence[Job], recorded: Collection[Shape]
    ) -> Generator[OfSize, None, None]:
        """Activations of each job in order; the arrays are valid until the next is asked for.

        Parameters
        ----------
        recorded : collection of shapes
            Whose full batches are worth a CUDA graph.

        Raises
        ------
        BeyondFloat16
            When they were to be float16, and one does not fit.
        StageError
            When not even two images fit the device.
        """
        device = self._backbone.device
        with torch.cuda.device(device) if self._streams.cuda else nullcontext():
            free = deque(self._slots()) if any(job.batch for job in jobs) else deque[Slot]()
            decoding: deque[tuple[Job, Slot | None]] = deque()
            flying: deque[tuple[Job, Slot | None]] = deque()
            try:
                for job in [*jobs, *[None] * (SLOTS - 1)]:
                    if job is not None:
                        decoding.append((job, self._decode(job, free) if job.batch else None))
                    if decoding and (len(decoding) == 2 or job is None):
                        flying.append(decoding.popleft())
                        self._launch(*flying[-1], recorded)
                    if flying and (len(flying) == SLOTS - 1 or job is None):
                        done, slot = flying.popleft()
                        yield self._arrived(done, slot)
                        if slot:
                            free.append(slot)
            finally:
                if self._streams.cuda:  # buffers must not go while they are being copied
                    torch.cuda.synchronize()

    def _slots(self) -> list[Slot]:
        device, cuda = self._backbone.device, self._streams.cuda
        inputs = self._batch * self._largest * 3
        sizes = {layer: self._batch * prod(grid) for layer, grid in self._grids.items()}

        def host(size: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.empty(size, dtype=dtype, pin_memory=cuda)

        def there(size: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.empty(size, dtype=dtype, device=device)

        try:
            slots = [
                Slot(
                    self._source.slab(inputs),
                    there(inputs, torch.uint8),
                    {layer: there(size, self._dtype) for layer, size in sizes.items()},
                    {layer: host(size, self._dtype) for layer, size in sizes.items()},
                    there(2 * len(sizes), torch.float32).view(-1, 2),
                    host(2 * len(sizes), torch.float32).view(-1, 2),
                    *(self._streams.event() for _ in range(3)),
                )
                for _ in range(SLOTS)
            ]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            size = SLOTS * (inputs + sum(sizes.values()) * self._dtype.itemsize)
            raise no_fit(f"the buffers of {SLOTS} batches", size, device, "do") from None
        if cuda:
            torch.cuda.synchronize()  # all streams may use them
        return slots

    def _decode(self, job: Job, free: deque[Slot]) -> Slot:
        """Have a job's images decoded into a free slot."""
        slot = free.popleft()
        # One image alone takes another path through some libraries, with other last bits.
        batch = job.batch if len(job.batch) > 1 else 2 * job.batch
        self._source.begin(slot, batch, self._shape(job))
        return slot

    def _launch(self, job: Job, slot: Slot | None, recorded: Collection[Shape]) -> None:
        """Give the device all it has to do for a decoded batch, without waiting for it."""
        if slot is None:
            return
        streams, count = self._streams, max(2, len(job.batch))
        size = (count, *self._shape(job), 3)
        self._source.place(slot, size)
        with streams.on(streams.compute, after=slot.placing):
            pixels = shaped(slot.placed, size)
            graph = count == self._batch and self._shape(job) in recorded and streams.cuda
            self._passes.compute(pixels, slot, graph)
            streams.record(slot.computing, streams.compute)
        with streams.on(streams.outward, after=slot.computing):
            for layer, found in slot.found.items():
                filled = count * self._cells(layer, self._shape(job))
                found[:filled].copy_(slot.sent[layer][:filled], non_blocking=True)
            slot.ends.copy_(slot.sent_ends, non_blocking=True)
            streams.record(slot.arriving, streams.outward)

    def _arrived(self, job: Job, slot: Slot | None) -> OfSize:
        """A batch's activations when they are there: a view of a slot's pinned memory."""
        if slot is None:
            return {layer: [] for layer in self._grids}
        self._streams.wait(slot.arriving)
        self._backbone.check(slot.ends)
        if self._dtype == torch.float16 and float(slot.ends.abs().max()) >= FLOAT16_END:
            raise BeyondFloat16
        outputs = {}
        for layer, found in slot.found.items():
            channels = self._grids[layer][1]
            cells = self._cells(layer, self._shape(job)) // channels
            shape = (len(job.batch), cells, channels)
            outputs[layer] = [shaped(found, shape).numpy()]
        return outputs

    def _shape(self, job: Job) -> Shape:
        """Of a job's batch, at this lane's size."""
        return job.shapes[self._size]

    def _cells(self, layer: str, shape: Shape) -> int:
        """Values of one image at a layer."""
        from stages.algorithms.backbone import grid_shape

        return prod(grid_shape(self._backbone.name, layer, *shape)) * self._grids[layer][1]
