"""`extract.decode: gpu`: the pixels of Pillow, from files that the device decodes."""

import importlib.util
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from typer.testing import Result

from gpu import needs_cuda
from stages.extract import pixels
from stages.images.decode import decode_rgb
from stages.images.jpeg import plain_jpeg
from stages.images.resize import resize_rgb
from stages.images.shrink import Shrinker, resize_exactly
from store import open_artifact
from tools import edit, message, run_dff, small_project

LAYER = "features.5"
needs_triton = pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="needs Triton")
SIDES = st.integers(1, 90)


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, SIDES, SIDES, st.booleans(), st.integers(0, 2**32 - 1))
def test_resizing_is_pillows(h: int, w: int, H: int, W: int, hard: bool, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (2, h, w, 3), dtype=np.uint8)
    if hard:  # black and white: the sums at their largest
        images = np.where(images < 128, np.uint8(0), np.uint8(255))
    found = resize_exactly(torch.from_numpy(images).permute(0, 3, 1, 2), (H, W))
    assert found is not None
    for one, image in zip(found.numpy(), images, strict=True):
        np.testing.assert_array_equal(one, resize_rgb(image, (H, W)))


@pytest.mark.parametrize("size", [(37, 4000), (2999, 41)])
def test_resizing_a_large_photograph_is_pillows(size: tuple[int, int]) -> None:
    white = np.full((*size, 3), 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for image in (white, noise):
        found = resize_exactly(torch.from_numpy(image).permute(2, 0, 1)[None], (32, 32))
        assert found is not None
        np.testing.assert_array_equal(found[0].numpy(), resize_rgb(image, (32, 32)))


@needs_triton
@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=4), SIDES, SIDES)
def test_the_kernel_resizes_all_of_a_batch_as_pillow_does(
    sizes: list[tuple[int, int]], H: int, W: int
) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rng = np.random.default_rng(len(sizes))
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    given = [torch.from_numpy(i).permute(2, 0, 1).contiguous().to(device) for i in images]
    placed = torch.full((len(sizes) + 1, H, W, 3), 7, dtype=torch.uint8, device=device)
    places = list(range(1, len(sizes) + 1))
    assert Shrinker(device).shrink(given, placed, places) == set(places)
    assert (placed[0] == 7).all()
    for one, image in zip(placed[1:].cpu().numpy(), images, strict=True):
        np.testing.assert_array_equal(one, resize_rgb(image, (H, W)))


def test_where_pillow_does_otherwise_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.images import shrink

    shrink._order.cache_clear()
    monkeypatch.setattr(shrink, "resize_rgb", lambda rgb, shape: np.zeros((*shape, 3), np.uint8))
    try:
        assert resize_exactly(torch.zeros((1, 3, 40, 50), dtype=torch.uint8), (20, 30)) is None
    finally:
        shrink._order.cache_clear()


# -- which files ----------------------------------------------------------------------------------


def picture(size: tuple[int, int] = (90, 61), mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth, with edges and noise, as photographs are."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        box = sorted(rng.integers(0, size[0], 2)) + sorted(rng.integers(0, size[1], 2))
        draw.ellipse(
            (box[0], box[2], box[1], box[3]), fill=tuple(map(int, rng.integers(0, 256, 3)))
        )
    return image.convert(mode)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(picture(), exif=exif)


PLAIN = {
    "4:4:4": jpeg(picture(), subsampling="4:4:4"),
    "4:2:2": jpeg(picture(), subsampling="4:2:2"),
    "4:2:0": jpeg(picture(), subsampling="4:2:0"),
    "progressive": jpeg(picture(), progressive=True),
    "low quality": jpeg(picture(), quality=15),
    "restart markers": jpeg(picture(), restart_marker_blocks=2),
    "grey": jpeg(picture(mode="L")),
    "upright by its own word": turned(1),
    "odd sides": jpeg(picture((33, 17)), subsampling="4:2:0"),
    "one pixel": jpeg(picture((1, 1))),
    "a comment": jpeg(picture(), comment=b"\xff\xd9 not the end"),
}
OTHER = {
    "turned": turned(6),
    "damaged EXIF": jpeg(picture(), exif=b"Exif\0\0garbage"),
    "CMYK": jpeg(picture(mode="CMYK")),
    "RGB": jpeg(picture(), keep_rgb=True),
    "4:1:1": PLAIN["4:2:2"].replace(b"\x01\x21\x00\x02\x11", b"\x01\x41\x00\x02\x11"),
    "a PNG": (lambda s: (picture().save(s, "PNG"), s.getvalue())[1])(io.BytesIO()),
    "cut off": PLAIN["4:2:0"][:120],
    "nothing": b"",
    "no length": b"\xff\xd8\xff\xe0\0\1",
}


@pytest.mark.parametrize("name", PLAIN)
def test_common_files_are_plain(name: str) -> None:
    assert plain_jpeg(PLAIN[name])


@pytest.mark.parametrize("name", OTHER)
def test_others_are_left_to_pillow(name: str) -> None:
    assert not plain_jpeg(OTHER[name])


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([*PLAIN.values(), *OTHER.values()]), st.data())
def test_damaged_files_are_no_error(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(0, 4))):
        if damaged:
            damaged[draw.draw(st.integers(0, min(len(damaged), 700) - 1))] = draw.draw(
                st.integers(0, 255)
            )
    assert plain_jpeg(bytes(damaged[: draw.draw(st.integers(0, len(damaged)))])) in (True, False)


