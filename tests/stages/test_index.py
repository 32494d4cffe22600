"""index: options of readers, collections that draw themselves, and the memory it takes."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import Result

from pipeline.params import PARAMS, ParamsError, read_params
from stages.artifacts.image_index import ImageIndex
from stages.datasets import READERS, FolderDataset, Reader
from stages.datasets.demo.reader import DemoOptions
from stages.datasets.folder import FolderOptions, IcosegOptions
from stages.datasets.voc import VocOptions
from stages.frame.errors import StageError
from stages.frame.execute import execute
from stages.frame.fingerprint import file_digest
from stages.frame.params import param
from stages.frame.resources import Resources
from stages.images.decode import ImageError, decode_resized, decode_rgb, verify, verify_bytes
from stages.index.params import OPTIONS, IndexParams
from stages.index.room import Room
from stages.index.stage import INDEX
from tools import draw, edit, message

Dff = Callable[..., Result]
MIB = 2**20


def index_of(project: Path, params: IndexParams, memory: int = 4 * 2**30) -> ImageIndex:
    path = execute(INDEX, params, project, Resources(workers=3, memory=memory))
    return ImageIndex.open(path, project)


# -- options of readers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("masks: masks", "index.masks: is an option of its own section now: write "
         "index.folder.masks or index.icoseg.masks"),
        ("split: trainval", "index.split: is an option of its own section now: write "
         "index.voc.split or index.pascal_part.split"),
        ("together: true", "write index.voc.together"),
        ("rot: x", "index.rot: unknown key, did you mean 'root'?"),
    ],
)  # fmt: skip
def test_a_key_of_an_older_file_says_where_it_belongs_now(
    project: Path, line: str, expected: str
) -> None:
    edit(project, "  sets: []", f"  {line}\n  sets: []")
    with pytest.raises(ParamsError) as raised:
        read_params(project)
    assert expected in str(raised.value)


def test_a_readers_options_are_a_section_of_its_name(project: Path) -> None:
    path = project / PARAMS
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    usual = {"masks": "masks", "parts": "parts", "whole": "", "void": -1}
    assert content["index"]["folder"] == usual
    options = {"masks": "m", "parts": "p", "whole": "w", "void": 255}
    content["index"] |= {"dataset": "icoseg", "icoseg": options}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert read_params(project)["index"].options == IcosegOptions("m", "p", "w", 255)
    content["index"] |= {"dataset": "voc", "voc": {"split": "test", "exclude": "all"}}
    content["index"]["voc"] |= {"together": False, "void": 255}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ParamsError, match=r"index\.voc\.exclude: 'all' is unknown, choose diff"):
        read_params(project)


def test_options_have_their_usual_values() -> None:
    assert IndexParams("icoseg").options.masks == "ground_truth"
    assert IndexParams().options == DemoOptions(24, 0)
    with pytest.raises(ValueError, match="dataset: voc takes VocOptions"):
        IndexParams("voc", FolderOptions())
    for wrong in ({"images": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="must"):
            DemoOptions(**wrong)


def test_the_index_says_how_it_was_read(tmp_path: Path, photographs: Path) -> None:
    folder = index_of(tmp_path, IndexParams("folder", root=str(photographs)))
    assert (folder.reader, folder.options) == ("folder", FolderOptions())
    assert (folder.split, folder.exclude, folder.together) == ("", "", False)
    for options, exclude in (
        (VocOptions(), "difficult_or_truncated"),
        (VocOptions(together=True), ""),
    ):
        index = ImageIndex(folder.images, {}, folder.failures, folder.dataset, "voc", options)
        assert (index.split, index.exclude) == ("trainval", exclude)
        assert index.together == options.together


def test_an_index_with_options_of_another_version_is_one_line(
    tmp_path: Path, photographs: Path
) -> None:
    index_of(tmp_path, IndexParams("folder", root=str(photographs)))
    record = tmp_path / INDEX.writes / "artifact.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    content["options"]["colours"] = 3
    record.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(StageError, match="made by another version; run `dff index`"):
        ImageIndex.open(tmp_path / INDEX.writes, tmp_path)


# -- collections that draw themselves --------------------------------------------------------


def test_the_demo_is_drawn_into_the_artifact(tmp_path: Path) -> None:
    params = IndexParams(options=DemoOptions(images=1, seed=7))
    index = index_of(tmp_path, params)
    assert len(index.names) == 5 and index.sets["deer"] == [1]
    assert index.dataset.root == tmp_path / INDEX.writes / "scenes"
    assert index.dataset.ground_truth(index.names[0], "car").parts
    assert INDEX.sources
    assert INDEX.sources(params, tmp_path) == "", "all that is drawn follows from its options"


@dataclass(frozen=True)
class SquaresOptions:
    side: int = param(40, "of the squares")


def draw_squares(root: Path, options: SquaresOptions) -> None:
    for i in range(3):
        draw(root / "squares" / f"{i}.png", i, (options.side, options.side))


def test_a_strangers_reader_works_once_it_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[SquaresOptions] = []

    def open_squares(root: Path, options: SquaresOptions) -> FolderDataset:
        opened.append(options)
        return FolderDataset(root)

    stranger: Any = Reader(SquaresOptions, open_squares, draw_squares)
    monkeypatch.setitem(READERS, "squares", stranger)  # type: ignore[arg-type]
    monkeypatch.setitem(OPTIONS, "squares", SquaresOptions)
    index = index_of(tmp_path, IndexParams("squares", SquaresOptions(48)))
    assert index.sizes.tolist() == 3 * [[48, 48]] and list(index.sets) == ["squares"]
    assert index.options == SquaresOptions(48) and set(opened) == {SquaresOptions(48)}


# -- pixels ----------------------------------------------------------------------------------


def test_pixels_of_an_image(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = index_of(tmp_path, IndexParams("folder", root=str(photographs)))
    data = (photographs / index.names[0]).read_bytes()
    np.testing.assert_array_equal(index.rgb(0), decode_rgb(data))
    np.testing.assert_array_equal(index.rgb_at(0, (20, 30)), decode_resized(data, (20, 30)))

    def broken(*_: object, **__: object) -> None:
        raise ImageError("truncated")

    for name, look in (("rgb", index.rgb), ("resized", lambda i: index.rgb_at(i, (20, 30)))):
        monkeypatch.setattr(f"stages.artifacts.image_index.decode_{name}", broken)
        with pytest.raises(StageError, match=r"discs/0\.png: truncated; it decoded when the index"):
            look(0)


# -- memory ----------------------------------------------------------------------------------


def test_bytes_of_a_check_are_those_that_pillow_takes(tmp_path: Path) -> None:
    """Of each format, per pixel; a JPEG is decoded at an eighth of its sides."""
    cases = {
        "rgb.png": ("RGB", 4), "grey.png": ("L", 1), "alpha.png": ("RGBA", 4), "bits.png": ("1", 1),
        "plain.jpg": ("RGB", 4 / 64), "grey.jpg": ("L", 1 / 64), "flat.bmp": ("RGB", 4),
        "own.webp": ("RGB", 16), "strips.tif": ("RGB", 8),
    }  # fmt: skip
    for name, (mode, per_pixel) in cases.items():
        Image.new(mode, (160, 80)).save(tmp_path / name)
        assert verify_bytes(tmp_path / name) == 160 * 80 * per_pixel, name
        assert verify_bytes((tmp_path / name).read_bytes()) == verify_bytes(tmp_path / name)
    Image.new("RGB", (160, 80)).save(tmp_path / "slow.jpg", progressive=True)
    assert verify_bytes(tmp_path / "slow.jpg") == 160 * 80 * (6 + 4 / 64)
    with pytest.raises(ImageError, match="not an image"):
        verify_bytes(b"no image")


def big_photographs(root: Path, sides: list[int]) -> Path:
    for i, side in enumerate(sides):
        path = root / "set" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side), (i, 9, 9)).save(path)
    return root


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> list[Room]:
    """Room for 200 kB of images, and how much of it was taken."""
    made: list[Room] = []

    def room(size: int) -> Room:
        made.append(Room(size))
        return made[-1]

    monkeypatch.setattr("stages.index.stage.Room", room)
    monkeypatch.setattr("stages.index.stage.LEAST_BYTES", 200_000)
    return made


def test_images_in_work_at_once_fit_the_budget(tmp_path: Path, rooms: list[Room]) -> None:
    root = big_photographs(tmp_path / "big", 8 * [200] + 4 * [60])  # 160 kB, 14 kB decoded
    index = index_of(tmp_path, IndexParams("folder", root=str(root)), memory=0)
    assert len(index.names) == 12
    (room,) = rooms
    assert room.size == 200_000 and 160_000 < room.most <= room.size


def test_an_image_that_does_not_fit_alone_is_refused(tmp_path: Path, rooms: list[Room]) -> None:
    root = big_photographs(tmp_path / "big", [60, 1000, 60])
    with pytest.raises(StageError) as raised:
        index_of(tmp_path, IndexParams("folder", root=str(root)), memory=0)
    line = str(raised.value)
    assert "set/1.png: checking it takes 4 MiB" in line and "leaves 0 MiB for images" in line
    assert not (tmp_path / INDEX.writes).exists(), "it is no failure of the image"
    index = index_of(tmp_path, IndexParams("folder", root=str(root)))
    assert len(index.names) == 3


def test_a_budget_is_for_the_whole_process(project: Path, photographs: Path, dff: Dff) -> None:
    assert dff("index", "--memory", "1MiB").exit_code == 0, "small photographs always fit"
    Image.new("RGB", (4000, 4000)).save(photographs / "images" / "discs" / "large.png")
    line = message(dff("index", "--memory", "1MiB"))
    assert "images/discs/large.png: checking it takes 61 MiB, --memory leaves 32 MiB" in line


# -- files that are known ----------------------------------------------------------------------


@pytest.fixture
def settled(photographs: Path) -> list[Path]:
    """All files of a collection, last changed long ago."""
    files = sorted(path for path in photographs.rglob("*") if path.is_file())
    for path in files:
        os.utime(path, (1e9, 1e9))
    return files


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the files that were decoded."""
    seen: list[int] = []
    monkeypatch.setattr(
        "stages.index.stage.verify", lambda content: (seen.append(len(content)), verify(content))[1]
    )
    return seen


