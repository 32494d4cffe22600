"""Image files without what is said about them: broken or huge metadata must not cost the pixels.

Nothing is copied: what is left out are gaps in the file, which is read as if they were not there.
"""

import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Literal

# Of a file: ranges of bytes (first, one behind the last), and bytes that stand for others.
Pieces = list[tuple[int, int] | bytes]

_PNG = b"\x89PNG\r\n\x1a\n"
# The chunks that decide over pixels; all others only say something about them.
_PNG_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
# The tags of a TIFF that decide over pixels, and how they are turned.
_TIFF_PIXELS = frozenset(
    (
        *(254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320),
        *(*range(322, 326), 338, 339, 347, *range(529, 533)),
    )
)
_EXIF_MOST = 2**20  # bytes: EXIF with thumbnails is 64 KiB
_JPEG_SAID = frozenset((*range(0xE0, 0xF0), 0xFE))
# JFIF's and Adobe's segments decide how a JPEG's values become colours, where they are whole.
_JPEG_COLOURS = {0xE0: (b"JFIF\0", 16), 0xEE: (b"Adobe", 14)}


def without_metadata(stream: BinaryIO) -> tuple[BinaryIO, bytes | None] | None:
    """A PNG, JPEG or TIFF as if it had no metadata.

    Parameters
    ----------
    stream
        Must stay open, and be read by nobody else, as long as the result is in use.

    Returns
    -------
    (stream, bytes or None) or None
        The file without, and its EXIF data, where there is any that is whole. None for other
        formats.
    """
    stream.seek(0)
    head = stream.read(8)
    if head == _PNG:
        kept, exif = _png_parts(stream)
    elif head[:3] == b"\xff\xd8\xff":
        kept, exif = _jpeg_parts(stream)
    elif head[:4] in (b"II*\0", b"MM\0*"):
        kept, exif = _tiff_parts(stream), None
    else:
        return None
    return io.BufferedReader(_Parts(stream, kept)), exif


def _png_parts(stream: BinaryIO) -> tuple[Pieces, bytes | None]:
    kept: Pieces = [(0, 8)]
    exif = None
    for at, kind, length in png_chunks(stream):
        if kind in _PNG_PIXELS:
            kept.append((at, at + length + 12))
        elif kind == b"eXIf" and length < _EXIF_MOST:
            stream.seek(at + 8)
            content = stream.read(length)
            if zlib.crc32(kind + content).to_bytes(4, "big") == stream.read(4):
                exif = content
    return kept, exif


def png_chunks(stream: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """(position, type, length) of each chunk of a PNG; the stream may be moved in between."""
    at = 8
    while True:
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[:4], "big")
        yield at, head[4:], length
        at += length + 12


def _jpeg_parts(stream: BinaryIO) -> tuple[Pieces, bytes | None]:
    kept: Pieces = [(0, 2)]
    exif = None
    at = 2
    while True:
        stream.seek(at)
        head = stream.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] == 0xDA:  # the pixels begin
            break
        if head[1] in (0xFF, 0x01, *range(0xD0, 0xD8)):  # filling, or a marker without content
            at += 1 if head[1] == 0xFF else 2
            continue
        length = 2 + int.from_bytes(head[2:], "big")
        content = stream.read(length - 4) if head[1] in _JPEG_SAID else b""
        begin, least = _JPEG_COLOURS.get(head[1], (b"", 2**16))
        if head[1] not in _JPEG_SAID or (content.startswith(begin) and length - 2 >= least):
            kept.append((at, at + length))
        elif head[1] == 0xE1 and exif is None and content.startswith(b"Exif\0\0"):
            exif = content
        at += length
    kept.append((at, max(at, stream.seek(0, io.SEEK_END))))
    return kept, exif


def _tiff_parts(stream: BinaryIO) -> Pieces:
    """A TIFF whose first directory, with the pixels' tags alone, is written anew behind its end."""
    stream.seek(0)
    head = stream.read(8)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    stream.seek(int.from_bytes(head[4:], order))
    count = int.from_bytes(stream.read(2), order)
    entries = [stream.read(12) for _ in range(count)]
    kept = [one for one in entries if int.from_bytes(one[:2], order) in _TIFF_PIXELS]
    end = stream.seek(0, io.SEEK_END)
    start = end + end % 2
    directory = len(kept).to_bytes(2, order) + b"".join(kept) + bytes(4)
    begin = head[:4] + start.to_bytes(4, order)
    return [begin, (8, end), bytes(start - end) + directory]


def _length(piece: tuple[int, int] | bytes) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]


class _Parts(io.RawIOBase):
    """Some pieces of a file, one after the other, as a file."""

    def __init__(self, stream: BinaryIO, pieces: Pieces) -> None:
        self._stream, self._pieces, self._at = stream, pieces, 0
        self._size = sum(map(_length, pieces))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        wanted, before = len(buffer), self._at
        for piece in self._pieces:
            if before < _length(piece):
                content = self._content(piece, before, min(wanted, _length(piece) - before))
                buffer[: len(content)] = content
                self._at += len(content)
                return len(content)
            before -= _length(piece)
        return 0

    def _content(self, piece: tuple[int, int] | bytes, at: int, size: int) -> bytes:
        if isinstance(piece, bytes):
            return piece[at : at + size]
        self._stream.seek(piece[0] + at)
        return self._stream.read(size)
