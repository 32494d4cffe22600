"""Buffers of batches on their way through a device, and the streams that they take."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

from stages.images.readers import Slab, all_read


@dataclass
class Slot:
    """Buffers of one batch on its way. Those of the host are pinned.

    Attributes
    ----------
    slab : Slab or None
        The pixels on the host, where threads and processes put them; None where the device decodes.
    placed : uint8 tensor, flat
        The pixels on the device.
    sent, found : mapping of layer to tensor, flat
        Activations on the device and on the host.
    sent_ends, ends : float32 tensors [layers, 2]
        Lowest and highest values, on the device and on the host.
    decoding : list of Future
        All done when the pixels are there.
    placing, computing, arriving : events of the three streams
    """

    slab: Slab | None
    placed: torch.Tensor
    sent: Mapping[str, torch.Tensor]
    found: Mapping[str, torch.Tensor]
    sent_ends: torch.Tensor
    ends: torch.Tensor
    placing: Any
    computing: Any
    arriving: Any
    decoding: list["Future[None]"] = field(default_factory=list)

    def await_pixels(self) -> None:
        """Wait until all images are decoded; raise what one of them raised."""
        all_read(self.decoding)


_cuda: Any = torch.cuda  # its streams and events have no types


class Streams:
    """The three streams of a GPU; on a CPU, where only tests come here, nothing."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.inward: Any
        self.compute: Any
        self.outward: Any
        self.inward, self.compute, self.outward = (
            _cuda.Stream(device) if self.cuda else None for _ in range(3)
        )

    def on(self, stream: Any, after: Any = None) -> AbstractContextManager[Any]:
        """What is launched inside runs on `stream`, after an event of another one."""
        if not self.cuda:
            return nullcontext()
        if after is not None:
            stream.wait_event(after)
        return torch.cuda.stream(stream)

    def event(self) -> Any:
        """An event that `record` marks; to wait for one leaves its core to decoding."""
        return _cuda.Event(blocking=True) if self.cuda else None

    def record(self, event: Any, stream: Any) -> None:
        """Let `event` happen when all that `stream` was given is done."""
        if self.cuda:
            event.record(stream)

    def wait(self, event: Any) -> None:
        """Wait for an event; other threads go on."""
        if self.cuda:
            event.synchronize()


def shaped(flat: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The beginning of a flat buffer as a tensor of `shape`."""
    return flat[: prod(shape)].view(*shape)
