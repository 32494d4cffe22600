"""Image files to RGB arrays; what cannot be read becomes an error with a short reason."""

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from stages.images.formats import HEIF
from stages.images.metadata import png_chunks, without_metadata
from stages.images.orientation import Frame, upright
from stages.images.resize import FILTERS

if HEIF:
    from pillow_heif import register_heif_opener

    register_heif_opener()

T = TypeVar("T")
MAX_PIXELS = 500_000_000
# Per pixel of an image file while it is decoded: Pillow's 4 bytes, once more turned upright, and
# two arrays of RGB; measured 16 for images with transparency, which are put onto white.
DECODE_BYTES = 20
# Pillow's own limit would warn about large panoramas; `_opened` refuses above this one.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

# Photographs and drawings; not EPS and the like, for which Pillow would run another program.
_FORMATS = frozenset(
    "AVIF BMP DIB GIF HEIF JPEG JPEG2000 MPO PCX PNG PPM TGA TIFF WEBP".split()  # noqa: SIM905
)
# Those that can keep every pixel's value, as an annotation must.
_LOSSLESS = frozenset("BMP DIB GIF PCX PNG PPM TGA TIFF WEBP".split())  # noqa: SIM905
# Bytes per pixel that decoders take besides Pillow's image: the whole image at once.
_DECODERS_OWN = {"AVIF": 12, "HEIF": 12, "JPEG2000": 16, "TIFF": 4, "WEBP": 12}
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """An image cannot be used; the message is a short reason such as `truncated`."""


def read_header(data: bytes | Path) -> tuple[int, int]:
    """Height and width of an image after EXIF orientation, without decoding its pixels.

    Raises
    ------
    ImageError
        No image, or more than `MAX_PIXELS` pixels.
    """
    return read_frame(data).seen


def read_frame(data: bytes | Path) -> Frame:
    """The size of an image as stored, and how it is to be turned; raises as `read_header`."""
    return _opened(data, _frame)


def read_stored(data: bytes | Path, *, colours: bool = False) -> tuple[NDArray[Any], int]:
    """An annotation image's stored values, turned as its own orientation says.

    Parameters
    ----------
    colours
        Of an indexed image in which black is not 0 the colours are given, not the numbers.

    Returns
    -------
    ndarray [h, w] or [h, w, channels]
        Values of grey and indexed images as they are, of others red, green and blue. Where there
        is transparency, opacity is a last channel more: there are 2, 3 or 4.
    int
        The orientation: 1 where the file has none.

    Raises
    ------
    ImageError
        As `decode_rgb`, or for a format that changes pixels' values.
    """

    def values(image: Image.Image, stream: BinaryIO) -> tuple[NDArray[Any], int]:
        _refuse_lossy(image, stream)
        orientation = _orientation(image, stream)
        image.load()
        if colours and image.mode == "P" and _black_is_not_0(image):
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        # Pillow has turned a TIFF already
        return upright(_stored(image), 1 if image.format == "TIFF" else orientation), orientation

    return _opened(data, values)


def verify(data: bytes) -> tuple[int, int]:
    """Height and width, as `read_header`, of an image that is checked to decode to its end.

    A JPEG is decoded at an eighth of its size: the whole stream is still read, which is where
    damage shows, at a fraction of the arithmetic.

    Raises
    ------
    ImageError
        As `decode_rgb`.
    """

    def check(image: Image.Image, stream: BinaryIO) -> tuple[int, int]:
        size = _frame(image, stream).seen
        image.draft(None, (1, 1))
        image.load()
        return size

    return _opened(data, check)


def verify_bytes(data: bytes | Path) -> int:
    """Bytes that `verify` takes besides the file's own, told by the header alone.

    Raises
    ------
    ImageError
        As `read_header`.
    """

    def needed(image: Image.Image, stream: BinaryIO) -> int:
        pixels = image.width * image.height
        image.draft(None, (1, 1))  # makes a JPEG smaller; others stay as they are
        own = _DECODERS_OWN.get(image.format or "", 0)
        if image.info.get("progressive"):  # 16 bits for each value of the whole image
            own = 2 * len(image.getbands())
        stored = 1 if image.mode in ("1", "L", "P") else 4
        return pixels * own + image.width * image.height * stored

    return _opened(data, needed)


