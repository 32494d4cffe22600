"""What to compute in which order, and whether it fits the budget: pure, before the first pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.image_index import ImageIndex
from stages.frame.memory import Needs, resources_within
from stages.frame.resources import Resources
from stages.images.decode import DECODE_BYTES
from stages.images.resize import Resize, target_shape
from store.layout import CHUNK_BYTES, SHARD_BYTES

Shape = tuple[int, int]
# Of one photograph at each size of ``extract.size``.
Shapes = tuple[Shape, ...]

# So many images at most from one checkpoint-free stretch of copying earlier rows.
JOB_IMAGES = 512
# All layers together hold so many encoded bytes before their shards are written.
SHARDS_BYTES = 256 * 2**20
# Images at once in the network on a CPU; see `stages.extract.stream`.
CPU_SLICE = 4
# A GPU is given batches of so many pixels, 128 images of 224 x 224, whatever `extract.batch` says:
# sixteen of them leave most of a large one idle. Decided from the plan, and halved only
# where `--memory` cannot hold the buffers: a run that is resumed with as much of it goes on with
# the same batches.
GPU_PIXELS = 128 * 224 * 224
GPU_BATCH = 256
# ... unless what comes back from it, as float32, would be more than this.
GPU_OUTPUTS = 128 * 2**20
# Batches of a GPU that have buffers: two being decoded, two computed or on their way back.
SLOTS = 4


@dataclass(frozen=True)
class Order:
    """Where images lie on disk.

    Attributes
    ----------
    image_ids : tuple of int
        In the order on disk.
    shapes : tuple of tuples of (height, width)
        Of each one as the network sees it, at each size.
    """

    image_ids: tuple[int, ...]
    shapes: tuple[Shapes, ...]

    def positions(self, image_ids: Sequence[int]) -> list[int]:
        """Where these images lie, ascending: an image set is read front to back."""
        found: list[int] = np.sort(self._where[np.asarray(image_ids, np.int64)]).tolist()
        return found

    @cached_property
    def _where(self) -> NDArray[np.int64]:
        """Place of every image, by image id; made once, not for each of many sets."""
        where = np.full(max(self.image_ids, default=-1) + 1, -1, np.int64)
        where[list(self.image_ids)] = np.arange(len(self.image_ids))
        return where


def shapes_at(photograph: Shape, resize: Resize, sizes: Sequence[int]) -> Shapes:
    """Height and width at which the network sees a photograph, at each size."""
    return tuple(target_shape(*photograph, resize, size) for size in sizes)


def disk_order(index: ImageIndex, resize: Resize, *sizes: int) -> Order:
    """Order images so that every set lies in few runs, and images of one shape side by side.

    Images are grouped by all the sets they are in. The members of the first set come first; those
    that are in a second set, too, lie together among them.
    """
    memberships: dict[int, tuple[int, ...]] = {}
    alike: dict[Any, Any] = {}  # few differ: of millions each is kept once
    for rank, image_ids in enumerate(index.sets.values()):
        for image_id in image_ids:
            of = (*memberships.get(image_id, ()), rank)
            memberships[image_id] = alike.setdefault(of, of)
    shapes = {}
    for image_id in memberships:
        of_image = shapes_at(index.size(image_id), resize, sizes)
        shapes[image_id] = alike.setdefault(of_image, of_image)
    order = sorted(memberships, key=lambda i: (memberships[i], shapes[i], i))
    return Order(tuple(order), tuple(shapes[i] for i in order))


@dataclass(frozen=True)
class Job:
    """A stretch ``start:stop`` of the order on disk that is written at once.

    Attributes
    ----------
    start, stop : int
        Positions in the order.
    batch : tuple of int
        Those of them that the network must see, all of one shape at each size; the others' rows
        are known.
    shapes : tuple of (height, width)
        Of the batch at each size.
    """

    start: int
    stop: int
    batch: tuple[int, ...]
    shapes: Shapes


def plan_jobs(shapes: Sequence[Shapes], known: NDArray[np.bool_], batch: int) -> list[Job]:
    """Cut the order into jobs of at most `batch` unknown images of one shape each.

    Parameters
    ----------
    shapes : sequence of tuples of (height, width) [n]
        Of each image at each size.
    known : bool array [n]
        Whose rows need no forward pass.
    batch : int
        Images per forward pass.
    """
    jobs: list[Job] = []
    start, chosen = 0, list[int]()

    def finish(stop: int) -> None:
        nonlocal start, chosen
        if stop > start:
            shape = shapes[chosen[0]] if chosen else shapes[start]
            jobs.append(Job(start, stop, tuple(chosen), shape))
        start, chosen = stop, []

    for position, shape in enumerate(shapes):
        if position - start >= max(JOB_IMAGES, batch):
            finish(position)
        if known[position]:
            continue
        if chosen and (shapes[chosen[0]] != shape or len(chosen) == batch):
            finish(position)
        chosen.append(position)
    finish(len(shapes))
    return jobs


def gpu_batch(batch: int, pixels: int, outputs: int) -> int:
    """Images that a GPU is given at once.

    Parameters
    ----------
    batch : int
        ``extract.batch``: the least it takes.
    pixels : int
        Of the largest image as the network sees it.
    outputs : int
        Bytes of one image's activations at all tapped layers and sizes, as float32.
    """
    most = min(GPU_BATCH, GPU_PIXELS // pixels, GPU_OUTPUTS // max(1, outputs))
    return max(2, batch, most)


def shard_bytes(layers: int) -> int:
    """Size of each layer's shards, before zeros are left out."""
    return min(SHARD_BYTES, SHARDS_BYTES // layers)


@dataclass(frozen=True)
class Lanes:
    """How batches run side by side.

    Attributes
    ----------
    count : int
        Batches in work at once.
    threads : int
        Threads of each in the network.
    slice : int
        Images that the network sees at once.
    processes : int
        That decode for a GPU, where there are enough images; 0 where memory is short.
    """

    count: int
    threads: int
    slice: int
    processes: int = 0

    @property
    def waiting(self) -> int:
        """Batches in work or waiting to be written: one lane may go on meanwhile."""
        return self.count + 1


@dataclass(frozen=True)
class Footprint:
    """What a run will hold in memory, in bytes.

    Attributes
    ----------
    resident : int
        The process as it is: interpreter, libraries, weights.
    shards : int
        Encoded rows that wait for their shards, and the chunks being filled.
    slice : int
        Images that the network sees at once.
    forward : int
        The network's own peak in one pass of a slice.
    inputs : int
        Pixels of a slice, at all sizes.
    outputs : int
        Activations of a whole batch at all tapped layers and sizes.
    image : int
        Pixels of the largest image file.
    """

    resident: int
    shards: int
    slice: int
    forward: int
    inputs: int
    outputs: int
    image: int

    @property
    def waiting(self) -> int:
        """Outputs being written, and those next in line."""
        return 2 * self.outputs

    @property
    def lane(self) -> int:
        """One batch in work: a slice's images and their stack, the pass, the outputs so far."""
        decoding = self.inputs + self.image * DECODE_BYTES
        return max(decoding, 2 * self.inputs, self.inputs + self.forward) + self.outputs

    @property
    def needs(self) -> Needs:
        """The same for the projection of memory; a worker is a lane."""
        fixed = {
            "libraries and weights": self.resident,
            "shards": self.shards,
            "batches on their way": self.waiting,
        }
        remedy = "lower extract.batch or extract.size, tap fewer layers"
        return Needs(fixed, {"a batch": self.lane}, remedy=remedy)

    def lanes_within(self, resources: Resources) -> Lanes:
        """As many lanes as workers and budget allow; each gets its share of the threads.

        Raises
        ------
        StageError
            When the budget does not even allow one; the line gives both numbers.
        """
        fitting = resources_within("extract", self.needs, resources).workers
        return Lanes(fitting, max(1, resources.workers // fitting), self.slice)


@dataclass(frozen=True)
class GpuFootprint(Footprint):
    """What a run on a GPU will hold in this machine's memory.

    As `Footprint`, but a slice is a whole batch, `inputs` are bytes of uint8, and both pixels and
    outputs have `SLOTS` buffers; a lane decodes one image at a time.

    Attributes
    ----------
    process : int
        One process that decodes: interpreter, libraries, what it knows of the images.
    """

    process: int

    @property
    def waiting(self) -> int:
        """The buffers, and a second shard of each layer while one is stored."""
        return self.shards + SLOTS * (pinned(self.inputs) + pinned(self.outputs))

    @property
    def lane(self) -> int:
        """One image being decoded, or a chunk being encoded."""
        return self.image * DECODE_BYTES + max(self.inputs // self.slice, 8 * CHUNK_BYTES)

    def lanes_within(self, resources: Resources) -> Lanes:
        """As `Footprint.lanes_within`; with as many processes, which decode once they run."""
        lanes = super().lanes_within(resources)
        each = self.process + self.image * DECODE_BYTES + self.inputs // self.slice
        processes = min(lanes.count, (resources.memory - self.needs.peak(lanes.count)) // each)
        # threads are as fast as half as many processes: measured on sixteen cores
        enough = processes > 1 and 2 * processes >= lanes.count
        return replace(lanes, processes=int(processes)) if enough else lanes


def pinned(size: int) -> int:
    """Bytes that torch takes for so many of pinned memory: the next power of two."""
    return 1 << max(0, size - 1).bit_length()
