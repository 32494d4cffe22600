"""The plain folder's reader before damaged files, odd folders and annotations of other images."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stages.datasets import DatasetError, FolderDataset

SIZE = (40, 60)
SQUARE = [[10, 5], [30, 5], [30, 15], [10, 15]]


def photograph(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1]).save(path)
    return path


def save(path: Path, values: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def stripes(*shape: int) -> NDArray[np.uint8]:
    values = np.zeros(shape, dtype=np.uint8)
    values[5:10], values[20:25] = 1, 2
    return values


def labelme(*shapes: dict[str, Any]) -> dict[str, Any]:
    return {"shapes": list(shapes), "imageHeight": SIZE[0], "imageWidth": SIZE[1]}


def plain(*polygons: dict[str, Any]) -> dict[str, Any]:
    return {"size_wh": [SIZE[1], SIZE[0]], "polygons": list(polygons)}


def test_a_name_that_is_not_utf8_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "s") + b"/\xff.jpg")).touch()
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    with pytest.raises(DatasetError, match=r"rename 's/\\udcff\.jpg'"):
        list(FolderDataset(tmp_path).images())


def test_missing_empty_and_imageless_folders(tmp_path: Path) -> None:
    for root, reason in ((tmp_path / "gone", "no such folder"), (tmp_path, "it is empty")):
        with pytest.raises(DatasetError, match=reason):
            list(FolderDataset(root).images())
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match="it holds 1 other files"):
        list(FolderDataset(tmp_path).images())


def test_a_folder_that_cannot_be_listed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photograph(tmp_path / "s" / "a.jpg")
    scandir = os.scandir

    def denied(path: Any) -> Any:
        if Path(path).name == "s":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DatasetError, match=r"s: cannot be listed \(Permission denied\)"):
        list(FolderDataset(tmp_path).images())


ODD_SHAPES: list[Any] = [
    [],
    7,
    {},
    {"shapes": 3, "imageHeight": SIZE[0], "imageWidth": SIZE[1]},
    {"shapes": [], "imageHeight": None, "imageWidth": 3},
    {"shapes": [], "imageHeight": float("inf"), "imageWidth": 3},
    {"shapes": [], "imageHeight": 10**12, "imageWidth": 10**12},
    {"size_wh": [SIZE[0], SIZE[1]], "polygons": []},
    {"size_wh": [], "polygons": []},
    plain({"label": "arm", "points_xy": [[1, 2, 3, 4]]}),
    plain({"label": "arm", "points_xy": [[1, 2], [3, 4]]}),
    plain({"label": "arm", "points_xy": [[1, 2], [3, 4], [float("nan"), 5]]}),
    plain({"label": "arm", "points_xy": [[1, 2], [3, 4], [1e300, 5]]}),
    plain({"label": "arm", "points_xy": "points"}),
    labelme({"points": SQUARE}),
    labelme({"label": "eye", "points": [[1, 2], [3, 4]], "shape_type": "linestrip"}),
    labelme({"label": "eye", "points": [], "shape_type": "rectangle"}),
]


@pytest.mark.parametrize("content", ODD_SHAPES, ids=[str(i) for i in range(len(ODD_SHAPES))])
def test_damaged_polygons(tmp_path: Path, content: Any) -> None:
    photograph(tmp_path / "s" / "a.jpg")
    write_json(tmp_path / "parts" / "s" / "a.json", content)
    with pytest.raises(DatasetError, match=r"a\.json: (not readable polygons|annotates)"):
        FolderDataset(tmp_path).ground_truth("s/a.jpg", "s")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\xfa", b"[" * 100_000])
def test_files_that_are_not_json(tmp_path: Path, content: bytes) -> None:
    photograph(tmp_path / "s" / "a.jpg")
    save(tmp_path / "parts" / "s" / "a.png", stripes(*SIZE))
    dataset = FolderDataset(tmp_path)
    with pytest.raises(DatasetError, match=r"parts\.json: must name the values of a\.png"):
        dataset.ground_truth("s/a.jpg", "s")
    for name in ("parts.json", "a.json"):
        (tmp_path / "parts" / "s" / name).write_bytes(content)
        with pytest.raises(DatasetError, match=name):
            FolderDataset(tmp_path).ground_truth("s/a.jpg", "s")
        write_json(tmp_path / "parts" / "s" / name, {"1": "head"})


@pytest.mark.parametrize("legend", [["head"], {"one": "head"}, "head", None])
def test_a_legend_of_another_form(tmp_path: Path, legend: Any) -> None:
    photograph(tmp_path / "s" / "a.jpg")
    save(tmp_path / "parts" / "s" / "a.png", stripes(*SIZE))
    write_json(tmp_path / "parts" / "parts.json", legend)
    with pytest.raises(DatasetError, match="must name the values"):
        FolderDataset(tmp_path).ground_truth("s/a.jpg", "s")


@pytest.mark.parametrize("where", ["masks/s/a.png", "parts/s/a.png", "parts/s/a/head.png"])
def test_damaged_annotation_images(tmp_path: Path, where: str) -> None:
    photograph(tmp_path / "s" / "a.jpg")
    write_json(tmp_path / "parts" / "parts.json", {"1": "head"})
    path = save(tmp_path / where, stripes(*SIZE))
    content = path.read_bytes()
    dataset = FolderDataset(tmp_path)
    damages = [b"", b"GIF89a", content[:20], content[: len(content) // 2]]
    damages += [content[:40] + bytes(20) + content[60:], b"%!PS-Adobe-3.0 EPSF-3.0\n"]
    for damage in damages:
        path.write_bytes(damage)
        assert [image.name for image in dataset.images()] == ["s/a.jpg"]
        with pytest.raises(DatasetError, match=rf"{path.name}: not a readable annotation image"):
            dataset.ground_truth("s/a.jpg", "s")
    save(path, stripes(40, 59))
    with pytest.raises(DatasetError, match=r"annotates 59x40 pixels, the image has 60x40"):
        dataset.ground_truth("s/a.jpg", "s")


def test_an_indexed_image_in_colour_is_refused(tmp_path: Path) -> None:
    photograph(tmp_path / "s" / "a.jpg")
    save(tmp_path / "parts" / "s" / "a.png", stripes(*SIZE, 3))
    with pytest.raises(DatasetError, match="stores colours"):
        FolderDataset(tmp_path).ground_truth("s/a.jpg", "s")


def test_annotations_of_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    path = photograph(tmp_path / "s" / "a.jpg")
    save(tmp_path / "masks" / "s" / "a.png", stripes(*SIZE))
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"a\.jpg: its size cannot be read \(0 bytes\)"):
        FolderDataset(tmp_path).ground_truth("s/a.jpg", "s")
