"""refine on a GPU: batches of images of one size, read, copied, refined and fetched side by side.

Threads read photographs and heat maps into page-locked memory, as bytes and 16-bit numbers, for the
batches to come. Two lanes (`stages.refine.lanes`) take turns: while one computes, the other copies.
What comes back is one byte a value and the packed masks.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.algorithms.mean_field import unary
from stages.algorithms.whole_maps import packed, quantised, rows_of, shares_of_levels
from stages.frame.errors import StageError
from stages.frame.resources import Resources
from stages.images.readers import GROUP, PROCESS_BYTES, Readers, Slab, all_read, slab_bytes
from stages.maps.write import Rows, Whole
from stages.refine.lanes import Lane, Step
from stages.refine.reading import read_into

if TYPE_CHECKING:
    from stages.refine.stage import Refiner

Size = tuple[int, int]

# Fewer images are read before processes have started.
PROCESSES_FROM = 2000
# Images of a batch: more would not make a GPU faster.
BATCH = 32
LANES = 2
# How far ahead images of one size are gathered for a batch, in batches.
WINDOW = 4
# A size is recorded as a CUDA graph once its images fill so many batches.
OFTEN = 4


def plan_batches(
    sizes: Sequence[Size], limit_of: Callable[[Size], int], window: int
) -> Iterator[list[int]]:
    """Positions of images of one size, in batches, so that results can soon follow in order.

    Parameters
    ----------
    limit_of : callable
        Most images of a batch of that size; asked anew for every batch.
    window : int
        An image waits for others of its size until so many that came later have been seen.
    """
    waiting: dict[Size, list[int]] = {}  # in the order of their first members
    for at, size in enumerate(sizes):
        group = waiting.setdefault(size, [])
        group.append(at)
        if len(group) >= limit_of(size):
            yield waiting.pop(size)
        while waiting and at - next(iter(waiting.values()))[0] >= window:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def device_bytes(refiner: "Refiner", size: Size) -> int:
    """About what one image takes on the GPU."""
    params, columns = refiner.params, len(refiner.columns)
    pixels = size[0] * size[1]
    side = params.working_side or max(size)
    worked = min(pixels, side**2)
    cells = min(params.colour_cells**2, worked) if params.colour_weight else 0
    # the kernel and its copies; float64 statistics, of the image and six of every signal
    small = worked * (16 * cells + 8 * (40 + 6 * 4 * columns))
    # per value: levels, shares, p, evidence, q, copies; per pixel: the image and full-size models
    return small + pixels * (60 * columns + 160)


@dataclass(eq=False)
class _Batch:
    """Images of one size, read into host memory."""

    places: list[int]  # among the entries that were asked for
    entries: list[int]
    size: Size
    slab: Slab  # which the three lie in
    images: Tensor  # uint8 [b, h, w, 3]
    levels: Tensor  # int16 or uint8 [b, h * w, columns]
    thresholds: Tensor  # float64 [b, columns]
    reading: list[Future[None]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Fetched:
    """Results on their way back: complete when `done` has happened."""

    batch: _Batch
    places: list[int]
    outputs: tuple[Tensor, ...]
    done: Any  # torch.cuda.Event, or None

    def by_place(self) -> dict[int, tuple[NDArray[Any], ...]]:
        """Each image's outputs, once they are there."""
        if self.done:
            self.done.synchronize()
        arrays = [output.numpy() for output in self.outputs]
        return dict(zip(self.places, zip(*arrays, strict=True), strict=True))


class DeviceRefiner:
    """Refines many images on one device.

    Parameters
    ----------
    refiner : Refiner
        With method guided.
    device : str
        By its name in torch; ``cpu`` takes the same steps, for tests.
    resources : Resources
        Threads that read, and memory for what they have read.
    """

    def __init__(self, refiner: "Refiner", device: str, resources: Resources) -> None:
        self.refiner, self.device = refiner, device
        self.workers, self.memory = resources.workers, resources.memory
        self.columns = list(refiner.columns)
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
        grids = self.refiner.maps.maps.grid_hw
        sizes = [(int(grids[entry][0]), int(grids[entry][1])) for entry in entries]
        self._counts += Counter(sizes)
        limit = min((self.limit_of(size) for size in set(sizes)), default=1)
        ahead = 1 + -(-self.workers // -(-limit // GROUP))
        batches = plan_batches(sizes, self.limit_of, WINDOW * limit)
        reading: deque[_Batch] = deque()
        fetched: deque[_Fetched] = deque()
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
        read = partial(read_into, self.refiner)
        return Readers(read, ThreadPoolExecutor(self.workers), processes, self.pinned)

    def _may_begin(self, batch: _Batch, in_work: int) -> bool:
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
                most = min(most, int(0.7 * free) // (2 * LANES * device_bytes(self.refiner, size)))
            self._limits[size] = max(1, min(BATCH, most))
        return self._limits[size]

    # -- reading ---------------------------------------------------------------------------------

    def _read(
        self, readers: Readers, places: list[int], entries: Sequence[int], size: Size
    ) -> _Batch:
        """Have a batch read."""
        refiner, count = self.refiner, len(places)
        some = [entries[place] for place in places]
        columns = len(self.columns)
        shapes: list[tuple[tuple[int, ...], torch.dtype]] = [
            ((count, *size, 3), torch.uint8),
            (
                (count, size[0] * size[1], columns),
                torch.uint8 if refiner.maps.maps.dtype == np.uint8 else torch.int16,
            ),
            ((count, columns), torch.float64),
        ]
        slab = readers.slab(slab_bytes(*shapes))
        images, levels, thresholds = slab.parts(*shapes)
        ranks = [refiner.set_of[entry] for entry in some]
        thresholds.numpy()[:] = refiner.maps.thresholds[ranks][:, self.columns]
        stored = levels.numpy().view(refiner.maps.maps.dtype)
        tasks = readers.read(slab, some, images.numpy(), stored)
        return _Batch(places, some, size, slab, images, levels, thresholds, tasks)

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
        return self.refiner.inferred(guides, p, few_kernels=True)

    def _begin(self, batch: _Batch, step: Step) -> list[_Fetched]:
        """Start computing a batch once it has been read."""
        all_read(batch.reading)
        return self._begin_some(batch, step, 0, len(batch.places))

    def _begin_some(self, batch: _Batch, step: Step, first: int, stop: int) -> list[_Fetched]:
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
    def _launch(self, batch: _Batch, step: Step, first: int, stop: int) -> _Fetched:
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
            return _Fetched(batch, batch.places[first:stop], host, lane.done())

    def _free_memory(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)
        for lane in self.lanes:
            lane.forget()
        if self.device != "cpu":
            torch.cuda.empty_cache()

    def _too_large(self, batch: _Batch, at: int, shortage: str) -> str:
        maps, index = self.refiner.maps.maps, self.refiner.index
        name = index.names[int(maps.image_ids[batch.entries[at]])]
        needed = device_bytes(self.refiner, batch.size) / 2**20
        free = torch.cuda.mem_get_info(self.device)[0] / 2**20 if self.device != "cpu" else 0
        return (
            f"{name}: refining its maps needs about {needed:.0f} MiB on {self.device}, "
            f"{free:.0f} MiB are free ({shortage}): lower heatmaps.long_side or "
            "refine.working_side, ask for fewer k and seeds, or use --device cpu"
        )