def decode_rgb(data: bytes) -> NDArray[np.uint8]:
    """Decode one image file.

    EXIF orientation is applied. Transparency goes over white. Grey, CMYK, palette and 1-bit images
    become RGB; of an animation the first frame is taken. Integers of 16 and more bits are scaled
    from 0..65535 to 0..255 (from 0..maximum when they go beyond), floats likewise from 0..1,
    0..255 or 0..65535, whichever is the first to hold the maximum.

    Parameters
    ----------
    data
        The bytes of the file.

    Returns
    -------
    ndarray
        uint8 `[h, w, 3]`, C-contiguous, with the size that `read_header` gives.

    Raises
    ------
    ImageError
        Not an image, truncated, damaged, or more than `MAX_PIXELS` pixels.
    """
    # PIL's own buffer is read-only
    return _opened(data, lambda image, stream: np.array(_upright(image, stream), dtype=np.uint8))


def decode_resized(
    data: bytes, shape: tuple[int, int], *, reduced: bool = False, interpolation: str = "bilinear"
) -> NDArray[np.uint8]:
    """``resize_rgb(decode_rgb(data), shape, interpolation)``, the same pixels, within Pillow.

    Copying the full-size pixels out of Pillow and back holds the interpreter lock for longer than
    all the rest of an image: a sixth thread would only wait.

    Parameters
    ----------
    reduced
        A JPEG may be decoded at a half, a quarter or an eighth of its size, where that is no
        smaller than `shape`: nearly the same pixels, in a fraction of the time.

    Raises
    ------
    ImageError
        As `decode_rgb`.
    """
    (resized,) = decode_at_each(data, [shape], reduced=reduced, interpolation=interpolation)
    return resized


def decode_at_each(
    data: bytes,
    shapes: Sequence[tuple[int, int]],
    *,
    reduced: bool = False,
    interpolation: str = "bilinear",
) -> list[NDArray[np.uint8]]:
    """What `decode_resized` gives at each of some sizes, decoded once; raises as it does."""

    def resized(image: Image.Image, stream: BinaryIO) -> list[NDArray[np.uint8]]:
        if reduced:  # a square, for the picture may be turned yet
            image.draft(None, (max(map(max, shapes)),) * 2)
        rgb = _upright(image, stream)
        found = []
        for height, width in shapes:
            same = rgb.size == (width, height)
            one = rgb if same else rgb.resize((width, height), FILTERS[interpolation])
            found.append(np.array(one, dtype=np.uint8))
        return found

    return _opened(data, resized)


def _opened(data: bytes | Path, use: Callable[[Image.Image, BinaryIO], T]) -> T:
    """Use an image whose header is read, and its file; whatever goes wrong is an `ImageError`.

    What fails is tried once more without the file's metadata.
    """
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_QuietPillow())
            stream: BinaryIO = (
                stack.enter_context(data.open("rb")) if isinstance(data, Path) else io.BytesIO(data)
            )
            if not stream.read(1):
                raise ImageError("0 bytes")
            stream.seek(0)
            try:
                return _used(stream, use)
            except (ImageError, MemoryError, Image.DecompressionBombError):
                raise
            except Exception:
                if (bare := without_metadata(stream)) is None:
                    raise
                with contextlib.suppress(Exception):
                    return _used(bare[0], use, bare[1])
                raise
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not an image") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {MAX_PIXELS} pixels") from error
    except Exception as error:  # decoders of damaged files raise anything
        raise ImageError(_reason(error)) from error


def _used(
    stream: BinaryIO, use: Callable[[Image.Image, BinaryIO], T], exif: bytes | None = None
) -> T:
    Image.init()
    formats = [name for name in Image.ID if name in _FORMATS]  # those this build has
    with Image.open(stream, formats=formats) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(f"{image.width}x{image.height}, more than {MAX_PIXELS} pixels")
        if exif:
            image.info["exif"] = exif
        return use(image, stream)


