"""How blocks of rows come to a GPU: into pinned memory by threads, then copied beside the work."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.algorithms.nmf.stack import numbered_blocks
from stages.algorithms.rows import (
    MatrixRows,
    ResidentRows,
    RowBlocks,
    as_numpy,
    is_sparse,
    is_tensor,
)

STAGING = 8  # threads that bring blocks into pinned memory
IN_FLIGHT = 4  # blocks that are on their way to the device, or used there, at once


def staged_blocks(rows: RowBlocks, device: torch.device) -> Iterator[tuple[int, list[Tensor]]]:
    """(first row, tensors) of every block, in memory that the device can copy from by itself.

    Three tensors (starts, columns, values) of a CSR block, one of a dense one.
    """
    if device.type != "cuda":
        for first, block in numbered_blocks(rows):
            yield first, _tensors(block)
        return
    # blocks in memory wait for nothing but these copies; others are made one after the other
    ahead = STAGING if isinstance(rows, MatrixRows | ResidentRows) else 2
    waiting: deque[tuple[int, Future[list[Tensor]]]] = deque()
    with ThreadPoolExecutor(ahead) as pool:
        for first, block in numbered_blocks(rows):
            waiting.append((first, pool.submit(_pinned, block, device)))
            del block
            if len(waiting) > ahead:
                at, staged = waiting.popleft()
                yield at, staged.result()
        while waiting:
            at, staged = waiting.popleft()
            yield at, staged.result()


def _pinned(block: Any, device: torch.device) -> list[Tensor]:
    with torch.cuda.device(device):
        return [one if one.is_cuda or one.is_pinned() else _copied(one) for one in _tensors(block)]


def _copied(tensor: Tensor) -> Tensor:
    """The same in pinned memory, copied by this thread alone: torch would start one a core."""
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    np.copyto(pinned.numpy(), tensor.numpy())
    return pinned


def _tensors(block: Any) -> list[Tensor]:
    if is_tensor(block):
        return [block.detach() if block.dtype != torch.bfloat16 else block.detach().float()]
    if is_sparse(block):
        return [_tensor(part) for part in (block.indptr, block.indices, block.data)]
    return [_tensor(as_numpy(block))]


def _tensor(array: NDArray[Any]) -> Tensor:
    array = np.ascontiguousarray(array)
    if not array.flags.writeable:
        array = array.copy()  # torch warns of tensors that could change what must not
    if array.dtype.kind not in "f" and array.dtype not in (np.int32, np.int64):
        array = array.astype(np.float32)  # whole numbers of all kinds
    return torch.from_numpy(array)


class Copies:
    """Copies to a device beside what it computes, so many on their way or in use at once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"
        self._used: deque[torch.cuda.Event] = deque()
        if self._cuda:
            self._here = torch.cuda.current_stream(device)
            self._stream = torch.cuda.Stream(device)

    def begin(self, staged: Sequence[Tensor]) -> list[Tensor]:
        """The tensors on the device; computing waits for them, the host does not."""
        if not self._cuda:
            return [one.to(self.device) for one in staged]
        if len(self._used) >= IN_FLIGHT:
            self._used.popleft().synchronize()
        with torch.cuda.stream(self._stream):
            there = [one.to(self.device, non_blocking=True) for one in staged]
        self._here.wait_stream(self._stream)
        for one in there:
            one.record_stream(self._here)
        return there

    def used(self) -> None:
        """All work with the last tensors has been given to the device."""
        if self._cuda:
            done = torch.cuda.Event()
            done.record(self._here)
            self._used.append(done)
