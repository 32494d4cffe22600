"""The matrix A as a stream of row blocks, whatever it comes as."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

Array = NDArray[Any]


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
    """Row blocks of a matrix in memory: a numpy array, scipy sparse matrix or torch tensor."""

    matrix: Any
    block_rows: int = 16384

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, channels)."""
        return int(self.matrix.shape[0]), int(self.matrix.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, as numpy names it."""
        if isinstance(self.matrix, torch.Tensor):
            return np.dtype(np.float64 if self.matrix.dtype == torch.float64 else np.float32)
        return np.dtype(self.matrix.dtype)

    def blocks(self) -> Iterator[Any]:
        """Yield ``block_rows`` rows at a time, as views where the matrix allows it."""
        for start in range(0, self.shape[0], self.block_rows):
            yield self.matrix[start : start + self.block_rows]


@dataclass(frozen=True)
class ResidentRows:
    """Row blocks read once and kept in memory, in the type they are stored in."""

    kept: tuple[Any, ...]
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    locate: Callable[[int], int] | None = None
    """Image id of a row, where the rows that were read know it."""

    @classmethod
    def of(cls, rows: RowBlocks) -> "ResidentRows":
        """Read all of `rows` once."""
        return cls(tuple(rows.blocks()), rows.shape, rows.dtype, getattr(rows, "locate", None))

    def blocks(self) -> Iterator[Any]:
        """Yield the kept blocks."""
        return iter(self.kept)


def as_row_blocks(A: Any, block_rows: int = 16384) -> RowBlocks:
    """Wrap whatever the user has as row blocks.

    Raises
    ------
    ValueError
        When A is not a matrix.
    """
    if isinstance(A, RowBlocks):
        return A
    matrix: Any = A if isinstance(A, torch.Tensor) or _sparse(A) else np.asarray(A)
    if matrix.ndim != 2:
        raise ValueError(f"A must be rows x channels, got shape {tuple(matrix.shape)}")
    return MatrixRows(matrix.tocsr() if _sparse(matrix) else matrix, block_rows)


def to_tensor(block: Any, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """One block as a dense tensor ``[rows, channels]`` of `dtype` on `device`."""
    if isinstance(block, torch.Tensor):
        return block.detach().to(device, dtype)
    dense = block.toarray() if _sparse(block) else np.ascontiguousarray(block)
    # A read-only array (a store's block) may be wrapped: the tensor is never written to.
    if not dense.flags.writeable:
        dense = dense.copy()
    return torch.from_numpy(dense).to(device, dtype)


def sample_rows(rows: RowBlocks, indices: Array) -> Array:
    """The rows at ascending `indices [n]` as a dense ``[n, channels]`` array; one pass.

    Raises
    ------
    ValueError
        When the blocks hold fewer rows than an index asks for.
    """
    wanted = np.asarray(indices, dtype=np.int64)
    out = np.empty((len(wanted), rows.shape[1]), _float_type(rows.dtype))
    start = 0
    for block in rows.blocks():
        stop = start + int(block.shape[0])
        first, last = np.searchsorted(wanted, [start, stop])
        if last > first:
            picked = block[wanted[first:last] - start]
            if isinstance(picked, torch.Tensor):
                # through a type numpy has: bfloat16 is none
                picked = to_tensor(picked, torch.device("cpu"), torch.float64).numpy()
            out[first:last] = picked.toarray() if _sparse(picked) else picked
        start = stop
    if len(wanted) and wanted[-1] >= start:
        raise ValueError(f"row {wanted[-1]} was asked for, the blocks have {start} rows")
    return out


def _sparse(block: Any) -> bool:
    return bool(scipy.sparse.issparse(block))


def _float_type(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    return np.float64 if dtype == np.float64 else np.float32
