"""Reading photographs and heat maps for a GPU: into memory it copies from, by threads or processes.

Decoding and decompressing let other threads run, but what is Python in between takes about a
millisecond an image, and only one thread at a time can do that. So where there are thousands of
images, processes read them, into memory that is shared; threads read until these have started.
"""

import math
import mmap
import multiprocessing
import os
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from itertools import count
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stages.refine import Refiner

# Images that are read at once: their heat maps share chunks of the store.
GROUP = 4
# Fewer images are read before processes have started.
PROCESSES_FROM = 2000
# Of one process, with its libraries.
PROCESS_BYTES = 200 * 2**20
Shared = tuple[str, int]


def read_into(
    refiner: "Refiner",
    entries: Sequence[int],
    images: NDArray[np.uint8],
    levels: NDArray[Any],
) -> None:
    """Read some entries of one size.

    Parameters
    ----------
    images : uint8 [n, h, w, 3]
        Filled with the photographs at the maps' size.
    levels : uint8 or uint16 [n, h * w, columns]
        Filled with the heat maps as they are stored.

    Raises
    ------
    StageError
        As `Refiner.image`.
    """
    maps, columns = refiner.maps.maps, list(refiner.columns)
    for image, entry in zip(images, entries, strict=True):
        image[:] = refiner.image(entry)
    spans = [(int(maps.offsets[entry]), int(maps.offsets[entry + 1])) for entry in entries]
    rows = maps.read_dense(spans).reshape(len(entries), -1, maps.channels)
    levels[:] = rows if len(columns) == maps.channels else rows[..., columns]


class Slab:
    """Host memory that threads and processes fill and a GPU copies from while the CPU goes on.

    Attributes
    ----------
    bytes : Tensor [n] uint8
    shared : (path, number) or None
        Where other processes find it; the number is no other slab's of this process.
    """

    _numbers = count()

    def __init__(self, size: int, cuda: bool, shared: bool) -> None:
        import torch

        self.shared: Shared | None = None
        self.bytes: Tensor
        if not shared:
            try:
                self.bytes = torch.empty(size, dtype=torch.uint8, pin_memory=cuda)
            except RuntimeError:  # there is a limit to page-locked memory: it is only faster
                self.bytes = torch.empty(size, dtype=torch.uint8)
            return
        # No file system's limit is on these.
        descriptor = os.memfd_create("refine")
        weakref.finalize(self, os.close, descriptor)
        os.ftruncate(descriptor, size)
        self.bytes = torch.frombuffer(mmap.mmap(descriptor, size), dtype=torch.uint8)
        self.shared = f"/proc/{os.getpid()}/fd/{descriptor}", next(self._numbers)
        if cuda:
            runtime, address = torch.cuda.cudart(), self.bytes.data_ptr()  # type: ignore[no-untyped-call]
            if runtime.cudaHostRegister(address, size, 0) == runtime.cudaError.success:
                weakref.finalize(self, runtime.cudaHostUnregister, address)
            else:  # it is only copied from more slowly; the next call would report the failure
                with suppress(RuntimeError):
                    torch.zeros(1, device="cuda")

    def parts(self, *shapes: tuple[tuple[int, ...], "torch.dtype"]) -> "list[Tensor]":
        """Tensors that lie in it one after the other."""
        found, at = [], 0
        for shape, dtype in shapes:
            size = math.prod(shape) * dtype.itemsize
            found.append(self.bytes[at : at + size].view(dtype).view(shape))
            at += slab_bytes((shape, dtype))
        return found