# -- the stage ------------------------------------------------------------------------------------


def jpeg_photographs(root: Path) -> Path:
    """Of several kinds and sizes, and one PNG among them."""
    folder = root / "all"
    folder.mkdir(parents=True)
    for i, (name, content) in enumerate([*PLAIN.items(), ("turned", OTHER["turned"])]):
        (folder / f"{i:02d} {name.replace(':', '')}.jpg").write_bytes(content)
    picture((70, 50)).save(folder / "last.png")
    for i in range(7):
        (folder / f"more {i}.jpg").write_bytes(jpeg(picture((80 + i % 2, 60), seed=i)))
    return root


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Of photographs that are JPEG files."""
    return small_project(tmp_path / "project", jpeg_photographs(tmp_path / "photographs"))


def rows(project: Path, dff: Callable[..., Result], *options: str) -> np.ndarray:
    """All that an extraction finds."""
    result = dff("extract", "--no-reuse", *options)
    assert result.exit_code == 0, (result.stderr, result.exception)
    ragged = open_artifact(project / "artifacts/activations.zarr").ragged(LAYER)
    return ragged.rows(0, int(ragged.offsets[-1]))


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Extract as on a GPU, in batches of four; how many files were decoded at once."""
    for module in ("needs", "stage"):
        monkeypatch.setattr(f"stages.extract.{module}.in_large_batches", lambda device: True)
    monkeypatch.setattr("stages.extract.plan.GPU_BATCH", 4)
    seen: list[int] = []
    made = pixels.jpeg_decoder

    def counting(device: torch.device) -> pixels.DecodeJpeg:
        decode = made(device)
        return lambda encoded: (seen.append(len(encoded)), decode(encoded))[1]

    monkeypatch.setattr(pixels, "jpeg_decoder", counting)
    return seen


@pytest.mark.parametrize(
    ("at_once", "sizes"), [(2**28, "64"), (20_000, "64"), (1, "64"), (2**28, "[64, 96]")]
)
def test_it_gives_the_same_activations(
    project: Path,
    dff: Callable[..., Result],
    as_on_gpu: list[int],
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
    sizes: str,
) -> None:
    edit(project, "size: 64", f"size: {sizes}")
    assert dff("index").exit_code == 0
    expected = rows(project, dff)
    assert not as_on_gpu, "the CPU decodes unless told otherwise"
    edit(project, "decode: cpu", "decode: gpu")
    monkeypatch.setattr(pixels, "AT_ONCE", at_once)
    np.testing.assert_array_equal(rows(project, dff), expected)
    times = 2 if "," in sizes else 1
    assert sum(as_on_gpu) == times * (len(PLAIN) + 7), "all but what was turned, and the PNG"
    assert (max(as_on_gpu) == 1) == (at_once == 1)


