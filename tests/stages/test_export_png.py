"""stages.export.png: what Pillow, and any other program, reads back."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.export.png import write_png


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (33, 70)])
@pytest.mark.parametrize("flat", [False, True])
def test_what_was_written_is_read(
    tmp_path: Path, dtype: type, size: tuple[int, int], flat: bool
) -> None:
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)
    write_png(tmp_path / "a.png", values, flat=flat)
    with Image.open(tmp_path / "a.png") as image:
        image.verify()  # checksums of all chunks
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == {np.uint8: "L", np.uint16: "I;16"}[dtype]
        assert np.array_equal(np.asarray(image), values)


def test_an_array_need_not_be_contiguous(tmp_path: Path) -> None:
    values = np.arange(600, dtype=np.uint16).reshape(20, 30)
    write_png(tmp_path / "a.png", values.T[::2])
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), values.T[::2])


def test_files_are_not_larger_than_pillows(tmp_path: Path) -> None:
    y, x = np.mgrid[:375, :500].astype(np.float64)
    heat = 0.5 + 0.5 * np.sin(x / 60) * np.cos(y / 45)
    for name, values, flat in (
        ("heat", np.rint(heat * 65535).astype(np.uint16), False),
        ("mask", np.uint8(255) * (heat > 0.6), True),
    ):
        write_png(tmp_path / f"{name}.png", values, flat=flat)
        Image.fromarray(values).save(tmp_path / "pillow.png", compress_level=1)
        ours, pillows = ((tmp_path / f"{one}.png").stat().st_size for one in (name, "pillow"))
        assert ours < pillows