def _refuse_lossy(image: Image.Image, stream: BinaryIO) -> None:
    """Refuse an annotation whose pixels are not those that were drawn."""
    kind = image.format or ""
    if kind == "TIFF" and "jpeg" in str(image.info.get("compression", "")):
        kind = "TIFF with JPEG compression"
    if kind == "WEBP":
        before = stream.tell()
        stream.seek(0)
        kind = "WEBP" if b"VP8L" in stream.read(4096) else "lossy WEBP"
        stream.seek(before)
    if kind not in _LOSSLESS:
        raise ImageError(f"{kind} changes pixels' values: save it as PNG")


def _upright(image: Image.Image, stream: BinaryIO) -> Image.Image:
    """The pixels of an opened image as RGB, EXIF orientation applied."""
    # Pillow itself turns a TIFF, and only that, while it loads the pixels
    turned = image.format == "TIFF"
    method = None if turned else _TRANSPOSES.get(_orientation(image, stream))
    image.load()
    rgb = _to_rgb(image)
    return rgb if method is None else rgb.transpose(method)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return (error.strerror or type(error).__name__).lower()
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, EOFError) or re.search("truncated|unexpected end|end of file", text, re.I):
        return "truncated"
    return f"damaged ({text[:120]})"


class _QuietPillow:
    """No warnings from Pillow, in any number of threads at once.

    `warnings.catch_warnings` alone replaces the filters of the whole process, so that two threads
    leaving it in the wrong order would leave them replaced.
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _inside: ClassVar[int] = 0
    _filters: ClassVar[contextlib.ExitStack] = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if _QuietPillow._inside == 0:
                self._filters.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL\.")
            _QuietPillow._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            _QuietPillow._inside -= 1
            if _QuietPillow._inside == 0:
                self._filters.close()


def _frame(image: Image.Image, stream: BinaryIO) -> Frame:
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # its `size` before loading is turned already or not, depending on Pillow's version
        width, height = image.tag_v2[256], image.tag_v2[257]
    return Frame((height, width), _orientation(image, stream))


def _orientation(image: Image.Image, stream: BinaryIO) -> int:
    """EXIF orientation, 1 to 8; 1 when there is none or the EXIF data is damaged."""
    try:
        if image.format == "PNG" and "exif" not in image.info and (late := _late_exif(stream)):
            image.info["exif"] = late
        # the base class's method, as a PNG's own would decode the pixels to get at a late chunk
        exif = Image.Image.getexif(image)
        value = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # an image whose EXIF data is damaged is still an image
        return 1
    return value if value in _TRANSPOSES else 1


def _late_exif(stream: BinaryIO) -> bytes | None:
    """The eXIf chunk of a PNG file, wherever it is; the stream's position is kept."""
    before = stream.tell()
    try:
        for at, kind, length in png_chunks(stream):
            if kind == b"eXIf":
                stream.seek(at + 8)
                return stream.read(length)
        return None
    finally:
        stream.seek(before)


def _black_is_not_0(image: Image.Image) -> bool:
    """Whether 0 is another colour than black in an indexed image that shows black."""
    palette = image.getpalette("RGB") or []
    black = [i for i in range(len(palette) // 3) if not any(palette[3 * i : 3 * i + 3])]
    return bool(black) and 0 not in black and bool(np.isin(np.asarray(image), black).any())


def _stored(image: Image.Image) -> NDArray[Any]:
    """Stored values as `read_stored` gives them, of an image that is loaded."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return np.asarray(image)
    if image.mode in {"1", "L", "P"}:
        values = np.asarray(image)
        if not image.has_transparency_data:
            return values
        opacity = np.asarray(image.convert("RGBA"))[..., 3]
        return np.stack([values.astype(np.uint8), opacity], axis=-1)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    return np.asarray(image.convert("LA" if image.mode in {"LA", "La"} else "RGBA"))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode in ("La", "RGBa"):  # premultiplied
        image = image.convert(image.mode.upper())
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _to_8_bits(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale grey values of any number type to uint8, as `decode_rgb` says."""
    values = np.nan_to_num(grey.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = values.max()
    limits = (1.0, 255.0, 65535.0) if grey.dtype.kind == "f" else (65535.0,)
    limit = next((limit for limit in limits if top <= limit), top)
    return np.rint(values.clip(0) * (255 / limit)).astype(np.uint8)
