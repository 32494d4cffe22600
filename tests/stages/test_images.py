"""Every kind of image file becomes RGB, or an ImageError with a short reason."""

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from stages.images import decode as images
from stages.images.decode import ImageError, decode_resized, decode_rgb, read_header, verify
from stages.images.resize import MIN_SIDE, normalise, resize_rgb, target_shape

HEIGHT, WIDTH = 20, 30


def scene(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A smooth colour image without symmetry, uint8 [height, width, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    planes = (200 * x / width + 20, 230 * y / height + 10, 120 * (x + y) / (width + height))
    return np.stack(planes, axis=-1).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def with_orientation(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(scene(), kind, exif=exif)


def checked(data: bytes) -> np.ndarray:
    """Decode, and check that the cheaper questions get the same answer."""
    rgb = decode_rgb(data)
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3
    assert rgb.flags.c_contiguous and rgb.flags.writeable
    assert read_header(data) == verify(data) == rgb.shape[:2]
    return rgb


def chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


# ---- modes


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "PCX"])
def test_a_lossless_image_comes_back_as_it_was(kind: str) -> None:
    np.testing.assert_array_equal(checked(encoded(scene(), kind)), scene())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
def test_a_lossy_image_comes_back_nearly(kind: str, options: dict[str, bool]) -> None:
    rgb = checked(encoded(scene(), kind, quality=95, **options))
    assert np.abs(rgb.astype(int) - scene()).mean() < 4


def test_grey_becomes_three_equal_channels() -> None:
    grey = scene()[..., 0]
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(checked(encoded(grey, kind)), np.stack([grey] * 3, axis=-1))


def test_one_bit_becomes_black_and_white() -> None:
    bits = scene()[..., 0] > 120
    rgb = checked(encoded(Image.fromarray(bits), "PNG"))
    np.testing.assert_array_equal(rgb[..., 1], bits * 255)


def test_cmyk_jpeg() -> None:
    rgb = checked(encoded(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(rgb.astype(int) - scene()).mean() < 6


def test_palette() -> None:
    palette = Image.fromarray(scene()).quantize(64)
    rgb = checked(encoded(palette, "PNG"))
    np.testing.assert_array_equal(rgb, np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("transparency", [0, bytes([0, 128] + [255] * 254)], ids=["index", "table"])
def test_a_transparent_palette_goes_over_white(transparency: int | bytes) -> None:
    indices = Image.new("P", (8, 6), 0)
    indices.putpalette([255, 0, 0, 0, 0, 255])
    indices.paste(1, (4, 0, 8, 6))
    rgb = checked(encoded(indices, "PNG", transparency=transparency))
    assert rgb[0, 0].tolist() == [255, 255, 255]
    assert rgb[0, 7].tolist() == ([0, 0, 255] if transparency == 0 else [127, 127, 255])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_goes_over_white(mode: str) -> None:
    image = Image.new(mode, (8, 6), (0, 0, 0, 255) if mode == "RGBA" else (0, 255))
    alpha = np.repeat(np.array([[0, 0, 0, 128, 128, 255, 255, 255]], np.uint8), 6, axis=0)
    image.putalpha(Image.fromarray(alpha))
    rgb = checked(encoded(image, "PNG"))
    assert rgb[0, 0].tolist() == [255, 255, 255]
    assert rgb[0, 7].tolist() == [0, 0, 0]
    assert rgb[3, 3].tolist() == [127, 127, 127]


def test_a_transparent_colour_of_an_rgb_png_goes_over_white() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, 2:] = [10, 20, 30]
    rgb = checked(encoded(image, "PNG", transparency=(10, 20, 30)))
    assert rgb[0, 0].tolist() == [0, 0, 0] and rgb[0, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    deep = np.linspace(0, 65535, HEIGHT * WIDTH).round().astype(np.uint16).reshape(HEIGHT, WIDTH)
    rgb = checked(encoded(deep, kind))
    np.testing.assert_array_equal(rgb[..., 0], np.rint(deep / 257))
    assert rgb.min() == 0 and rgb.max() == 255


def test_big_endian_16_bit_tiff() -> None:
    deep = Image.new("I;16B", (4, 2), 257 * 100)
    assert np.unique(checked(encoded(deep, "TIFF"))).tolist() == [100]


@pytest.mark.parametrize(("top", "expected"), [(65535, 255), (257 * 9, 9), (2**30, 255), (-5, 0)])
def test_32_bit_integers(top: int, expected: int) -> None:
    rgb = checked(encoded(np.array([[0, top]], np.int32), "TIFF"))
    assert rgb[0, 0].tolist() == [0, 0, 0] and rgb[0, 1].tolist() == [expected] * 3


@pytest.mark.parametrize(
    ("top", "expected"),
    [(1.0, 255), (0.5, 128), (200.0, 200), (65535.0, 255), (1e9, 255), (float("nan"), 0), (-3, 0)],
)
def test_floats(top: float, expected: int) -> None:
    rgb = checked(encoded(np.array([[0.0, top]], np.float32), "TIFF"))
    assert rgb[0, 0].tolist() == [0, 0, 0] and rgb[0, 1].tolist() == [expected] * 3


def test_16_bit_colour_png() -> None:
    pixels = b"".join(b"\0" + struct.pack(">6H", 65535, 0, 257 * 50, 0, 65535, 0) for _ in "ab")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    body = header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    rgb = checked(b"\x89PNG\r\n\x1a\n" + body)
    assert rgb[0].tolist() == [[255, 0, 50], [0, 255, 0]]


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "green", "blue")]
    for kind in ("GIF", "PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert checked(data)[3, 3].tolist() == [255, 0, 0], kind


def test_one_pixel() -> None:
    assert checked(encoded(np.full((1, 1, 3), 7, np.uint8), "PNG")).tolist() == [[[7, 7, 7]]]


# ---- orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    data = with_orientation(orientation, kind)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(checked(data), expected)
    assert read_header(data) == ((WIDTH, HEIGHT) if orientation > 4 else (HEIGHT, WIDTH))


def test_orientation_3_is_half_a_turn() -> None:
    np.testing.assert_array_equal(checked(with_orientation(3, "PNG")), scene()[::-1, ::-1])


def test_orientation_6_shows_the_first_column_on_top() -> None:
    turned = checked(with_orientation(6, "PNG"))
    np.testing.assert_array_equal(turned, np.rot90(scene(), k=-1))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_unknown_orientation_is_ignored(orientation: int) -> None:
    np.testing.assert_array_equal(checked(with_orientation(orientation, "PNG")), scene())


def test_an_exif_chunk_behind_the_pixels_of_a_png_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encoded(scene(), "PNG")
    end = plain.rindex(b"IEND") - 4
    data = plain[:end] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + plain[end:]
    np.testing.assert_array_equal(checked(data), np.rot90(scene(), k=-1))


def test_damaged_exif_is_no_reason_to_refuse() -> None:
    for block in (
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40,
        b"Exif\0\0",
    ):
        rgb = checked(encoded(scene(), "JPEG", quality=95, exif=block))
        assert rgb.shape == (HEIGHT, WIDTH, 3)


# ---- unreadable files


def refused(data: bytes, reason: str) -> None:
    for look in (decode_rgb, verify):
        with pytest.raises(ImageError, match=reason):
            look(data)


def test_empty_file() -> None:
    refused(b"", "^0 bytes$")
    with pytest.raises(ImageError, match=r"^0 bytes$"):
        read_header(b"")


@pytest.mark.parametrize("data", [b"x", b"<html>not found</html>", b"\0" * 999, b"%!PS-Adobe-3.0"])
def test_not_an_image(data: bytes) -> None:
    refused(data, "^not an image$")
    with pytest.raises(ImageError, match=r"^not an image$"):
        read_header(data)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_found_wherever_it_ends(progressive: bool) -> None:
    data = encoded(scene(64, 96), "JPEG", quality=90, progressive=progressive)
    for length in range(1, len(data) - 1, 7):
        refused(data[:length], "truncated|not an image|damaged")
    refused(data[:-2], "^truncated$")
    refused(data[: len(data) // 2], "^truncated$")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_other_truncated_files(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(noise, kind)
    refused(data[: len(data) // 2], "truncated|damaged|not an image")


def test_a_damaged_png() -> None:
    data = bytearray(encoded(scene(), "PNG"))
    data[data.index(b"IDAT") + 12] ^= 0xFF
    refused(bytes(data), "damaged|truncated")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]), st.data())
def test_a_damaged_file_is_an_array_or_an_image_error(kind: str, draw: st.DataObject) -> None:
    data = bytearray(with_orientation(6, kind) if kind != "BMP" else encoded(scene(), kind))
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        assert decode_rgb(bytes(data)).shape[:2] == read_header(bytes(data))
    except ImageError as error:
        assert "\n" not in str(error) and len(str(error)) < 200


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    def claiming(width: int, height: int) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99))

    # 600 and 40 000 megapixels: below and above where Pillow itself would stop
    for width, height in ((30_000, 20_000), (200_000, 200_000)):
        refused(claiming(width, height), "more than 500000000 pixels")
    # 400 megapixels: more than Pillow likes, but a panorama may be that large
    assert read_header(claiming(40_000, 10_000)) == (10_000, 40_000)


def test_header_of_a_path(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(with_orientation(8, "JPEG"))
    assert read_header(path) == (WIDTH, HEIGHT)
    with pytest.raises(ImageError, match="no such file"):
        read_header(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="is a directory"):
        read_header(tmp_path)


def test_a_header_is_read_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Image.Image) -> None:
        raise AssertionError("pixels were decoded")

    files = [with_orientation(6, kind) for kind in ("JPEG", "PNG", "TIFF", "WEBP")]
    files.append(encoded(scene(), "PNG"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    for data in files:
        read_header(data)


def test_threads_leave_the_warning_filters_as_they_were() -> None:
    before = list(warnings.filters)
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0garbage")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                decode_rgb(data)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(warnings.filters) == before


# ---- sizes and numbers


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        (300, 400, 224, (168, 224)),
        (400, 300, 224, (224, 168)),
        (224, 224, 224, (224, 224)),
        (100, 50, 448, (448, 224)),
        (1000, 10, 224, (224, MIN_SIDE)),
        (1, 1, 224, (224, 224)),
        (3, 2, 333, (333, 222)),
        (333, 500, 224, (149, 224)),  # 149.18
        (500, 375, 225, (225, 169)),  # 168.75
    ],
)
def test_long_side(height: int, width: int, size: int, expected: tuple[int, int]) -> None:
    assert target_shape(height, width, "long_side", size) == expected


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(MIN_SIDE, 2_000))
def test_long_side_keeps_the_aspect_to_rounding(height: int, width: int, size: int) -> None:
    h, w = target_shape(height, width, "long_side", size)
    assert max(h, w) == size and min(h, w) >= MIN_SIDE
    scale = size / max(height, width)
    assert h == MIN_SIDE or abs(h - height * scale) <= 0.5 + 1e-9
    assert w == MIN_SIDE or abs(w - width * scale) <= 0.5 + 1e-9


def test_squash_and_mistakes() -> None:
    assert target_shape(100, 999, "squash", 224) == (224, 224)
    assert target_shape(100, 999, "squash", 8) == (MIN_SIDE, MIN_SIDE)
    with pytest.raises(ValueError, match="'crop'"):
        target_shape(100, 100, "crop", 224)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        target_shape(100, 100, "squash", 0)


def test_resize_is_antialiased_and_leaves_equal_sizes_alone() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255  # a one-pixel chessboard: grey from far away
    rgb = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    small = resize_rgb(rgb, (16, 8))
    assert small.shape == (16, 8, 3) and small.dtype == np.uint8
    assert np.abs(small.astype(int) - 127.5).max() < 12
    assert resize_rgb(rgb, (64, 64)) is rgb


@pytest.mark.parametrize("how", ["bilinear", "bicubic", "lanczos"])
def test_resizing_is_pillows_by_each_filter(how: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    filter = getattr(Image.Resampling, how.upper())
    for shape in ((16, 20), (64, 80)):
        expected = np.array(Image.fromarray(rgb).resize(shape[::-1], filter))
        np.testing.assert_array_equal(resize_rgb(rgb, shape, how), expected)
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, "PNG")
        found = decode_resized(buffer.getvalue(), shape, interpolation=how)
        np.testing.assert_array_equal(found, expected)


def test_normalise() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    batch = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    found = normalise(batch, mean, std)
    assert found.shape == batch.shape and found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, (batch / 255 - mean) / std, atol=2e-6)
    np.testing.assert_array_equal(normalise(batch[1], mean, std), found[1])
    for wrong in (batch[0, 0], batch.astype(np.float32), batch[..., :2]):
        with pytest.raises(ValueError, match="uint8"):
            normalise(wrong, mean, std)


def test_the_limit_covers_what_the_docstring_says() -> None:
    assert images.MAX_PIXELS == 500_000_000
