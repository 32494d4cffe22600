"""Passes in torch, for GPUs: the factors of all factorizations in one product per block."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from stages.algorithms.nmf.stack import EXACT, Array, Rule, Stack, Sums, Write, numbered_blocks
from stages.algorithms.rows import (
    MatrixRows,
    ResidentRows,
    RowBlocks,
    as_numpy,
    is_sparse,
    is_tensor,
)

# A fixed number: asking whether all have converged would wait for the device in every sweep.
SWEEPS, EXACT_SWEEPS = 16, 200


class TorchEngine:
    """Passes in torch on one device. Nothing comes back to the host before the pass is over,
    except H where it is wanted.

    Sparse blocks travel as they are and become dense on the device: there the dense products are
    faster than sparse ones down to a few per cent of non-zeros.

    Parameters
    ----------
    device : str
        By its name in torch, such as ``cuda:0``.
    """

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self._kept: tuple[RowBlocks, list[Tensor]] | None = None

    def survey(self, block: Any, *, signed: bool = False) -> tuple[float, bool]:
        """See `Engine.survey`."""
        values = block.data if is_sparse(block) else block
        X = self._on_device(values).to(torch.float64)
        squares = float(X.square().sum())
        return squares, bool(np.isfinite(squares)) and (signed or not bool((X < 0).any()))

    def room(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
        """See `Engine.room`."""
        return np.empty(shape, dtype)

    @torch.inference_mode()
    def run_pass(
        self,
        rows: RowBlocks,
        stack: Stack,
        rule: Rule,
        *,
        H: Array | None = None,
        write: Write | None = None,
        with_HtA: bool = True,
    ) -> list[Sums]:
        """See `Engine.run_pass`."""
        packed = _Packed(stack, self.device)
        channels = rows.shape[1]
        total = torch.zeros((stack.columns, channels), dtype=torch.float64, device=self.device)
        grams = torch.zeros(stack.grams.shape, dtype=torch.float64, device=self.device)
        crosses = torch.zeros(len(stack.sizes), dtype=torch.float64, device=self.device)
        start = 0
        for X in self._dense_blocks(rows, packed.W.dtype):
            P = X @ packed.W.T  # [rows, columns]
            Q = packed.apart(P)  # [problems, k, rows]
            if rule.multiplicative:
                assert H is not None
                before = self._on_device(_columns(H[start : start + len(X)], stack))
                solved = _multiplied(Q, packed.G, packed.apart(before))
            else:
                sweeps = EXACT_SWEEPS if rule == EXACT else SWEEPS
                solved = _solved(Q, packed.G, sweeps)
            grams += (solved @ solved.mT).double()
            crosses += (solved * Q).sum(dim=(1, 2), dtype=torch.float64)
            side_by_side = packed.together(solved)  # [rows, columns]
            if with_HtA:
                total += (side_by_side.T @ X).double()
            if H is not None:
                put_columns(H, stack, start, side_by_side.cpu().numpy())
            if write is not None:
                write(start, side_by_side.cpu().numpy())
            start += len(X)
        return _results(stack, total.cpu().numpy() if with_HtA else None, grams, crosses)

    def _dense_blocks(self, rows: RowBlocks, dtype: torch.dtype) -> Iterator[Tensor]:
        """The blocks on the device, kept there where they are in memory already and fit."""
        if self._kept is not None and self._kept[0] is rows:
            yield from self._kept[1]
            return
        self._kept = None
        needed = rows.shape[0] * rows.shape[1] * dtype.itemsize
        in_memory = isinstance(rows, MatrixRows | ResidentRows)
        kept: list[Tensor] | None = [] if in_memory and needed <= self._free() / 2 else None
        for _, block in numbered_blocks(rows):
            X = self._dense(block, dtype)
            if kept is not None:
                kept.append(X)
            yield X
        if kept is not None:
            self._kept = (rows, kept)

    def _free(self) -> int:
        """Bytes of the device that nobody uses."""
        if self.device.type == "cuda":
            return torch.cuda.mem_get_info(self.device)[0]
        return psutil.virtual_memory().available

    def _dense(self, block: Any, dtype: torch.dtype) -> Tensor:
        if not is_sparse(block):
            return self._on_device(block).to(dtype)
        parts = (self._on_device(part) for part in (block.indptr, block.indices, block.data))
        starts, columns, values = parts
        counts = (starts[1:] - starts[:-1]).long()
        X = torch.zeros(block.shape, dtype=dtype, device=self.device)
        # the number of values is given, or torch would have to ask the device for it
        row = torch.arange(len(X), device=self.device).repeat_interleave(
            counts, output_size=len(block.data)
        )
        X[row, columns.long()] = values.to(dtype)
        return X

    def _on_device(self, block: Any) -> Tensor:
        if is_tensor(block):
            tensor: Tensor = block.detach()
        else:
            array = np.ascontiguousarray(as_numpy(block))
            if not array.flags.writeable:
                array = array.copy()  # torch warns of tensors that could change what must not
            if array.dtype == np.uint16:
                array = array.astype(np.int32)
            tensor = torch.from_numpy(array)
        return tensor.to(self.device, non_blocking=True)


class _Packed:
    """The factors on the device, and how columns side by side become problems and back."""

    def __init__(self, stack: Stack, device: torch.device) -> None:
        self.W = torch.from_numpy(stack.side_by_side).to(device)
        self.G = torch.from_numpy(stack.grams).to(device)  # [problems, k, k]
        problems, largest = stack.grams.shape[:2]
        slots = [b * largest + j for b, k in enumerate(stack.sizes.tolist()) for j in range(k)]
        self.slots = torch.tensor(slots, device=device)
        self.shape = (problems, largest)

    def apart(self, columns: Tensor) -> Tensor:
        """``[rows, columns]`` -> ``[problems, largest k, rows]``, absent factors zero."""
        problems, largest = self.shape
        out = columns.new_zeros((problems * largest, len(columns)))
        out[self.slots] = columns.T.to(self.W.dtype)
        return out.view(problems, largest, -1)

    def together(self, solved: Tensor) -> Tensor:
        """The way back."""
        return solved.flatten(0, 1)[self.slots].T


def _solved(Q: Tensor, G: Tensor, sweeps: int) -> Tensor:
    """Non-negative least squares by coordinate sweeps, all problems and rows at once.

    Parameters
    ----------
    Q : [problems, k, rows]
    G : [problems, k, k]
    """
    diagonal = G.diagonal(dim1=1, dim2=2)  # [problems, k]
    scale = torch.where(diagonal > 0, 1 / diagonal, torch.zeros_like(diagonal))
    X = Q.clamp(min=0) * scale[:, :, None] / 3
    k = G.shape[1]
    for _ in range(1 if k == 1 else sweeps):  # alone, a coordinate is exact at once
        for j in range(k):
            others = torch.bmm(G[:, j : j + 1], X)[:, 0] - diagonal[:, j, None] * X[:, j]
            X[:, j] = ((Q[:, j] - others) * scale[:, j, None]).clamp(min=0)
    return X


def _multiplied(Q: Tensor, G: Tensor, X: Tensor) -> Tensor:
    """``X * Q / (G X)``."""
    return X * Q.clamp(min=0) / (G @ X).clamp(min=torch.finfo(torch.float32).tiny)


def _columns(H: Array, stack: Stack) -> Array:
    """The columns of H that belong to the stack, side by side."""
    if stack.into is None:
        return H
    wanted = [
        first + j for first, k in zip(stack.targets, stack.sizes, strict=True) for j in range(k)
    ]
    return H[:, wanted]


def put_columns(H: Array, stack: Stack, start: int, found: Array) -> None:
    """Put the columns of a stack, of the rows from `start` on, where they belong in H."""
    for first, target, k in zip(stack.firsts, stack.targets, stack.sizes, strict=True):
        H[start : start + len(found), target : target + k] = found[:, first : first + k]


def _results(stack: Stack, HtA: Array | None, grams: Tensor, crosses: Tensor) -> list[Sums]:
    G, cross = grams.cpu().numpy(), crosses.cpu().numpy()
    results = []
    for b, (first, k) in enumerate(zip(stack.firsts, stack.sizes, strict=True)):
        mine = None if HtA is None else HtA[first : first + k]
        results.append(Sums(mine, G[b, :k, :k], float(cross[b])))
    return results
