"""Which JPEG files a GPU decodes to the pixels that Pillow decodes them to."""

from collections.abc import Iterator

# Frames of 8 bits, coded by Huffman, sequential or progressive.
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_OTHER_FRAMES = frozenset(range(0xC0, 0xD0)) - _FRAMES - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_EXIF, _ADOBE = b"Exif\0\0", b"Adobe"
# (horizontal, vertical) samples of a component for each one of the image's coarsest
_LUMA = frozenset({(1, 1), (2, 1), (2, 2)})


def plain_jpeg(data: bytes) -> bool:
    """Whether a file is a JPEG of the kinds that all decoders take for the same picture.

    Grey, or YCbCr with colours at full or half the width, or at half of both sides; 8 bits;
    sequential or progressive Huffman coding; nothing in it that says to turn the picture, and
    nothing that says its colours are not YCbCr. Others are left to Pillow.

    Parameters
    ----------
    data
        The whole file; what follows the header is not looked at.
    """
    frame, jfif = b"", False
    try:
        for marker, body in _segments(data):
            if marker in _FRAMES and not frame:
                frame = body
            elif _is_odd(marker, body):
                return False
            jfif |= marker == 0xE0 and body[:5] == b"JFIF\0"
    except (IndexError, ValueError):
        return False
    return len(frame) >= 9 and _is_common(frame, jfif)


def _is_odd(marker: int, body: bytes) -> bool:
    """Whether a segment makes a file one of those that are left to Pillow."""
    if marker == 0xE1 and body[:6] == _EXIF:
        return _may_be_turned(body[6:])
    if marker == 0xE2:  # several pictures in one file
        return body[:4] == b"MPF\0"
    if marker == 0xEE and body[:5] == _ADOBE:  # says how colours are coded
        return body[11:12] != b"\1"
    return marker in _FRAMES | _OTHER_FRAMES


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and their bodies up to the first scan."""
    if data[:2] != b"\xff\xd8":
        raise ValueError("no JPEG")
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ValueError("no marker")
        while data[at] == 0xFF:  # may be repeated as padding
            at += 1
        marker = data[at]
        at += 1
        if marker == 0xDA:
            return
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            raise ValueError("no length")
        yield marker, data[at + 2 : at + length]
        at += length


def _is_common(frame: bytes, jfif: bool) -> bool:
    """By the frame's header: bits, height, width, components with their sampling."""
    bits, count = frame[0], frame[5]
    if bits != 8 or len(frame) < 6 + 3 * count:
        return False
    parts = [frame[6 + 3 * i : 9 + 3 * i] for i in range(count)]
    if count == 1:
        return True
    # without JFIF's word that it is YCbCr, libraries tell by these names
    if count != 3 or (not jfif and [part[0] for part in parts] != [1, 2, 3]):
        return False
    samples = [(part[1] >> 4, part[1] & 15) for part in parts]
    return samples[0] in _LUMA and samples[1:] == [(1, 1), (1, 1)]


def _may_be_turned(exif: bytes) -> bool:
    """Whether EXIF data hold an orientation other than upright, or cannot be told."""
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(exif[:4])
    if order is None:
        return True

    def number(at: int, size: int) -> int:
        if at + size > len(exif):
            raise ValueError("cut off")
        return int.from_bytes(exif[at : at + size], order)  # type: ignore[arg-type]

    first = number(4, 4)
    for i in range(number(first, 2)):
        entry = first + 2 + 12 * i
        if number(entry, 2) == 0x0112:
            return number(entry + 8, 2) != 1
    return False
