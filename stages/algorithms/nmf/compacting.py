"""Dense arrays in memory, with what is mostly zeros in them as CSR: passes take a fraction then."""

import mmap
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.nmf import kernels
from stages.algorithms.nmf.cpu import CpuEngine, as_computed, in_order
from stages.algorithms.nmf.kernels import GROUP
from stages.algorithms.nmf.stack import Engine
from stages.algorithms.rows import (
    MatrixRows,
    ResidentRows,
    RowBlocks,
    as_numpy,
    float_type,
    is_sparse,
    is_tensor,
)

# Share of non-zeros up to which the kernels are faster over CSR than over dense rows: measured at
# 8 and 50 %, k = 5, 10 and 20, the lines cross at 0.30 to 0.33; the conversion costs a little, too.
SPARSE = 0.25
BLOCKS = 16  # at least so many, where there are rows enough, to be shared out among threads
WORTH = 2**20  # values from which on there is anything to gain
LEAST_ROWS, MOST_ROWS = 16 * GROUP, 32768  # of a block

Room = tuple[NDArray[Any], NDArray[np.int32]]


def compacted(rows: RowBlocks, engine: Engine) -> RowBlocks:
    """The same rows for a CPU: of a dense array in memory, CSR where a block has few non-zeros.

    One reading of the array, shared out among threads. Blocks with more non-zeros than `SPARSE`
    stay views of the array, and are given up after their first rows. CSR takes 8 bytes for each
    non-zero (float64: 12).

    Parameters
    ----------
    rows : RowBlocks
        Of sparse matrices, files and the store they come back as they are.
    engine : Engine
        Others than a CPU's have their own ways with dense rows.
    """
    if not isinstance(engine, CpuEngine) or not isinstance(rows, MatrixRows):
        return rows
    if not _is_dense_in_memory(rows.matrix):
        return rows
    total, channels = rows.shape
    step = -(-total // (BLOCKS * GROUP)) * GROUP
    step = min(max(step, LEAST_ROWS), MOST_ROWS)
    most = int(SPARSE * channels)
    if total * channels < WORTH:
        return rows
    matrix, dtype = as_numpy(rows.matrix), float_type(rows.dtype)
    spare: list[Room] = []  # fresh memory costs more than the work on it

    def block(start: int) -> Any:
        part = matrix[start : start + step]
        size = len(part) * most * 17 // 16 + channels
        room = spare.pop() if spare else None
        if room is None or len(room[0]) < size:
            room = np.empty(size, dtype), np.empty(size, np.int32)
        found = _block(part, most, dtype, room)
        spare.append(room)
        return found

    calls = (partial(block, start) for start in range(0, total, step))
    blocks = tuple(in_order(calls, engine.threads))
    if not any(is_sparse(block) for block in blocks):
        return rows
    return ResidentRows(blocks, rows.shape, rows.dtype)


def _is_dense_in_memory(matrix: Any) -> bool:
    if is_tensor(matrix):
        # numpy knows no bfloat16, and would copy all of it
        return matrix.device.type == "cpu" and str(matrix.dtype) != "torch.bfloat16"
    if is_sparse(matrix):
        return False
    base = matrix  # a file that is mapped may be larger than the memory
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    return base is None


def _block(part: NDArray[Any], most: int, dtype: np.dtype[Any], room: Room) -> Any:
    """Some rows as CSR, or as they are where they have too many non-zeros."""
    import scipy.sparse

    rows, channels = part.shape
    values = as_computed(part, dtype)
    numbers, columns = room
    starts = np.zeros(rows + 1, np.int64)
    found = kernels.compact(values, channels, most, numbers, columns, starts)
    if found < 0:
        return part
    matrix = scipy.sparse.csr_matrix((rows, channels), dtype=dtype)
    matrix.data, matrix.indices = numbers[:found].copy(), columns[:found].copy()
    matrix.indptr = starts
    matrix.has_canonical_format = True
    return matrix