def tables_of(project: Path) -> dict[str, bytes]:
    folder = project / "artifacts/index"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_only_files_that_are_new_are_read(
    project: Path,
    photographs: Path,
    settled: list[Path],
    dff: Dff,
    decoded: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert dff("index").exit_code == 0
    assert len(decoded) == 14
    decoded.clear()
    hashed: list[str] = []
    monkeypatch.setattr(
        "stages.index.stage.file_digest",
        lambda path: (hashed.append(path.name), file_digest(path))[1],
    )
    new = photographs / "images/discs/0a.png"
    draw(new, seed=5)
    (photographs / "images/discs/1.png").unlink()
    (photographs / "images/discs/2.png").rename(photographs / "images/discs/two.png")
    assert dff("index").exit_code == 0
    assert decoded == [new.stat().st_size]
    # the new one was changed just now, and is not remembered yet; the renamed one is not decoded
    assert sorted(hashed) == ["0a.png", "0a.png", "two.png"]
    grown = tables_of(project)
    decoded.clear()
    assert dff("index", "--no-reuse").exit_code == 0
    assert len(decoded) == 14
    assert tables_of(project) == grown


def test_contents_are_checked_on_demand(
    project: Path, photographs: Path, settled: list[Path], dff: Dff
) -> None:
    assert dff("index").exit_code == 0
    before = tables_of(project)
    path = photographs / "images/discs/3.png"
    content = bytearray(path.read_bytes())
    other = photographs / "images/discs/4.png"
    with path.open("r+b") as file:  # the same inode, size and time: nobody can tell
        file.write((other.read_bytes() + bytes(len(content)))[: len(content)])
    os.utime(path, (1e9, 1e9))
    assert dff("index").exit_code == 0
    assert tables_of(project) == before
    assert dff("index", "--no-reuse").exit_code == 0
    assert tables_of(project)["images.parquet"] != before["images.parquet"]
