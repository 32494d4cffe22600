"""Small arrays of an artifact, stored in Zarr's own codecs: whole, or row by row as they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import zarr

# Rows of a chunk of an array that is written as it comes.
CHUNK_ROWS = 1 << 16


def write_array(
    group: zarr.Group, name: str, values: NDArray[Any], dimensions: Sequence[str] | None = None
) -> None:
    """Store a small array whole, with a checksum; all-zero chunks are written too."""
    values = np.asarray(values)
    group.create_array(
        name,
        data=values,
        chunks=tuple(max(1, side) for side in values.shape) if values.ndim else "auto",
        compressors=_compressors(),
        dimension_names=dimensions,
        overwrite=True,
        config={"write_empty_chunks": True},
    )


def _compressors() -> list[Any]:
    from zarr.codecs import Crc32cCodec, ZstdCodec  # here: see `Location.zarr_group`

    return [ZstdCodec(level=3), Crc32cCodec()]


class ArrayWriter:
    """Write an array of unknown length front to back, a chunk of rows at a time.

    Parameters
    ----------
    group : zarr.Group
        An array of that name in it is replaced.
    row_shape : tuple of int
        Shape of one row; ``()`` for an array of one dimension.
    dtype : numpy dtype
        Rows of another type must have been converted.
    """

    def __init__(
        self,
        group: zarr.Group,
        name: str,
        row_shape: tuple[int, ...],
        dtype: Any,
        dimensions: Sequence[str] | None = None,
    ) -> None:
        self._array = group.create_array(
            name,
            shape=(0, *row_shape),
            chunks=(CHUNK_ROWS, *row_shape),
            dtype=dtype,
            compressors=_compressors(),
            dimension_names=dimensions,
            overwrite=True,
            config={"write_empty_chunks": True},
        )
        self._waiting: list[NDArray[Any]] = []
        self._rows = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows behind those so far."""
        self._waiting.append(rows)
        self._rows += len(rows)
        if self._rows >= CHUNK_ROWS:
            self._store(self._rows - self._rows % CHUNK_ROWS)

    def close(self) -> None:
        """Store what is left."""
        if self._rows:
            self._store(self._rows)

    def _store(self, count: int) -> None:
        """Store the first rows that wait; all but the last time these are whole chunks."""
        rows = np.concatenate(self._waiting)
        start = self._array.shape[0]
        self._array.resize((start + count, *rows.shape[1:]))
        self._array[start:] = rows[:count]
        self._waiting, self._rows = [rows[count:]], self._rows - count
