"""Masks and heat maps as greyscale PNG files, several times faster than Pillow writes them.

Pillow tries every filter of PNG on every row, which costs as much as the compression of it. Maps
are smooth and masks are flat: their difference from the row above is what compresses best anyway,
and the whole picture is filtered at once.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY = 0  # PNG's type of colour
UP = 2  # PNG's filter: the difference from the byte above
LEVEL = 1  # of zlib; more costs much and saves little


def write_png(path: Path, values: NDArray[np.integer], *, flat: bool = False) -> None:
    """Write a greyscale PNG, eight or sixteen bits a pixel.

    Parameters
    ----------
    path : Path
        Its folder is there.
    values : uint8 or uint16 [h, w]
        Not empty.
    flat : bool
        Most neighbours are equal, as in a mask: runs are all that is looked for, which makes such a
        file smaller, too.
    """
    height, width = values.shape
    # the type of the filter before each row; of two bytes the higher comes first
    lines = values.astype(values.dtype.newbyteorder(">"), order="C").view(np.uint8)
    filtered = np.empty((height, 1 + lines.shape[1]), dtype=np.uint8)
    filtered[:, 0] = UP
    filtered[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
    strategy = zlib.Z_RLE if flat else zlib.Z_DEFAULT_STRATEGY
    packer = zlib.compressobj(LEVEL, strategy=strategy)
    header = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, GREY, 0, 0, 0)
    with path.open("wb") as file:
        file.write(SIGNATURE)
        file.write(_chunk(b"IHDR", header))
        file.write(_chunk(b"IDAT", packer.compress(filtered.data) + packer.flush()))
        file.write(_chunk(b"IEND", b""))


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
