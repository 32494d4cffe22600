"""The matrix A as a stream of row blocks, whatever it comes as.

Torch is not imported here: a tensor comes from somebody who has it already.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BLOCK_ROWS = 65536
BLOCK_BYTES = 32 * 2**20  # of arrays that are read by slices


@runtime_checkable
class RowBlocks(Protocol):
    """A tall matrix that can be read any number of times, block by block (one pass each time)."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, channels)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    def blocks(self) -> Iterator[Any]:
        """Yield arrays ``[rows, channels]`` in order: numpy, scipy CSR or torch."""


@dataclass(frozen=True)
class MatrixRows:
    """Row blocks of a matrix in memory: a numpy array, scipy CSR matrix or torch tensor."""

    matrix: Any
    block_rows: int = BLOCK_ROWS

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, channels)."""
        return int(self.matrix.shape[0]), int(self.matrix.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, as numpy names it."""
        if is_tensor(self.matrix):
            return np.dtype(np.float64 if self.matrix.element_size() == 8 else np.float32)
        return np.dtype(self.matrix.dtype)

    def blocks(self) -> Iterator[Any]:
        """Yield ``block_rows`` rows at a time, as views where the matrix allows it."""
        rows = self.shape[0]
        if rows <= self.block_rows:
            yield self.matrix
            return
        for start in range(0, rows, self.block_rows):
            stop = min(start + self.block_rows, rows)
            if not is_sparse(self.matrix):
                yield self.matrix[start:stop]
                continue
            yield csr_view(self.matrix, start, stop)


def csr_view(matrix: Any, start: int, stop: int) -> Any:
    """Rows of a CSR matrix without a copy of its values, which scipy's own slices are."""
    first, last = (int(matrix.indptr[row]) for row in (start, stop))
    starts = matrix.indptr[start : stop + 1] - matrix.indptr[start]
    values, columns = matrix.data[first:last], matrix.indices[first:last]
    return csr_of(type(matrix), values, columns, starts, (stop - start, matrix.shape[1]))


def csr_of(kind: Any, values: Array, columns: Array, starts: Array, shape: tuple[int, int]) -> Any:
    """A CSR matrix of these very arrays: scipy's own way checks, and may copy, all of them."""
    made = kind(shape, dtype=values.dtype)
    made.data, made.indices, made.indptr = values, columns, starts
    return made


@dataclass(frozen=True)
class ResidentRows:
    """Row blocks read once and kept in memory, in the form they are read in."""

    kept: tuple[Any, ...]
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    locate: Callable[[int], str] | None = None
    """The image of a row, where the rows that were read know it."""

    @classmethod
    def of(cls, rows: RowBlocks) -> "ResidentRows":
        """Read all of `rows` once."""
        return cls(tuple(rows.blocks()), rows.shape, rows.dtype, getattr(rows, "locate", None))

    @classmethod
    def within(cls, rows: RowBlocks, limit: int) -> "ResidentRows | None":
        """The same, but None as soon as the blocks take more than `limit` bytes."""
        kept, taken = [], 0
        for block in rows.blocks():
            kept.append(block)
            taken += nbytes_of(block)
            if taken > limit:
                return None
        return cls(tuple(kept), rows.shape, rows.dtype, getattr(rows, "locate", None))

    @property
    def nbytes(self) -> int:
        """Bytes the blocks take in memory."""
        return sum(nbytes_of(block) for block in self.kept)

    def blocks(self) -> Iterator[Any]:
        """Yield the kept blocks."""
        return iter(self.kept)


@dataclass(frozen=True)
class SlicedRows:
    """Row blocks of an array that is read by slices of rows: of Zarr, dask, HDF5 or xarray.

    Each pass reads it anew, and computes a dask graph anew: where that is costly, ``persist`` it.

    Parameters
    ----------
    array : array-like [rows, channels]
    block_rows : int
        Whole chunks of the array, where it has chunks: each is read once in a pass.
    """

    array: Any
    block_rows: int

    @classmethod
    def of(cls, array: Any, block_rows: int | None = None) -> "SlicedRows":
        """Blocks of about 32 MiB."""
        channels, size = int(array.shape[1]), np.dtype(array.dtype).itemsize
        wanted = block_rows or max(1, BLOCK_BYTES // max(1, channels * size))
        chunk = (getattr(array, "chunks", None) or (1,))[0]
        chunk = int(chunk[0] if isinstance(chunk, tuple) else chunk) or 1
        return cls(array, max(1, wanted // chunk) * chunk)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, channels)."""
        return int(self.array.shape[0]), int(self.array.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.dtype(self.array.dtype)

    def blocks(self) -> Iterator[Any]:
        """Read ``block_rows`` rows at a time."""
        for start in range(0, self.shape[0], self.block_rows):
            block = self.array[start : start + self.block_rows]
            block = block.compute() if hasattr(block, "compute") else block
            block = block.tocsr() if is_sparse(block) else np.asarray(block)
            if block.ndim != 2:
                raise ValueError(f"rows of A must be an array or a scipy matrix, got {block!r}")
            yield block


def as_row_blocks(A: Any, block_rows: int | None = None) -> RowBlocks:
    """Wrap whatever the user has as row blocks, by default 65 536 rows each, sparse ones four times
    as many.

    Raises
    ------
    ValueError
        When A is not a matrix.
    """
    # arrays of Zarr and dask have `blocks`, too: something that is indexed
    if isinstance(A, RowBlocks) and callable(A.blocks):
        return A
    in_memory = is_tensor(A) or is_sparse(A) or isinstance(A, np.ndarray)
    by_slices = all(hasattr(A, name) for name in ("shape", "dtype", "__getitem__"))
    if not in_memory and by_slices and len(A.shape) == 2:
        return SlicedRows.of(A, block_rows)
    matrix: Any = A if in_memory else np.asarray(A)
    if matrix.ndim != 2:
        raise ValueError(f"A must be rows x channels, got shape {tuple(matrix.shape)}")
    if is_sparse(matrix):
        matrix = matrix.tocsr()
        block_rows = block_rows or 4 * BLOCK_ROWS
        if not matrix.has_canonical_format:  # an entry given in two parts has other squares
            matrix = matrix.copy()
            matrix.sum_duplicates()
    return MatrixRows(matrix, block_rows or BLOCK_ROWS)


def is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor, without importing torch."""
    return type(value).__module__.partition(".")[0] == "torch"


def as_numpy(block: Any) -> Array:
    """A dense block as a numpy array, without a copy where there can be one."""
    if not is_tensor(block):
        return np.asarray(block)
    on_cpu = block.detach().cpu()
    try:
        return on_cpu.numpy()
    except TypeError:  # bfloat16, which numpy does not have
        return on_cpu.float().numpy()


def dense(block: Any, dtype: Any) -> Array:
    """A block as a dense numpy array of `dtype`."""
    return (block.toarray() if is_sparse(block) else as_numpy(block)).astype(dtype, copy=False)


def nbytes_of(block: Any) -> int:
    """Bytes a block takes in memory."""
    if is_sparse(block):
        return int(block.data.nbytes + block.indices.nbytes + block.indptr.nbytes)
    return int(block.nbytes)


def float_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that values of `dtype` are computed in: float64 for float64, float32 for others."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def is_sparse(block: Any) -> bool:
    """Whether it is a scipy sparse matrix."""
    import scipy.sparse  # here: what stages import to plan by needs no matrix

    return bool(scipy.sparse.issparse(block))
