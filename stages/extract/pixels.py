"""Where a GPU gets the pixels of a batch from: decoded by the CPU, or by itself."""

import io
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stages.extract.photographs import Photographs
from stages.extract.slots import Slot, Streams, shaped
from stages.frame.errors import StageError
from stages.images.jpeg import plain_jpeg
from stages.images.readers import GROUP, Readers, Slab
from stages.images.shrink import Shrinker, resize_exactly

Shape = tuple[int, int]
# Bytes of photographs that are on the device at full size at once. Four times that is needed:
# they are resized as float32.
AT_ONCE = 256 * 2**20
DecodeJpeg = Callable[[list[torch.Tensor]], list[torch.Tensor]]


class Pixels(Protocol):
    """Fills the slots of a `DeviceLane`, several at once."""

    def slab(self, size: int) -> Slab | None:
        """Host memory of so many bytes for a slot, where the pixels come by way of the host."""
        ...

    def begin(self, slot: Slot, batch: Sequence[int], shape: Shape) -> None:
        """Begin to decode the images at these positions, at most as many as there is room for."""
        ...

    def place(self, slot: Slot, size: Sequence[int]) -> None:
        """See to it that ``slot.placed`` has the pixels, ``[n, h, w, 3]``, by ``slot.placing``."""
        ...

    def close(self) -> None:
        """What has not begun is not decoded."""
        ...


class HostPixels:
    """The CPU decodes into pinned memory, and the device copies."""

    def __init__(self, readers: Readers, streams: Streams) -> None:
        self._readers, self._streams = readers, streams

    @classmethod
    def decoding(
        cls, photographs: Photographs, threads: Executor, processes: int, streams: Streams
    ) -> "HostPixels":
        """By threads, and processes from when they have started."""
        return cls(Readers(photographs, threads, processes, streams.cuda), streams)

    def slab(self, size: int) -> Slab:
        return self._readers.slab(size)

    def begin(self, slot: Slot, batch: Sequence[int], shape: Shape) -> None:
        assert slot.slab
        into = shaped(slot.slab.bytes, (len(batch), *shape, 3)).numpy()
        slot.decoding = self._readers.read(slot.slab, batch, into)

    def place(self, slot: Slot, size: Sequence[int]) -> None:
        assert slot.slab
        slot.await_pixels()
        with self._streams.on(self._streams.inward):
            shaped(slot.placed, size).copy_(shaped(slot.slab.bytes, size), non_blocking=True)
            self._streams.record(slot.placing, self._streams.inward)

    def close(self) -> None:
        """End the processes."""
        self._readers.close()


