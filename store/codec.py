"""The chunks of `store.chunk` as a Zarr codec, so that any Zarr tool reads the arrays densely.

It is registered through the package's entry point: in this environment ``zarr.open``, dask and
xarray need not import anything of ours.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.registry import register_codec

from store.chunk import Chunk, ChunkError, encode

NAME = "dff.rows"


@dataclass(frozen=True)
class RowsCodec(ArrayBytesCodec):
    """Array -> bytes: rows ``[n, channels]``, sparse where that is smaller (see `store.chunk`).

    Attributes
    ----------
    narrow : bool
        Keep float32 values as float16 where none of a chunk becomes infinite.
    """

    narrow: bool = False
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "RowsCodec":
        """From the array's metadata."""
        return cls(**(data.get("configuration") or {}))

    def to_dict(self) -> dict[str, Any]:
        """For the array's metadata."""
        return {"name": NAME, "configuration": {"narrow": self.narrow}}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known beforehand."""
        raise NotImplementedError

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse arrays that are not rows x channels.

        Raises
        ------
        ValueError
        """
        if len(shape) != 2:
            raise ValueError(f"{NAME} keeps arrays [rows, channels], not of shape {shape}")

    # in threads, as Zarr's own codecs: its event loop is one thread for all reads of a process

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decoded, chunk_data, chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._encoded, chunk_data, chunk_spec)

    def _decoded(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        shape, dtype = chunk_spec.shape, chunk_spec.dtype.to_native_dtype()
        chunk = Chunk.parse(chunk_data.to_bytes(), shape[1])
        if chunk.rows != shape[0]:
            raise ChunkError(f"a chunk of {chunk.rows} rows where {shape[0]} are expected")
        return chunk_spec.prototype.nd_buffer.from_numpy_array(chunk.dense(dtype))

    def _encoded(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        rows = np.asarray(chunk_data.as_numpy_array())
        content = encode(rows, narrow=self.narrow)
        return chunk_spec.prototype.buffer.from_bytes(content)


register_codec(NAME, RowsCodec)