@pytest.mark.parametrize("kernel", [False, pytest.param(True, marks=needs_triton)])
def test_files_that_the_decoder_refuses_are_decoded_by_pillow(
    project: Path,
    dff: Callable[..., Result],
    as_on_gpu: list[int],
    monkeypatch: pytest.MonkeyPatch,
    kernel: bool,
) -> None:
    monkeypatch.setattr(Shrinker, "usable", staticmethod(lambda device: kernel))
    assert dff("index").exit_code == 0
    expected = rows(project, dff)

    def refused(encoded: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        as_on_gpu.append(len(encoded))
        raise RuntimeError("nvjpeg: not supported")

    edit(project, "decode: cpu", "decode: gpu")
    monkeypatch.setattr(pixels, "jpeg_decoder", lambda device: refused)
    np.testing.assert_array_equal(rows(project, dff), expected)
    assert as_on_gpu


@pytest.mark.usefixtures("as_on_gpu")
def test_a_file_that_changed_is_one_line(
    project: Path, tmp_path: Path, dff: Callable[..., Result]
) -> None:
    assert dff("index").exit_code == 0
    edit(project, "decode: cpu", "decode: gpu")
    path = tmp_path / "photographs/all/more 3.jpg"
    path.write_bytes(path.read_bytes() + b"more")
    assert "more 3.jpg: has changed since the index" in message(dff("extract"))
    path.unlink()
    assert "more 3.jpg: cannot be read" in message(dff("extract"))


@pytest.mark.usefixtures("as_on_gpu")
@pytest.mark.parametrize("error", [RuntimeError("not compiled with nvJPEG"), ImportError("gone")])
def test_a_torchvision_without_a_decoder_is_one_line(
    project: Path,
    dff: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    assert dff("index").exit_code == 0
    edit(project, "decode: cpu", "decode: gpu")
    monkeypatch.setattr("torchvision.io.decode_jpeg", fails)
    line = message(dff("extract"))
    assert f"extract.decode: gpu: this torchvision decodes no JPEG files on cpu ({error})" in line
    assert "set it to cpu" in line


# -- on a GPU -------------------------------------------------------------------------------------

# Decoders may round the inverse cosine transform otherwise. Where colours have half the resolution,
# libjpeg smooths them and nvJPEG repeats them: brightness is the same, colours differ at edges.
MEAN, COLOURS = 0.75, 12
FULL = {"4:4:4", "grey", "one pixel"}
BRIGHTNESS = np.array([0.299, 0.587, 0.114])


@needs_cuda
@pytest.mark.parametrize("name", PLAIN)
def test_a_gpu_decodes_what_pillow_decodes(name: str) -> None:
    decode = pixels.jpeg_decoder(torch.device("cuda"))
    given = torch.frombuffer(bytearray(PLAIN[name]), dtype=torch.uint8)
    found = decode([given])[0].permute(1, 2, 0).cpu().numpy().astype(int)
    expected = decode_rgb(PLAIN[name]).astype(int)
    assert found.shape == expected.shape
    colours, light = np.abs(found - expected).mean(), np.abs((found - expected) @ BRIGHTNESS).mean()
    print(f"{name}: colours {colours:.4f}, brightness {light:.4f}")
    # clipped where a colour is beyond what there is, which is not rare in these pictures
    assert light <= (MEAN if name in FULL else 3 * MEAN)
    assert colours <= (MEAN if name in FULL else COLOURS)


@needs_cuda
def test_resizing_on_a_gpu_is_pillows() -> None:
    rng = np.random.default_rng(0)
    for size, shape in (
        ((375, 500), (224, 224)),
        ((3000, 2000), (416, 277)),
        ((90, 61), (224, 99)),
    ):
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        found = resize_exactly(torch.from_numpy(image).cuda().permute(2, 0, 1)[None], shape)
        assert found is not None
        np.testing.assert_array_equal(found[0].cpu().numpy(), resize_rgb(image, shape))


@needs_cuda
def test_extraction_that_decodes_on_a_gpu_agrees(project: Path) -> None:
    def dff(*arguments: str) -> Result:
        return run_dff(*arguments, "--project", str(project))

    assert dff("index").exit_code == 0
    expected = rows(project, dff, "--device", "cuda")
    edit(project, "decode: cpu", "decode: gpu")
    found = rows(project, dff, "--device", "cuda")
    again = rows(project, dff, "--device", "cuda")
    np.testing.assert_array_equal(found, again)
    relative = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    print(f"relative difference {relative:.5f}")
    assert relative < 0.1  # small pictures of saturated colours; photographs: benchmarks/gpu
