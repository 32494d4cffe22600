"""The plain folder's layouts, one by one, and what people's folders really hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stages.datasets import FolderDataset, open_dataset
from stages.datasets.folder import FolderOptions

SIZE = (40, 60)


def photograph(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1]).save(path)
    return path


def save(path: Path, values: NDArray[Any], mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if mode == "P":
        image.putpalette([(i * 37) % 256 for i in range(768)])
    (image if mode == "P" else image.convert(mode)).save(path)
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def found(dataset: FolderDataset) -> dict[str, tuple[str, ...]]:
    return {image.name: image.sets for image in dataset.images()}


def values_1_2_3() -> NDArray[np.uint8]:
    values = np.zeros(SIZE, dtype=np.uint8)
    values[5:10, :20], values[10:20, :20], values[20:25, 5:15] = 1, 2, 3
    return values


@pytest.mark.parametrize("below", ["", "images/"])
def test_the_first_folder_is_the_set(tmp_path: Path, below: str) -> None:
    root = tmp_path / "zoo"
    names = ["horse/b.jpg", "horse/a.PNG", "cow/deep/er/c.jpeg", "loose.bmp"]
    for name in names:
        photograph(root / below / name)
    (root / below / "horse" / "notes.txt").touch()
    dataset = FolderDataset(root)
    assert found(dataset) == {
        f"{below}cow/deep/er/c.jpeg": ("cow",),
        f"{below}horse/a.PNG": ("horse",),
        f"{below}horse/b.jpg": ("horse",),
        f"{below}loose.bmp": ("zoo",),
    }
    assert [image.name for image in dataset.images()] == sorted(found(dataset))
    assert all(dataset.image_path(name).is_file() for name in found(dataset))


def test_with_an_images_folder_nothing_else_is_an_image(tmp_path: Path) -> None:
    photograph(tmp_path / "images" / "horse" / "a.jpg")
    photograph(tmp_path / "thumbnails" / "horse" / "a.jpg")
    assert list(found(FolderDataset(tmp_path))) == ["images/horse/a.jpg"]


def test_annotation_and_hidden_files_are_not_images(tmp_path: Path) -> None:
    for name in ("s/a.png", "s/._a.png", ".thumbs/x.png", "s/.cache/x.png"):
        photograph(tmp_path / name)
    for name in ("masks/s/a.png", "parts/s/a.png", "parts/s/a/head.png"):
        photograph(tmp_path / name)
    assert list(found(FolderDataset(tmp_path))) == ["s/a.png"]


def test_without_annotation_folders_every_folder_is_a_set(tmp_path: Path) -> None:
    for name in ("a.png", "masks/a.png", "parts/a/head.png"):
        photograph(tmp_path / name)
    dataset = FolderDataset(tmp_path, FolderOptions(masks="", parts=""))
    assert list(found(dataset)) == ["a.png", "masks/a.png", "parts/a/head.png"]
    assert dataset.ground_truth("a.png", "any").empty


def test_symlinks_are_followed_into_no_folder_twice(tmp_path: Path) -> None:
    root = tmp_path / "root"
    photograph(root / "s" / "a.jpg")
    photograph(tmp_path / "elsewhere" / "b.jpg")
    (root / "s" / "up").symlink_to(root)
    (root / "s" / "self").symlink_to(root / "s")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    assert found(FolderDataset(root)) == {"linked/b.jpg": ("linked",), "s/a.jpg": ("s",)}


@pytest.mark.parametrize(
    "name",
    [
        "two words",
        'o\'clock "now"',
        "Überfluß 写真",
        "<script>alert(1)<",
        "a.b.c",
        "#1%20?&",
        "[x]*",
    ],
)
def test_odd_names_are_kept_as_they_are(tmp_path: Path, name: str) -> None:
    photograph(tmp_path / "images" / name / f"{name}.jpg")
    save(tmp_path / "masks" / name / f"{name}.png", values_1_2_3())
    save(tmp_path / "parts" / name / name / f"{name}.png", values_1_2_3() == 1)
    dataset = FolderDataset(tmp_path)
    assert found(dataset) == {f"images/{name}/{name}.jpg": (name,)}
    truth = dataset.ground_truth(f"images/{name}/{name}.jpg", name)
    assert truth.whole is not None
    assert truth.whole.sum() == np.count_nonzero(values_1_2_3())
    assert {part: mask.sum() for part, mask in truth.parts.items()} == {name: 100}


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGB", "RGBA", "LA", "I;16"])
def test_non_zero_pixels_of_a_mask_are_the_object(tmp_path: Path, mode: str) -> None:
    photograph(tmp_path / "images" / "s" / "a.jpg")
    drawn = values_1_2_3() > 0
    path = tmp_path / "masks" / "s" / "a.png"
    if mode == "I;16":
        path.parent.mkdir(parents=True)
        Image.fromarray(drawn.astype(np.uint16) * 300).save(path)
    else:
        save(path, drawn if mode == "P" else 255 * drawn, mode)
    dataset = FolderDataset(tmp_path)
    assert dataset.annotation_files("images/s/a.jpg") == [path]
    truth = dataset.ground_truth("images/s/a.jpg", "s")
    assert truth.whole is not None
    assert truth.whole.dtype == np.bool_
    assert np.array_equal(truth.whole, drawn)


def test_a_nearly_black_colour_is_not_zero(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg")
    blue = np.zeros((*SIZE, 3), dtype=np.uint8)
    blue[:5, :, 2] = 1
    save(tmp_path / "masks" / "a.png", blue, "RGB")
    whole = FolderDataset(tmp_path).ground_truth("a.jpg", "any").whole
    assert whole is not None
    assert whole.sum() == 5 * SIZE[1]


def test_parts_as_a_folder_of_masks(tmp_path: Path) -> None:
    photograph(tmp_path / "s" / "a.jpg")
    values = values_1_2_3()
    save(tmp_path / "parts" / "s" / "a" / "head.png", 255 * (values == 1))
    save(tmp_path / "parts" / "s" / "a" / "left leg.png", 255 * (values == 2))
    (tmp_path / "parts" / "s" / "a" / "._head.png").write_bytes(b"not an image")
    truth = FolderDataset(tmp_path).ground_truth("s/a.jpg", "s")
    assert list(truth.parts) == ["head", "left leg"]
    assert np.array_equal(truth.parts["left leg"], values == 2)
    assert truth.whole is not None
    assert np.array_equal(truth.whole, (values == 1) | (values == 2))


@pytest.mark.parametrize("legend", ["parts/s/parts.json", "parts/parts.json"])
@pytest.mark.parametrize("name", ["s/a.jpg", "s/s.jpg"])
def test_parts_as_one_indexed_image(tmp_path: Path, legend: str, name: str) -> None:
    photograph(tmp_path / name)
    indexed = save(tmp_path / "parts" / Path(name).with_suffix(".png"), values_1_2_3(), "P")
    names = {"0": "background", "1": "Flügel", "2": "head", "3": "Flügel", "9": "absent"}
    written = write_json(tmp_path / legend, names)
    dataset = FolderDataset(tmp_path)
    assert dataset.annotation_files(name) == [indexed, written]
    truth = dataset.ground_truth(name, "s")
    assert list(truth.parts) == ["Flügel", "head"]
    assert np.array_equal(truth.parts["Flügel"], np.isin(values_1_2_3(), (1, 3)))
    assert truth.whole is not None
    assert np.array_equal(truth.whole, values_1_2_3() > 0)


def labelme(*shapes: dict[str, Any]) -> dict[str, Any]:
    return {"shapes": list(shapes), "imageHeight": SIZE[0], "imageWidth": SIZE[1]}


def plain(*polygons: dict[str, Any]) -> dict[str, Any]:
    return {"size_wh": [SIZE[1], SIZE[0]], "polygons": list(polygons)}


SQUARE = [[10, 5], [30, 5], [30, 15], [10, 15]]  # x from 10 to 30, y from 5 to 15
FAR_SQUARE = [[50, 30], [70, 30], [70, 99], [50, 99]]  # reaches out of the image


@pytest.mark.parametrize(
    "content",
    [
        labelme({"label": "arm", "points": SQUARE}, {"label": "arm", "points": FAR_SQUARE}),
        labelme(
            {"label": "arm", "points": [[30, 15], [10, 5]], "shape_type": "rectangle"},
            {"label": "arm", "points": FAR_SQUARE, "shape_type": "polygon"},
        ),
        plain({"label": "arm", "points_xy": SQUARE}, {"label": "arm", "points_xy": FAR_SQUARE}),
    ],
)
def test_parts_as_polygons(tmp_path: Path, content: dict[str, Any]) -> None:
    photograph(tmp_path / "s" / "a.jpg")
    written = write_json(tmp_path / "parts" / "s" / "a.json", content)
    dataset = FolderDataset(tmp_path)
    assert dataset.annotation_files("s/a.jpg") == [written]
    arm = dataset.ground_truth("s/a.jpg", "s").parts["arm"]
    assert arm.shape == SIZE
    assert arm[6:15, 11:30].all()
    assert arm[31:, 51:].all()
    assert not arm[:5].any()
    assert not arm[17:29].any()
    assert not arm[:20, :9].any()


def test_one_part_may_be_the_whole(tmp_path: Path) -> None:
    photograph(tmp_path / "s" / "a.jpg")
    shapes = [{"label": "full", "points": SQUARE}, {"label": "", "points": FAR_SQUARE}]
    write_json(tmp_path / "parts" / "s" / "a.json", labelme(*shapes))
    named = FolderDataset(tmp_path, FolderOptions(whole="full")).ground_truth("s/a.jpg", "s")
    assert list(named.parts) == [""]
    assert named.whole is not None
    assert not named.whole[31:].any()
    assert list(FolderDataset(tmp_path).ground_truth("s/a.jpg", "s").parts) == ["full", ""]
    save(tmp_path / "masks" / "s" / "a.png", np.zeros(SIZE))
    masked = FolderDataset(tmp_path, FolderOptions(whole="full")).ground_truth("s/a.jpg", "s")
    assert masked.whole is not None
    assert not masked.whole.any(), "a mask says more than a part"


def test_an_annotation_of_nothing_is_an_empty_mask(tmp_path: Path) -> None:
    photograph(tmp_path / "s" / "a.jpg")
    photograph(tmp_path / "s" / "b.jpg")
    write_json(tmp_path / "parts" / "s" / "a.json", labelme())
    save(tmp_path / "parts" / "s" / "b.png", np.zeros(SIZE))
    write_json(tmp_path / "parts" / "parts.json", {"1": "head"})
    for name in ("s/a.jpg", "s/b.jpg"):
        truth = FolderDataset(tmp_path).ground_truth(name, "s")
        assert truth.whole is not None
        assert truth.whole.shape == SIZE
        assert not truth.whole.any()
        assert not truth.parts


def test_icoseg_has_its_masks_in_ground_truth(tmp_path: Path) -> None:
    photograph(tmp_path / "images" / "bear" / "1.jpg")
    mask = save(tmp_path / "ground_truth" / "bear" / "1.png", values_1_2_3())
    dataset = open_dataset("icoseg", tmp_path, {})
    assert dataset.annotation_files("images/bear/1.jpg") == [mask]
