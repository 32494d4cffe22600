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
from stages.algorithms.rows import RowBlocks, as_numpy, is_sparse, is_tensor

STAGING = 8  # threads that bring blocks into pinned memory
SLICE = 2**22  # bytes that one of them copies at once
AHEAD = 2  # blocks that are brought there while an earlier one is used
IN_FLIGHT = 4  # blocks that are on their way to the device, or used there, at once


def staged_blocks(rows: RowBlocks, device: torch.device) -> Iterator[tuple[int, list[Tensor]]]:
    """(first row, tensors) of every block, in memory that the device can copy from by itself.

    Three tensors (starts, columns, values) of a CSR block, one of a dense one.
    """
    if device.type != "cuda":
        for first, block in numbered_blocks(rows):
            yield first, _tensors(block)
        return
    waiting: deque[tuple[int, list[Tensor], list[Future[None]]]] = deque()
    with ThreadPoolExecutor(STAGING) as pool:
        for first, block in numbered_blocks(rows):
            waiting.append((first, *_staged(block, pool)))
            del block
            if len(waiting) > AHEAD:
                yield _arrived(*waiting.popleft())
        while waiting:
            yield _arrived(*waiting.popleft())


def _staged(block: Any, pool: ThreadPoolExecutor) -> tuple[list[Tensor], list[Future[None]]]:
    """Tensors in pinned memory, and the copies that fill them, shared out among threads."""
    staged, copies = [], []
    for tensor in _tensors(block):
        if tensor.is_cuda or tensor.is_pinned():
            staged.append(tensor)
            continue
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        staged.append(pinned)
        # numpy's copy is one thread's alone: torch would start one a core for each
        to, source = pinned.view(-1).numpy(), tensor.view(-1).numpy()
        step = max(1, SLICE // tensor.element_size())
        for at in range(0, len(source), step):
            copies.append(pool.submit(np.copyto, to[at : at + step], source[at : at + step]))
    return staged, copies


def _arrived(
    first: int, staged: list[Tensor], copies: list[Future[None]]
) -> tuple[int, list[Tensor]]:
    for copy in copies:
        copy.result()
    return first, staged


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
