"""Rows on a GPU: where they lie between passes, or how they come through it in every pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.algorithms.nmf import fused_kernels as kernels
from stages.algorithms.nmf.arrival import Copies, staged_blocks
from stages.algorithms.nmf.stack import numbered_blocks
from stages.algorithms.rows import RowBlocks, as_numpy, is_sparse, is_tensor

GROUP = 64  # pieces that are added up together
EACH = 16384  # values that a program surveys
MERGED_ROWS = 131072  # compact blocks are joined up to so many: each costs seven launches a pass


class Cut(NamedTuple):
    """A part cut into pieces of rows, and these gathered into groups.

    Rows of piece i are ``pieces[i] : pieces[i + 1]``, pieces of group g are
    ``groups[g] : groups[g + 1]``; int64, on the host and on the device.
    """

    pieces: NDArray[np.int64]
    groups: NDArray[np.int64]
    pieces_there: Tensor
    groups_there: Tensor


@dataclass
class Part:
    """Consecutive rows of the matrix on the device: dense, or the non-zeros of CSR.

    Attributes
    ----------
    first : int
        Row of the matrix that it begins with.
    bounds : sequence of int
        Where its blocks begin and end, from 0 to the number of its rows.
    dense : Tensor [rows, channels] or None
        float16 or float32.
    sparse : (starts, columns, values) or None
    """

    first: int
    bounds: Sequence[int]
    dense: Tensor | None = None
    sparse: tuple[Tensor, Tensor, Tensor] | None = None
    _cuts: dict[int, Cut] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.bounds[-1]

    @property
    def values(self) -> Tensor:
        """All its values, or its non-zeros."""
        values = self.dense if self.sparse is None else self.sparse[2]
        assert values is not None
        return values

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        tensors = (self.dense,) if self.sparse is None else self.sparse
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    def cut(self, rows: int) -> Cut:
        """Its blocks cut into pieces of so many rows."""
        if rows not in self._cuts:
            pieces, groups = [0], [0]
            for start, stop in pairwise(self.bounds):
                pieces += [*range(start + rows, stop, rows), stop]
                while groups[-1] + GROUP < len(pieces) - 1:
                    groups.append(groups[-1] + GROUP)
                groups.append(len(pieces) - 1)
            cut = np.array(pieces, np.int64), np.array(groups, np.int64)
            there = [torch.from_numpy(one).to(self.values.device) for one in cut]
            self._cuts[rows] = Cut(*cut, there[0], there[1])
        return self._cuts[rows]


@dataclass
class Facts:
    """What reading all rows once tells.

    Attributes
    ----------
    norm : float
        ``||A||_F^2``.
    bad : int or None
        First row of a block with values that are not finite or below zero, if there is one.
    half : bool
        Whether all values are float16.
    """

    norm: float
    bad: int | None
    half: bool


class Placed:
    """The rows of one matrix and a device.

    They stay on it where they fit into half of the memory that is free: dense, or else as the
    non-zeros they come as; else they come through it anew in every pass, copied while earlier ones
    are multiplied. `parts` is the same sequence of rows in every case.

    Parameters
    ----------
    rows : RowBlocks
    device : torch.device
    half : bool
        Keep values as float16, which must hold them.
    """

    def __init__(self, rows: RowBlocks, device: torch.device, half: bool) -> None:
        self.rows, self.device, self.half = rows, device, half
        self.dtype = torch.float16 if half else torch.float32
        self.kept: list[Part] | None = None
        self.whole = False  # all in one dense part
        self._scratch: Tensor | None = None

    def parts(self) -> Iterator[Part]:
        """All rows in order, as dense parts; the memory of one may be used for the next."""
        for part in self.kept if self.kept is not None else self.arriving():
            yield self._dense(part)

    def load(self, room: int) -> "Iterator[tuple[Part, Tensor]]":
        """Read all rows once; keep them if `room` bytes suffice; yields dense parts and facts.

        Facts are float64 ``[programs, 4]`` (`kernels.survey`) on the device.
        """
        self.kept = None
        whole = self._room_for_all(room)
        self.whole = whole is not None
        matrix: Any = getattr(self.rows, "matrix", None)
        if whole is not None and is_tensor(matrix) and matrix.device == self.device:
            if whole.data_ptr() != matrix.data_ptr():
                whole.copy_(matrix)
            step = getattr(self.rows, "block_rows", len(whole))
            self.kept = [Part(0, [*range(0, len(whole), step), len(whole)], whole)]
            yield self.kept[0], self._surveyed(matrix.detach().contiguous())
            return
        kept: list[Part] | None = []
        taken, waiting, bounds = 0, [], [0]
        for part in self.arriving():
            facts = self._surveyed(part.values)
            bounds.append(bounds[-1] + part.rows)
            if whole is not None:
                place = whole[part.first : part.first + part.rows]
                self._fill(place, part)
                yield Part(part.first, part.bounds, place), facts
                continue
            if kept is not None:
                compact = self._compact(part)
                taken += compact.nbytes
                waiting.append(compact)
                if compact.dense is not None or _rows_of(waiting) >= MERGED_ROWS:
                    kept += _merged(waiting)
                    waiting = []
                if taken > room:
                    kept, waiting = None, []
            yield self._dense(part), facts
        if whole is not None:
            self.kept = [Part(0, bounds, whole)]
        elif kept is not None:
            self.kept = kept + _merged(waiting)

    def drop(self) -> None:
        """Give back what is kept on the device."""
        self.kept = self._scratch = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _room_for_all(self, room: int) -> Tensor | None:
        """Memory for all rows dense, if there is so much."""
        matrix: Any = getattr(self.rows, "matrix", None)
        if (
            is_tensor(matrix)
            and matrix.device == self.device
            and matrix.dtype == self.dtype
            and matrix.is_contiguous()
        ):
            return matrix.detach()
        if self.rows.shape[0] * self.rows.shape[1] * self.dtype.itemsize > room:
            return None
        try:
            return torch.empty(self.rows.shape, dtype=self.dtype, device=self.device)
        except torch.OutOfMemoryError:  # fragmented
            return None

    def arriving(self) -> Iterator[Part]:
        """Blocks on the device as they come, each copied while earlier ones are used."""
        copies = Copies(self.device)
        for first, staged in staged_blocks(self.rows, self.device):
            there = copies.begin(staged)
            if len(there) == 3:
                starts, columns, values = there
                yield Part(first, [0, len(starts) - 1], sparse=(starts, columns, values))
            else:
                yield Part(first, [0, len(there[0])], dense=there[0])
            copies.used()

    def _surveyed(self, values: Tensor) -> Tensor:
        programs = max(1, -(-values.numel() // EACH))
        facts = torch.empty((programs, 4), dtype=torch.float64, device=self.device)
        flat = values.reshape(-1)
        kernels.survey[(programs,)](flat, facts, flat.numel(), EACH=EACH, B=1024)
        return facts

    def _compact(self, part: Part) -> Part:
        """The non-zeros in as few bytes as hold them; dense blocks as they are."""
        if part.sparse is None:
            assert part.dense is not None
            return Part(part.first, part.bounds, part.dense.to(self.dtype))
        starts, columns, values = part.sparse
        narrow = torch.int16 if self.rows.shape[1] <= 2**15 else torch.int32
        compact = starts, columns.to(narrow), values.to(self.dtype)
        return Part(part.first, part.bounds, sparse=compact)

    def _dense(self, part: Part) -> Part:
        """A part as a dense one of this type; non-zeros in the memory that the last ones had."""
        if part.dense is not None:
            return Part(part.first, part.bounds, part.dense.to(self.dtype), _cuts=part._cuts)
        channels = self.rows.shape[1]
        if self._scratch is None or len(self._scratch) < part.rows:
            self._scratch = None
            self._scratch = torch.empty((part.rows, channels), dtype=self.dtype, device=self.device)
        place = self._scratch[: part.rows]
        self._fill(place, part)
        return Part(part.first, part.bounds, place, _cuts=part._cuts)

    def _fill(self, place: Tensor, part: Part) -> None:
        if part.sparse is None:
            assert part.dense is not None
            place.copy_(part.dense)
            return
        place.zero_()
        if part.rows:
            kernels.expand[(part.rows,)](*part.sparse, place, place.shape[1], B=64, num_warps=1)


def read_facts(facts: Sequence[Tensor], firsts: Sequence[int]) -> Facts:
    """The facts of all blocks together; waits for the device.

    Parameters
    ----------
    facts : sequence of float64 [programs, 4]
    firsts : sequence of int
        First row of each block.
    """
    together = torch.cat(list(facts)).cpu().numpy()
    counts = [len(one) for one in facts]
    blocks = np.repeat(np.arange(len(counts)), counts)
    bad = np.flatnonzero(together[:, 1])
    return Facts(
        norm=float(together[:, 0].sum()),
        bad=firsts[blocks[bad[0]]] if len(bad) else None,
        half=not together[:, 2].any(),
    )


def looks_half(rows: RowBlocks) -> bool:
    """Whether values seem to be float16, by a few; the survey knows."""
    matrix: Any = getattr(rows, "matrix", None)
    if is_tensor(matrix):
        if matrix.dtype == torch.float16:
            return True
        some = matrix[:64].float()
        return bool((some.half().float() == some).all())
    if np.dtype(rows.dtype) == np.float16:
        return True
    for _, block in numbered_blocks(rows):
        values = as_numpy(block.data if is_sparse(block) else block).reshape(-1)[:4096]
        with np.errstate(over="ignore"):
            return bool((values.astype(np.float16).astype(values.dtype) == values).all())
    return True


def free_bytes(device: torch.device) -> int:
    """Bytes of the device's memory that this process could still get."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    index = torch.cuda.current_device() if device.index is None else device.index
    free, total = torch.cuda.mem_get_info(index)
    held = torch.cuda.memory_stats(index)
    mine = held.get("reserved_bytes.all.current", 0)
    # what the allocator holds and nobody uses; and no more than this process is allowed
    share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)(index)
    more = min(free, max(0, int(total * share) - mine))
    return int(more + mine - held.get("allocated_bytes.all.current", 0))


def _rows_of(parts: Sequence[Part]) -> int:
    return sum(part.rows for part in parts)


def _merged(parts: Sequence[Part]) -> list[Part]:
    """Neighbouring parts of non-zeros as one; dense ones as they are."""
    sparse = [part.sparse for part in parts if part.sparse is not None]
    if len(parts) <= 1 or len(sparse) < len(parts):
        return list(parts)
    bounds = [0]
    for part in parts:
        bounds += [bounds[-1] + stop for stop in part.bounds[1:]]
    ends = np.cumsum([0, *(len(values) for _, _, values in sparse)]).tolist()
    starts = [one[0].long()[:-1] + end for one, end in zip(sparse, ends[:-1], strict=True)]
    starts.append(starts[0].new_tensor(ends[-1:]))
    columns, values = (torch.cat([one[i] for one in sparse]) for i in (1, 2))
    return [Part(parts[0].first, bounds, sparse=(torch.cat(starts), columns, values))]
