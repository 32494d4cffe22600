"""One pass by the kernels: what lies on the device meanwhile, and H on its way to the host."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.algorithms.nmf import launches
from stages.algorithms.nmf.gpu import put_columns
from stages.algorithms.nmf.launches import Chunk, Coefficients, stride_of
from stages.algorithms.nmf.placed import Cut, Part, Placed
from stages.algorithms.nmf.problems import Problems, halves
from stages.algorithms.nmf.stack import Array, Rule, Stack, Sums, Write

MOST_SCRATCH, LEAST_SCRATCH = 2**30, 2**22  # bytes for H and the sums of what goes at once


@dataclass(frozen=True)
class Totals:
    """The sums of a pass on the device, float64."""

    HtA: Tensor  # [columns, channels]
    grams: list[Tensor]  # per size class [problems, K + 1, K]


class Pass:
    """One pass: the factors on the device, room for the work, and the sums so far."""

    def __init__(
        self, stack: Stack, rule: Rule, problems: Problems, placed: Placed, with_HtA: bool
    ) -> None:
        self.stack, self.rule, self.problems, self.with_HtA = stack, rule, problems, with_HtA
        self.half = placed.half
        device, self.channels = placed.device, placed.rows.shape[1]
        self.columns = stack.columns
        few = self.columns <= launches.FEW_COLUMNS
        self.piece_rows = launches.PIECE_ROWS if few else launches.LONG_PIECE_ROWS
        self.W, self.scale = halves(np.concatenate(stack.factors), self.half, device)
        self.G, self.inverse = problems.grams(stack.factors)
        self.totals = Totals(
            torch.zeros(
                (self.columns, self.channels) if with_HtA else (0,),
                dtype=torch.float64,
                device=device,
            ),
            [
                torch.zeros(
                    (len(one.problems), one.K + 1, one.K), dtype=torch.float64, device=device
                )
                for one in problems.classes
            ],
        )
        self.device = device
        self.limit = MOST_SCRATCH
        self._scratch = torch.empty(0, device=device)

    def chunks(self, cut: Cut) -> "Iterator[Chunk]":
        """Groups of pieces, as many at once as there is room for."""
        per_row = self.columns + stride_of(self.columns) * self.half
        per_piece = self.columns * (self.channels * self.with_HtA + self.half) + sum(
            len(one.problems) * (one.K + 1) * one.K for one in self.problems.classes
        )
        rounding = 4 * (4 + len(self.problems.classes))
        group, groups = 0, cut.groups
        while group < len(groups) - 1:
            last = group + 1
            first_row = cut.pieces[groups[group]]

            def floats(last: int, group: int = group, first_row: int = first_row) -> int:
                rows = int(cut.pieces[groups[last]] - first_row)
                pieces = int(groups[last] - groups[group])
                return rows * per_row + pieces * per_piece + rounding

            while last < len(groups) - 1 and 4 * floats(last + 1) <= self.limit:
                last += 1
            if not self._make_room(floats(last)):
                continue  # the limit is lower now, and in the end that raises
            pieces = int(groups[group]), int(groups[last])
            rows = int(cut.pieces[pieces[0]]), int(cut.pieces[pieces[1]])
            yield Chunk((group, last), pieces, rows)
            group = last

    def _make_room(self, floats: int) -> bool:
        """Whether there is room for so many numbers; if not, a quarter is tried from now on."""
        if len(self._scratch) >= floats:
            return True
        self._scratch = torch.empty(0, device=self.device)
        try:
            self._scratch = torch.empty(floats, dtype=torch.float32, device=self.device)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if self.limit <= LEAST_SCRATCH:
                raise
            self.limit //= 4
            return False
        return True

    def solved(self, part: Part, cut: Cut, chunk: Chunk) -> Tensor:
        """H of a chunk's rows ``[rows, columns]``; their sums are added to the totals."""
        first, last = chunk.rows
        rows, pieces = last - first, chunk.pieces[1] - chunk.pieces[0]
        free = _Room(self._scratch)
        H = free.taken(rows, self.columns)
        if not rows:
            return H
        assert part.dense is not None
        A = part.dense[first:last]
        found = Coefficients(H, H, H, H)
        if self.half:
            both = free.taken(2, rows, stride_of(self.columns), half=True)
            found = Coefficients(H, both[0], both[1], free.taken(pieces, self.columns))
        launches.products(A, self.W, H, self.scale)
        for one, G, inverse, total in zip(
            self.problems.classes, self.G, self.inverse, self.totals.grams, strict=True
        ):
            grams = free.taken(pieces, len(one.problems), one.K + 1, one.K)
            launches.solve(found, self.problems, one, (G, inverse), grams, cut, chunk, self.rule)
            launches.add_up(grams, total, cut, chunk)
        if self.with_HtA:
            partials = free.taken(pieces, self.columns, self.channels)
            launches.sums(A, found, partials, cut, chunk)
            launches.add_up(partials, self.totals.HtA, cut, chunk)
        return H

    def sums(self) -> list[Sums]:
        """What the pass found, on the host."""
        HtA = self.totals.HtA.cpu().numpy()
        results: list[Sums | None] = [None] * len(self.problems.ks)
        for one, total in zip(self.problems.classes, self.totals.grams, strict=True):
            for problem, gram in zip(one.problems, total.cpu().numpy(), strict=True):
                k, first = self.problems.ks[problem], self.problems.starts[problem]
                mine = HtA[first : first + k] if self.with_HtA else None
                results[problem] = Sums(mine, gram[:k, :k], float(gram[-1].sum()))
        return [one for one in results if one is not None]


