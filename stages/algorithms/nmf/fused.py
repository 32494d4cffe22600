"""Passes on a GPU by the kernels of `fused_kernels`, float32; the rest is left to `TorchEngine`."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.algorithms.nmf.checks import refuse_bad
from stages.algorithms.nmf.fused_pass import Found, Pass, block_bounds
from stages.algorithms.nmf.fused_starts import FusedStarts
from stages.algorithms.nmf.gpu import TorchEngine
from stages.algorithms.nmf.initial import batches_of
from stages.algorithms.nmf.placed import Facts, Part, Placed, free_bytes, looks_half, read_facts
from stages.algorithms.nmf.problems import LARGEST, problems_on
from stages.algorithms.nmf.sample import Sample
from stages.algorithms.nmf.stack import Array, Matrix, Rule, Stack, Sums, Write
from stages.algorithms.rows import RowBlocks

PINNED = 2**28  # bytes of H that are worth the time it takes to pin them
HANDED_OVER = 2**27  # bytes of a pass whose H is wanted block by block, at once
START_BYTES = 2**29  # of the rows of a warm start
START_COLUMNS = 8192  # of the warm start, at once


class FusedEngine(TorchEngine):
    """The engine for CUDA devices: one reading of A on the chip's tensor cores, sums in float64.

    Matrices that fit stay on the device (see `placed.Placed`). Least squares in float32 go through
    the kernels; float64, multiplicative updates and k above 64 through plain torch.

    Raises
    ------
    MemoryError
        When not even small blocks fit the device, with both numbers.
    """

    def __init__(self, device: str) -> None:
        super().__init__(device)
        if self.device.type == "cuda":
            index = self.device.index
            self.device = torch.device(
                "cuda", torch.cuda.current_device() if index is None else index
            )
        self._placed: Placed | None = None

    # -- reading ----------------------------------------------------------------------------

    def read(self, rows: RowBlocks, indices: NDArray[np.int64]) -> tuple[float, Sample] | None:
        """See `DeviceEngine.read`."""
        if rows.dtype == np.float64:
            return None
        with self._on_the_device():
            norm, parts = self._read(rows, indices)
            sample = torch.cat(parts)
        return norm, Sample(sample, float(sample.sum(dtype=torch.float64)) / sample.numel())

    def _read(
        self, rows: RowBlocks, indices: NDArray[np.int64], *, half: bool = True
    ) -> tuple[float, list[Tensor]]:
        """Place the rows, as float16 if they are that and it is wanted.

        Returns
        -------
        (``||A||_F^2``, the rows of `indices` by blocks)

        Raises
        ------
        ValueError
            Values that are not finite or below zero.
        """
        self._placed = None
        for narrow in (True, False) if half and looks_half(rows) else (False,):
            placed = Placed(rows, self.device, narrow)
            facts, parts = self._loaded(placed, indices)
            if facts.bad is not None:
                refuse_bad(rows, facts.bad)
            if facts.half or not narrow:
                break
        self._placed = placed
        return facts.norm, parts

    def _loaded(self, placed: Placed, indices: NDArray[np.int64]) -> tuple[Facts, list[Tensor]]:
        """Read all rows once; when the device is full after all, without keeping them there."""
        for room in (free_bytes(self.device) // 2, 0):
            facts, firsts, parts = [], [], []
            try:
                for part, found in placed.load(room):
                    facts.append(found)
                    firsts.append(part.first)
                    if not placed.whole:
                        parts.append(self._picked(part, indices))
                if placed.whole:
                    parts = [self._picked(part, indices) for part in placed.parts()]
                return read_facts(facts, firsts), parts
            except torch.OutOfMemoryError:
                placed.drop()
                if not room:
                    raise
        raise AssertionError("the second round returns or raises")

    def _picked(self, part: Part, indices: NDArray[np.int64]) -> Tensor:
        first, last = np.searchsorted(indices, [part.first, part.first + part.rows])
        chosen = torch.from_numpy(indices[first:last] - part.first).to(self.device)
        assert part.dense is not None
        return part.dense[chosen]

    def _placement(self, rows: RowBlocks, *, half: bool = True) -> Placed:
        """The rows on the device; those of the last `read` are there."""
        before = self._placed
        if before is not None and before.rows is rows and (half or not before.half):
            return before
        self._read(rows, np.zeros(0, np.int64), half=half)
        placed = self._placed
        assert placed is not None
        if before is not None and before.rows.shape[0] > rows.shape[0]:
            self._placed = before  # the few were for once
        return placed

    def _dense_blocks(self, rows: RowBlocks, dtype: torch.dtype) -> Iterator[Tensor]:
        if dtype == torch.float64:
            yield from super()._dense_blocks(rows, dtype)
            return
        for part in self._placement(rows, half=False).parts():
            assert part.dense is not None
            for start, stop in pairwise(part.bounds):
                yield part.dense[start:stop]

    @contextmanager
    def _on_the_device(self) -> Iterator[None]:
        """Triton launches on the current device; a full one is one line with both numbers."""
        current = torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()
        try:
            with current:
                yield
        except torch.OutOfMemoryError as error:
            wanted = re.search(r"allocate ([\d.]+ \w+)", str(error))
            raise MemoryError(
                f"{self.device} has {free_bytes(self.device) / 2**20:.0f} MiB free, and even a few "
                f"rows need {wanted[1] if wanted else 'more'} at once: end what else uses it, or "
                "take --device cpu"
            ) from error

    # -- a pass ------------------------------------------------------------------------------

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
        if rule.multiplicative or stack.dtype == np.float64 or stack.sizes.max() > LARGEST:
            return super().run_pass(rows, stack, rule, H=H, write=write, with_HtA=with_HtA)
        with self._on_the_device():
            placed = self._placement(rows)
            work = Pass(
                stack, rule, problems_on(self.device, tuple(stack.sizes.tolist())), placed, with_HtA
            )
            if write is not None:  # so that one chunk is handed over while the next is made
                work.limit = HANDED_OVER
            found = Found(stack, H, write)
            for part in placed.parts():
                cut = part.cut(work.piece_rows)
                for chunk in work.chunks(cut):
                    P = work.solved(part, cut, chunk)
                    if H is not None or write is not None:
                        found.take(part.first + chunk.rows[0], P, block_bounds(part, chunk))
            found.close()
            return work.sums()

    # -- the warm start ----------------------------------------------------------------------

    def accelerated(
        self, rows: RowBlocks, starts: Sequence[Matrix], updates: int, dtype: np.dtype[Any]
    ) -> list[tuple[float, Matrix]] | None:
        """See `DeviceEngine.accelerated`."""
        if dtype == np.float64 or max(len(W) for W in starts) > LARGEST:
            return None
        with self._on_the_device():
            placed = Placed(rows, self.device, looks_half(rows))
            known = list(placed.load(START_BYTES))
            if len(known) != 1 or not placed.whole:  # more than the device keeps
                return None
            ((part, facts),) = known
            norm = facts[:, :1].sum(dim=0)
            results = []
            for batch in batches_of(starts, most=START_COLUMNS):
                problems = problems_on(self.device, tuple(len(W) for W in batch))
                results += FusedStarts(part, norm, problems, batch).run(updates)
            return results

    def room(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
        """See `Engine.room`; pinned where it is small, for copies at the full rate."""
        if self.device.type != "cuda" or int(np.prod(shape)) * dtype.itemsize > PINNED:
            return np.empty(shape, dtype)
        pinned = torch.from_numpy(np.empty(0, dtype)).dtype
        return torch.empty(shape, dtype=pinned, pin_memory=True).numpy()