class DevicePixels:
    """The device decodes JPEG files that threads read, and resizes them.

    What it might decode to other pixels than Pillow (`stages.images.jpeg`), the threads decode.
    One more thread gives the device its work, on the stream that otherwise copies pixels in.

    Parameters
    ----------
    photographs : Photographs
    device : torch.device
    threads : Executor
    streams : Streams
    decode : callable, optional
        Encoded bytes, uint8 tensors on the host, to uint8 tensors ``[3, h, w]`` on the device;
        torchvision's by default.
    """

    def __init__(
        self,
        photographs: Photographs,
        device: torch.device,
        threads: Executor,
        streams: Streams,
        decode: DecodeJpeg | None = None,
    ) -> None:
        self._photographs, self._device = photographs, device
        self._threads, self._streams = threads, streams
        self._bytes = 3 * photographs.sizes.prod(axis=1)
        self._decode_jpeg = decode or jpeg_decoder(device)
        usable = Shrinker.usable(device)
        self._resize = Shrinker(device).shrink if usable else _resize_groups
        self._giving = ThreadPoolExecutor(1)

    def slab(self, size: int) -> None:
        return None

    def begin(self, slot: Slot, batch: Sequence[int], shape: Shape) -> None:
        reading = [
            self._threads.submit(self._read, batch[first : first + GROUP], shape)
            for first in range(0, len(batch), GROUP)
        ]
        slot.decoding = [self._giving.submit(self._fill, slot, list(batch), shape, reading)]

    def place(self, slot: Slot, size: Sequence[int]) -> None:
        slot.await_pixels()

    def close(self) -> None:
        """End the thread; what it has not begun is not decoded."""
        self._giving.shutdown(cancel_futures=True)

    def _read(self, positions: Sequence[int], shape: Shape) -> list[bytes | NDArray[np.uint8]]:
        """What the device decodes as it is, the rest as pixels."""
        found: list[bytes | NDArray[np.uint8]] = []
        for position in positions:
            content = self._photographs.read(position)
            found.append(
                content
                if plain_jpeg(content)
                else self._photographs.decode(position, content, shape)
            )
        return found

    def _fill(
        self, slot: Slot, batch: Sequence[int], shape: Shape, reading: Sequence[Future[list[Any]]]
    ) -> None:
        contents = [content for future in reading for content in future.result()]
        placed = shaped(slot.placed, (len(batch), *shape, 3))
        cuda = self._streams.cuda
        with (
            torch.inference_mode(),
            torch.cuda.device(self._device) if cuda else nullcontext(),
            self._streams.on(self._streams.inward),
        ):
            encoded = []
            for i, content in enumerate(contents):
                if isinstance(content, bytes):
                    encoded.append(i)
                else:
                    placed[i].copy_(torch.from_numpy(content))
            held = np.cumsum(self._bytes[[batch[i] for i in encoded]]) // AT_ONCE
            for _, some in groupby(enumerate(encoded), key=lambda one: held[one[0]]):
                self._decode([i for _, i in some], contents, batch, placed)
                # The decoder writes on a stream of its own, and what was resized goes back to the
                # allocator, which thinks of this one.
                self._streams.record(slot.placing, self._streams.inward)
                self._streams.wait(slot.placing)
            self._streams.record(slot.placing, self._streams.inward)

    def _decode(
        self,
        some: Sequence[int],
        contents: Sequence[Any],
        batch: Sequence[int],
        placed: torch.Tensor,
    ) -> None:
        """Decode and resize some images of a batch."""
        shape = (int(placed.shape[1]), int(placed.shape[2]))
        given = [torch.frombuffer(bytearray(contents[i]), dtype=torch.uint8) for i in some]
        try:
            found = self._decode_jpeg(given)
        except RuntimeError:  # one that this decoder does not take
            found = []
        left = set(some) - (self._resize(found, placed, some) if found else set())
        for i in sorted(left):
            pixels = self._photographs.decode(batch[i], contents[i], shape)
            placed[i].copy_(torch.from_numpy(pixels))


def _resize_groups(
    images: Sequence[torch.Tensor], placed: torch.Tensor, places: Sequence[int]
) -> set[int]:
    """As `Shrinker.shrink`, without Triton: those of one size together."""
    shape = (int(placed.shape[1]), int(placed.shape[2]))
    by_size: dict[tuple[int, ...], list[int]] = {}
    for at, image in enumerate(images):
        by_size.setdefault(tuple(image.shape), []).append(at)
    done: set[int] = set()
    for members in by_size.values():
        resized = resize_exactly(torch.stack([images[at] for at in members]), shape)
        if resized is not None:
            chosen = [places[at] for at in members]
            placed[chosen] = resized
            done |= set(chosen)
    return done


def jpeg_decoder(device: torch.device) -> DecodeJpeg:
    """torchvision's.

    Raises
    ------
    StageError
        Where it has none, or none for the device.
    """
    # It is said to move to another package; until it has, there is nothing to be done about it.
    warnings.filterwarnings("ignore", "The image decoding", DeprecationWarning)

    def decode(encoded: list[torch.Tensor]) -> list[torch.Tensor]:
        found: list[torch.Tensor] = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device)
        return found

    try:
        from torchvision.io import ImageReadMode, decode_jpeg

        stream = io.BytesIO()
        Image.new("RGB", (16, 16)).save(stream, "JPEG")
        decode([torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8)])
    except (ImportError, RuntimeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise StageError(
            f"extract.decode: gpu: this torchvision decodes no JPEG files on {device} ({first}); "
            "set it to cpu"
        ) from error
    return decode
