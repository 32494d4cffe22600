"""What to compute in which order, and whether it fits the budget: pure, before the first pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.image_index import ImageIndex
from stages.images import Resize, target_shape
from stages.stage import StageError

Shape = tuple[int, int]

# So many images at most from one checkpoint-free stretch of copying earlier rows.
JOB_IMAGES = 512
# All layers together hold so many encoded bytes before their shards are written.
SHARDS_BYTES = 256 * 2**20
SHARD_BYTES = 64 * 2**20
# Batches whose inputs wait: one in the network, one assembled, one being assembled.
BATCHES_AHEAD = 3
# Decoded images that wait per decoder, and copies of an image while it is decoded and turned.
IMAGES_AHEAD = 4
DECODE_COPIES = 3


@dataclass(frozen=True)
class Order:
    """Where images lie on disk.

    Attributes
    ----------
    image_ids : tuple of int
        In the order on disk.
    shapes : tuple of (height, width)
        Of each one as the network sees it.
    """

    image_ids: tuple[int, ...]
    shapes: tuple[Shape, ...]

    def positions(self, image_ids: Sequence[int]) -> list[int]:
        """Where these images lie, ascending: an image set is read front to back."""
        where = {image_id: i for i, image_id in enumerate(self.image_ids)}
        return sorted(where[image_id] for image_id in image_ids)


def disk_order(index: ImageIndex, resize: Resize, size: int) -> Order:
    """Order images so that every set lies in few runs, and images of one shape side by side.

    Images are grouped by all the sets they are in. The members of the first set come first; those
    that are in a second set, too, lie together among them.
    """
    memberships: dict[int, tuple[int, ...]] = {}
    for rank, image_ids in enumerate(index.sets.values()):
        for image_id in image_ids:
            memberships[image_id] = (*memberships.get(image_id, ()), rank)
    shapes = {
        image_id: target_shape(*index.size(image_id), resize, size) for image_id in memberships
    }
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
        Those of them that the network must see, all of one shape; the others' rows are known.
    shape : (height, width)
        Of the batch.
    """

    start: int
    stop: int
    batch: tuple[int, ...]
    shape: Shape


def plan_jobs(shapes: Sequence[Shape], known: NDArray[np.bool_], batch: int) -> list[Job]:
    """Cut the order into jobs of at most `batch` unknown images of one shape each.

    Parameters
    ----------
    shapes : sequence of (height, width) [n]
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


def shard_bytes(layers: int) -> int:
    """Size of each layer's shards, before zeros are left out."""
    return min(SHARD_BYTES, SHARDS_BYTES // layers)


@dataclass(frozen=True)
class Needs:
    """What a run will hold in memory, in bytes.

    Attributes
    ----------
    resident : int
        The process as it is: interpreter, libraries, weights.
    forward : int
        The network's own peak in one pass.
    batch_inputs, batch_outputs : int
        One batch's pixels, and its activations at all tapped layers.
    shards : int
        Encoded rows that wait for their shards, and the chunks being filled.
    decoder : int
        One decoder at work on the largest image, and what it has ready.
    """

    resident: int
    forward: int
    batch_inputs: int
    batch_outputs: int
    shards: int
    decoder: int

    @classmethod
    def of_decoder(cls, pixels: int, resized: int) -> int:
        """Bytes of one decoder for images of so many pixels, as files and as the network's."""
        return 3 * pixels * DECODE_COPIES + IMAGES_AHEAD * 3 * 4 * resized

    @property
    def fixed(self) -> int:
        """All but the decoders: outputs are held twice, computed next and written last."""
        inputs = BATCHES_AHEAD * self.batch_inputs
        return self.resident + self.forward + inputs + 2 * self.batch_outputs + self.shards

    def decoders_within(self, budget: int, workers: int) -> int:
        """How many images may be decoded at once.

        Raises
        ------
        StageError
            When the budget does not even allow one; the line gives both numbers.
        """
        fitting = (budget - self.fixed) // max(1, self.decoder)
        if fitting < 1:
            least = self.fixed + self.decoder
            raise StageError(
                f"extract needs about {least / 2**20:.0f} MiB ({self.resident / 2**20:.0f} MiB of "
                f"them for libraries and weights, {self.forward / 2**20:.0f} MiB for a forward "
                f"pass), the budget is {budget / 2**20:.0f} MiB: lower extract.batch or "
                "extract.size, tap fewer layers, or raise --memory"
            )
        return int(min(workers, fitting))
