"""refine on a GPU: batches of images of one size, read, copied, refined and fetched side by side.

Threads read photographs and heat maps into page-locked memory, as bytes and 16-bit numbers, for the
batches to come. Two lanes (`stages.refine.lanes`) take turns: while one computes, the other copies.
What comes back is one byte a value and the packed masks.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.algorithms.mean_field import unary
from stages.algorithms.whole_maps import packed, quantised, rows_of, shares_of_levels
from stages.frame.errors import StageError
from stages.frame.resources import Resources
from stages.images.readers import GROUP, PROCESS_BYTES, Readers, all_read, slab_bytes
from stages.maps.plan import Rows, Whole
from stages.refine.batches import Batch, Fetched, plan_batches
from stages.refine.lanes import Lane, Step
from stages.refine.layer import LayerTasks
from stages.refine.reading import read_into
from stages.refine.refiners.refiner import BatchRefiner, Size

# Fewer images are read before processes have started.
PROCESSES_FROM = 2000
# Images of a batch: more would not make a GPU faster.
BATCH = 32
LANES = 2
# How far ahead images of one size are gathered for a batch, in batches.
WINDOW = 4
# A size is recorded as a CUDA graph once its images fill so many batches.
OFTEN = 4


class DeviceRefiner:
    """Refines many images on one device.

    Parameters
    ----------
    tasks : LayerTasks
        For a refiner that works in batches.
    device : str
        By its name in torch; ``cpu`` takes the same steps, for tests.
    resources : Resources
        Threads that read, and memory for what they have read.
    """

    def __init__(self, tasks: LayerTasks, device: str, resources: Resources) -> None:
        if not isinstance(tasks.refiner, BatchRefiner):
            raise TypeError(f"{type(tasks.refiner).__name__} does not refine in batches")
        self.tasks, self.refiner, self.device = tasks, tasks.refiner, device
        self.workers, self.memory = resources.workers, resources.memory
        self.columns = list(tasks.columns)
        self.lanes = [Lane(device) for _ in range(LANES if device != "cpu" else 1)]
        self.pinned = device != "cpu"
        self._readers: Readers | None = None
        self._turn = 0
        self._limits: dict[Size, int] = {}
        self._counts: Counter[Size] = Counter()

    def rows(self, entries: Sequence[int]) -> Iterator[Rows]:
        """q of each entry, float32 ``[h * w, columns]``, in order."""
        for (rows,) in self._in_order(entries, self.exact):
            yield rows

    def whole(self, entries: Sequence[int]) -> Iterator[Whole]:
        """q of each entry in whole numbers, and masks of q >= 0.5, in order.

        Raises
        ------
        ValueError
            If a probability is NaN.
        """
        for levels, bits, nan in self._in_order(entries, self.rounded):
            if nan:
                raise ValueError("refined probabilities contain NaN")
            yield Whole(levels, bits)

    def _in_order(self, entries: Sequence[int], step: Step) -> Iterator[tuple[NDArray[Any], ...]]:
        """What a step puts out for each entry."""
        grids = self.tasks.maps.maps.grid_hw
        sizes = [(int(grids[entry][0]), int(grids[entry][1])) for entry in entries]
        self._counts += Counter(sizes)
        limit = min((self.limit_of(size) for size in set(sizes)), default=1)
        ahead = 1 + -(-self.workers // -(-limit // GROUP))
        batches = plan_batches(sizes, self.limit_of, WINDOW * limit)
        reading: deque[Batch] = deque()
        fetched: deque[Fetched] = deque()
        ready: dict[int, tuple[NDArray[Any], ...]] = {}
        readers = self._readers = self._readers or self._make_readers(len(entries))
        try:
            for place in range(len(entries)):
                while place not in ready:
                    while len(reading) < ahead and (places := next(batches, None)):
                        reading.append(self._read(readers, places, entries, sizes[places[0]]))
                    while reading and self._may_begin(reading[0], len(fetched)):
                        fetched.extend(self._begin(reading.popleft(), step))
                    oldest = fetched.popleft()
                    ready |= oldest.by_place()
                    if not fetched or fetched[0].batch is not oldest.batch:
                        readers.free.append(oldest.batch.slab)
                yield ready.pop(place)
        finally:
            for future in (future for batch in reading for future in batch.reading):
                future.cancel()
            wait_for([future for batch in reading for future in batch.reading])
            for one in fetched:
                one.by_place()

    def _make_readers(self, images: int) -> Readers:
        enough = images >= PROCESSES_FROM and self.memory // 4 >= self.workers * PROCESS_BYTES
        processes = self.workers if enough and self.workers > 1 else 0
        read = partial(read_into, self.tasks)
        return Readers(read, ThreadPoolExecutor(self.workers), processes, self.pinned)

    def _may_begin(self, batch: Batch, in_work: int) -> bool:
        """Whether a lane is free, and the batch is read or there is nothing else to wait for."""
        if in_work >= len(self.lanes):
            return False
        return in_work == 0 or all(future.done() for future in batch.reading)

    def limit_of(self, size: Size) -> int:
        """Most images of a batch of this size."""
        if size not in self._limits:
            pixels, n = size[0] * size[1], len(self.columns)
            each = pixels * (3 + 2 * n + 4 * n)
            batches = 2 + self.workers // 8 + LANES + WINDOW  # read, in work, waiting
            most = self.memory // 4 // (each * batches)
            if self.device != "cpu":
                free, _ = torch.cuda.mem_get_info(self.device)
                # recorded and not, on every lane
                most = min(most, int(0.7 * free) // (2 * LANES * self.refiner.batch_bytes(size, n)))
            self._limits[size] = max(1, min(BATCH, most))
        return self._limits[size]

    # -- reading ---------------------------------------------------------------------------------

    def _read(
        self, readers: Readers, places: list[int], entries: Sequence[int], size: Size
    ) -> Batch:
        """Have a batch read."""
        maps, count = self.tasks.maps, len(places)
        some = [entries[place] for place in places]
        columns = len(self.columns)
        shapes: list[tuple[tuple[int, ...], torch.dtype]] = [
            ((count, *size, 3), torch.uint8),
            (
                (count, size[0] * size[1], columns),
                torch.uint8 if maps.maps.dtype == np.uint8 else torch.int16,
            ),
            ((count, columns), torch.float64),
        ]
        slab = readers.slab(slab_bytes(*shapes))
        images, levels, thresholds = slab.parts(*shapes)
        ranks = [self.tasks.set_of[entry] for entry in some]
        thresholds.numpy()[:] = maps.thresholds[ranks][:, self.columns]
        stored = levels.numpy().view(maps.maps.dtype)
        reading = readers.read(slab, some, images.numpy(), stored)
        return Batch(places, some, size, slab, images, levels, thresholds, reading)

    def _host(self, like: Tensor) -> Tensor:
        """Host memory that a GPU can write to while the CPU goes on."""
        if self.pinned:
            try:
                return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
            except RuntimeError:  # there is a limit to it
                self.pinned = False
        return torch.empty(like.shape, dtype=like.dtype)

    # -- computing -------------------------------------------------------------------------------

    def exact(self, images: Tensor, levels: Tensor, thresholds: Tensor) -> tuple[Tensor, ...]:
        """q of a batch that lies on the device, in rows: float32 ``[b, h * w, columns]``.

        Parameters
        ----------
        images : uint8 [b, h, w, 3]
        levels : int16 or uint8 [b, h * w, columns]
        thresholds : float64 [b, columns]
        """
        return (rows_of(self._q(images, levels, thresholds)),)

    def rounded(self, images: Tensor, levels: Tensor, thresholds: Tensor) -> tuple[Tensor, ...]:
        """Levels and bits of q as in `Whole`, and which images have a NaN, bool ``[b]``."""
        q = self._q(images, levels, thresholds)
        return rows_of(quantised(q)), packed(q >= 0.5), torch.isnan(q).flatten(1).any(1)

    def _q(self, images: Tensor, levels: Tensor, thresholds: Tensor) -> Tensor:
        size = int(images.shape[1]), int(images.shape[2])
        p = unary(shares_of_levels(levels, size), thresholds)
        guides = images.permute(0, 3, 1, 2).contiguous().float() / 255
        q = self.refiner.refine_batch(guides, p, self.tasks.groups)
        # A factor that is absent stays absent, whatever the floor of the probabilities.
        return q * (p > 0).flatten(2).any(dim=2)[..., None, None]

    def _begin(self, batch: Batch, step: Step) -> list[Fetched]:
        """Start computing a batch once it has been read."""
        all_read(batch.reading)
        return self._begin_some(batch, step, 0, len(batch.places))

    def _begin_some(self, batch: Batch, step: Step, first: int, stop: int) -> list[Fetched]:
        """Start computing some of a batch; in halves where memory is short."""
        try:
            return [self._launch(batch, step, first, stop)]
        except torch.OutOfMemoryError as error:
            shortage = str(error).splitlines()[0]
        # Only here, since the error's traceback holds what there was.
        self._free_memory()
        if stop - first == 1:
            raise StageError(self._too_large(batch, first, shortage))
        middle = (first + stop + 1) // 2
        self._limits[batch.size] = min(self._limits[batch.size], middle - first)
        halves = (first, middle), (middle, stop)
        return [one for half in halves for one in self._begin_some(batch, step, *half)]

    @torch.no_grad()
    def _launch(self, batch: Batch, step: Step, first: int, stop: int) -> Fetched:
        lane = self.lanes[self._turn % len(self.lanes)]
        self._turn += 1
        limit = self._limits[batch.size]
        often = self._counts[batch.size] >= OFTEN * limit
        inputs = [x[first:stop] for x in (batch.images, batch.levels, batch.thresholds)]
        with lane.current():
            outputs = lane.run(step, inputs, limit if often else 0)
            host = tuple(self._host(output) for output in outputs)
            for target, source in zip(host, outputs, strict=True):
                target.copy_(source, non_blocking=True)
            return Fetched(batch, batch.places[first:stop], host, lane.done())

    def _free_memory(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)
        for lane in self.lanes:
            lane.forget()
        if self.device != "cpu":
            torch.cuda.empty_cache()

    def _too_large(self, batch: Batch, at: int, shortage: str) -> str:
        maps, index = self.tasks.maps.maps, self.tasks.index
        name = index.names[int(maps.image_ids[batch.entries[at]])]
        needed = self.refiner.batch_bytes(batch.size, len(self.columns)) / 2**20
        free = torch.cuda.mem_get_info(self.device)[0] / 2**20 if self.device != "cpu" else 0
        remedies = ["lower heatmaps.long_side", self.refiner.remedy, "ask for fewer k and seeds"]
        return (
            f"{name}: refining its maps needs about {needed:.0f} MiB on {self.device}, "
            f"{free:.0f} MiB are free ({shortage}): {', '.join(filter(None, remedies))}, or use "
            "--device cpu"
        )
