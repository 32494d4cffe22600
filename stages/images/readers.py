"""Reading for a GPU: into memory that it copies from, by threads or by processes.

Decoding and decompressing let other threads run, but what is Python in between takes about a
millisecond an image, and only one thread at a time can do that. So where there are thousands of
images, processes read them, into memory that is shared; threads read until these have started.
"""

import math
import mmap
import multiprocessing
import os
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import count
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.frame.errors import StageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Images that are read at once: what is handed out one by one takes the interpreter lock too often.
GROUP = 4
# Of one process, with its libraries.
PROCESS_BYTES = 200 * 2**20
Shared = tuple[str, int]
# ``read(entries, *arrays)`` fills arrays whose first axis is that of the entries.
Read = Callable[..., None]


class Slab:
    """Host memory that threads and processes fill and a GPU copies from while the CPU goes on.

    Attributes
    ----------
    bytes : Tensor [n] uint8
        Not to be used any more when the slab is gone.
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
        descriptor = os.memfd_create("dff")
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
    read : callable
        ``read(entries, *arrays)``; what it raises, `all_read` raises. For processes it must be
        possible to pickle it.
    threads : Executor
    processes : int
        So many of them; 0 for threads alone.
    cuda : bool
        A GPU copies from the slabs.
    """

    def __init__(self, read: Read, threads: Executor, processes: int, cuda: bool) -> None:
        self._read, self._threads, self._cuda = read, threads, cuda
        self.free: list[Slab] = []
        self._largest = 1
        self.processes: ProcessPoolExecutor | None = None
        self.starting: list[Future[None]] = []
        if processes:
            self._start_processes(processes)
        self._end = weakref.finalize(self, _end, self.processes, False)

    def _start_processes(self, workers: int) -> None:
        pickled = np.frombuffer(pickle.dumps(self._read), np.uint8)
        try:
            # Once for all: given along, it would hold up the start of each until the one before
            # has imported its libraries.
            self._given = Slab(len(pickled), cuda=False, shared=True)
        except (AttributeError, OSError):  # not Linux, or not allowed
            return
        self._given.bytes.numpy()[:] = pickled
        # spawn: a forked child inherits locks that torch's threads may hold
        context = multiprocessing.get_context("spawn")
        self.processes = ProcessPoolExecutor(workers, context, _begin)
        shared = self._given.shared
        with _interrupts_blocked():
            self.starting = [self.processes.submit(_greet, shared) for _ in range(workers)]

    def slab(self, size: int) -> Slab:
        """One of at least so many bytes: put it into `free` when it is read no more."""
        self._largest = max(self._largest, size)
        while self.free:
            slab = self.free.pop()
            if slab.bytes.numel() >= size:
                return slab
        return Slab(self._largest, self._cuda, self.processes is not None)

    def read(self, slab: Slab, entries: Sequence[int], *arrays: NDArray[Any]) -> list[Future[None]]:
        """Have entries read into arrays that lie in a slab.

        Parameters
        ----------
        arrays : ndarrays [n, ...]
            C-contiguous.

        Raises
        ------
        StageError
            When a process was killed.
        """
        processes = self._started() if slab.shared else None
        begun = []
        for first in range(0, len(entries), GROUP):
            some = list(entries[first : first + GROUP])
            parts = [array[first : first + GROUP] for array in arrays]
            if processes:
                places = [
                    (part.ctypes.data - slab.bytes.data_ptr(), part.shape, part.dtype.str)
                    for part in parts
                ]
                with _killed_is_one_line():
                    begun.append(
                        processes.submit(
                            _read_shared, self._given.shared, slab.shared, some, places
                        )
                    )
            else:
                begun.append(self._threads.submit(self._read, some, *parts))
        return begun

    def _started(self) -> ProcessPoolExecutor | None:
        """The processes once all are there; none if they cannot read what is shared."""
        if self.processes and self.starting and all(future.done() for future in self.starting):
            if any(future.exception() for future in self.starting):
                self.processes = None
            self.starting = []
        return None if self.starting else self.processes

    def close(self) -> None:
        """End the processes and wait for that; what they have not begun is not read."""
        if found := self._end.detach():
            processes, _ = found[2]
            _end(processes, True)


def all_read(reading: Iterable[Future[None]]) -> None:
    """Wait until all is read; raise what one of them raised.

    Raises
    ------
    StageError
        When a process was killed.
    """
    with _killed_is_one_line():
        for future in reading:
            future.result()


def _end(processes: ProcessPoolExecutor | None, wait: bool) -> None:
    if processes:
        processes.shutdown(wait, cancel_futures=True)


@contextmanager
def _killed_is_one_line() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise StageError(
            "a worker process was killed, as happens when memory runs out: lower --workers; "
            "the work so far is kept"
        ) from error


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that are started inside never see Ctrl-C: this one ends them, without a word."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# -- in a process of its own -----------------------------------------------------------------------

Place = tuple[int, tuple[int, ...], str]  # of an array in a slab: first byte, shape, type


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End when the parent does: one that is killed ends nobody."""
    wait([sentinel])
    os._exit(1)


def _greet(given: Shared | None) -> None:
    """See what is shared; the sleep leaves the next greeting to another process."""
    _reader(given)
    time.sleep(0.1)


@lru_cache(maxsize=1)
def _reader(given: Shared | None) -> Read:
    read: Read = pickle.loads(_mapped(given))
    return read


@lru_cache(maxsize=32)
def _mapped(shared: Shared | None) -> mmap.mmap:
    assert shared, "threads read what is not shared"
    with Path(shared[0]).open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _read_shared(
    given: Shared | None, shared: Shared | None, entries: list[int], places: list[Place]
) -> None:
    memory = _mapped(shared)
    arrays = (np.ndarray(shape, dtype, memory, at) for at, shape, dtype in places)
    _reader(given)(entries, *arrays)
