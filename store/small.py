"""Small arrays of an artifact, stored whole in Zarr's own codecs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec


def write_array(
    group: zarr.Group, name: str, values: NDArray[Any], dimensions: Sequence[str] | None = None
) -> None:
    """Store a small array whole, with a checksum; all-zero chunks are written too."""
    values = np.asarray(values)
    group.create_array(
        name,
        data=values,
        chunks=tuple(max(1, side) for side in values.shape) if values.ndim else "auto",
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        dimension_names=dimensions,
        overwrite=True,
        config={"write_empty_chunks": True},
    )
