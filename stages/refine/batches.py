"""Batches of images of one size: which images they hold, and where these lie."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from stages.images.readers import Slab
from stages.refine.refiners.refiner import Size


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


@dataclass(eq=False)
class Batch:
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
class Fetched:
    """Results on their way back: complete when `done` has happened."""

    batch: Batch
    places: list[int]
    outputs: tuple[Tensor, ...]
    done: Any  # torch.cuda.Event, or None

    def by_place(self) -> dict[int, tuple[NDArray[Any], ...]]:
        """Each image's outputs, once they are there."""
        if self.done:
            self.done.synchronize()
        arrays = [output.numpy() for output in self.outputs]
        return dict(zip(self.places, zip(*arrays, strict=True), strict=True))