class Found:
    """H on its way to the host: each chunk is taken while the next is computed."""

    def __init__(self, stack: Stack, H: Array | None, write: Write | None) -> None:
        self.stack, self.H, self.write = stack, H, write
        self.waiting: deque[tuple[int, Array, Sequence[int], Any]] = deque()
        # all columns in their places: a chunk goes where it belongs at once
        self.straight = (
            H is not None
            and write is None
            and stack.columns == H.shape[1]
            and np.array_equal(stack.firsts, stack.targets)
            and H.dtype == np.float32
        )

    def take(self, first: int, P: Tensor, bounds: Sequence[int]) -> None:
        """H of the rows from `first` on, of blocks that begin and end at `bounds`."""
        if self.straight:
            assert self.H is not None
            torch.from_numpy(self.H[first : first + len(P)]).copy_(P, non_blocking=True)
            return
        done = None
        if P.is_cuda:
            there = torch.empty(P.shape, dtype=P.dtype, pin_memory=True)
            there.copy_(P, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
        else:
            there = P.clone()
        self.waiting.append((first, there.numpy(), bounds, done))
        if len(self.waiting) > 1:
            self._hand_over()

    def close(self) -> None:
        """Hand over what is left."""
        while self.waiting:
            self._hand_over()

    def _hand_over(self) -> None:
        first, found, bounds, done = self.waiting.popleft()
        if done is not None:
            done.synchronize()
        if self.H is not None:
            put_columns(self.H, self.stack, first, found)
        if self.write is not None:
            for start, stop in pairwise(bounds):
                if stop > start:
                    self.write(first + start, found[start:stop])


class _Room:
    """Tensors from a piece of memory, one after the other, each beginning at 16 bytes."""

    def __init__(self, scratch: Tensor) -> None:
        self.free = scratch

    def taken(self, *shape: int, half: bool = False) -> Tensor:
        """float32 or float16 of this shape, uninitialised."""
        size = prod(shape)
        floats = -(-size // (8 if half else 4)) * 4
        mine, self.free = self.free[:floats], self.free[floats:]
        return (mine.view(torch.float16) if half else mine)[:size].view(shape)


def block_bounds(part: Part, chunk: Chunk) -> list[int]:
    """Where the blocks of a chunk begin and end, from its first row on."""
    first, last = chunk.rows
    inside = [bound - first for bound in part.bounds if first < bound < last]
    return [0, *inside, last - first]