def slab_bytes(*shapes: tuple[tuple[int, ...], "torch.dtype"]) -> int:
    """What `Slab.parts` needs for these, each from a place that any type may begin at."""
    return sum(-(-math.prod(shape) * dtype.itemsize // 64) * 64 for shape, dtype in shapes)


class Readers:
    """Threads that read, and processes from when they have started.

    Parameters
    ----------
    refiner : Refiner
    workers : int
        Threads, and processes if any.
    cuda : bool
        A GPU copies from the slabs.
    processes : bool
    """

    def __init__(self, refiner: "Refiner", workers: int, cuda: bool, processes: bool) -> None:
        self.refiner, self.cuda = refiner, cuda
        self.free: list[Slab] = []
        self.largest = 1
        self.threads = ThreadPoolExecutor(workers)
        self.processes: ProcessPoolExecutor | None = None
        self.starting: list[Future[None]] = []
        if processes:
            self._start_processes(workers)
        weakref.finalize(self, _end, self.threads, self.processes)

    def _start_processes(self, workers: int) -> None:
        try:  # kept until all have seen it
            self.greeting = Slab(64, cuda=False, shared=True)
        except (AttributeError, OSError):  # not Linux, or not allowed
            return
        # spawn: a forked child inherits locks that torch's threads may hold
        context = multiprocessing.get_context("spawn")
        self.processes = ProcessPoolExecutor(workers, context, _begin, (self.refiner,))
        shared = self.greeting.shared
        self.starting = [self.processes.submit(_greet, shared) for _ in range(workers)]

    def slab(self, size: int) -> Slab:
        """One of at least so many bytes: put it into `free` when it is read no more."""
        self.largest = max(self.largest, size)
        while self.free:
            slab = self.free.pop()
            if slab.bytes.numel() >= size:
                return slab
        return Slab(self.largest, self.cuda, self.processes is not None)

    def read(
        self, slab: Slab, entries: Sequence[int], images: "Tensor", levels: "Tensor"
    ) -> "list[Future[None]]":
        """Have entries of one size read into parts of a slab.

        Parameters
        ----------
        images : Tensor [n, h, w, 3] uint8
        levels : Tensor [n, h * w, columns], uint8, or int16 for uint16
        """
        dtype = self.refiner.maps.maps.dtype
        processes = self._started() if slab.shared else None
        begun = []
        for first in range(0, len(entries), GROUP):
            some = list(entries[first : first + GROUP])
            arrays = (
                images[first : first + GROUP].numpy(),
                levels[first : first + GROUP].numpy().view(dtype),
            )
            if processes:
                places = [
                    (array.ctypes.data - slab.bytes.data_ptr(), array.shape, array.dtype.str)
                    for array in arrays
                ]
                begun.append(processes.submit(_read_shared, slab.shared, some, places))
            else:
                begun.append(self.threads.submit(read_into, self.refiner, some, *arrays))
        return begun

    def _started(self) -> ProcessPoolExecutor | None:
        """The processes once all are there; none if they cannot read what is shared."""
        if self.processes and self.starting and all(future.done() for future in self.starting):
            if any(future.exception() for future in self.starting):
                self.processes = None
            self.starting = []
        return None if self.starting else self.processes


def _end(threads: ThreadPoolExecutor, processes: ProcessPoolExecutor | None) -> None:
    threads.shutdown(wait=False, cancel_futures=True)
    if processes:
        processes.shutdown(wait=False, cancel_futures=True)


# -- in a process of its own -----------------------------------------------------------------------

Place = tuple[int, tuple[int, ...], str]  # of an array in a slab: first byte, shape, type
_refiner: "Refiner"


def _begin(refiner: "Refiner") -> None:
    global _refiner
    _refiner = refiner
    parent = multiprocessing.parent_process()
    if parent:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End when the parent does: one that is killed ends nobody."""
    wait([sentinel])
    os._exit(1)


def _greet(shared: Shared | None) -> None:
    """See what is shared; the sleep leaves the next greeting to another process."""
    _mapped(shared)
    time.sleep(0.1)


@lru_cache(maxsize=32)
def _mapped(shared: Shared | None) -> mmap.mmap:
    assert shared, "threads read what is not shared"
    with Path(shared[0]).open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _read_shared(shared: Shared | None, entries: list[int], places: list[Place]) -> None:
    memory = _mapped(shared)
    images, levels = (np.ndarray(shape, dtype, memory, at) for at, shape, dtype in places)
    read_into(_refiner, entries, images, levels)
