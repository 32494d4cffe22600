"""`dff export`: every format, read back by its own library where there is a light one."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from torchvision.datasets import VOCSegmentation

from drawn import LAYER, XML, Drawn
from pipeline.init import write_params
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.image_index import ImageIndex
from stages.datasets.folder import FolderOptions
from stages.datasets.voc import VocOptions
from stages.export.formats import EXPORTERS
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.index.params import IndexParams
from stages.index.stage import INDEX
from store import open_artifact
from tools import copied, edit, run_dff

# of pycocotools, which was made for an older numpy
OLDER = "ignore:__array__ implementation:DeprecationWarning"
pytestmark = [pytest.mark.xdist_group("export"), pytest.mark.filterwarnings(OLDER)]

MAP, SIZE = (48, 64), (72, 96)  # (height, width) of maps and photographs
HOSTILE = {
    "cow": ["<script>alert('x')</script>", '../../no "quoted" \U0001f404'],
    "horse": ["no", "1e3"],
}
Found = dict[tuple[str, str], np.ndarray]  # (image name, concept) -> mask
EXACT = ("coco", "voc", "masks")


def sheet(*boxes: tuple[int, int, int, int]) -> list[str]:
    """A map whose mask is some rectangles (top, left, bottom, right)."""
    inside = np.zeros(MAP, bool)
    for top, left, bottom, right in boxes:
        inside[top:bottom, left:right] = True
    return ["".join("#" if cell else "." for cell in row) for row in inside]


# (stem of the image) -> one sheet per factor; of "3" the second factor is nowhere
SHEETS = {
    "1": [sheet((2, 3, 20, 30)), sheet((25, 3, 45, 40))],
    "2": [sheet((0, 0, 15, 20), (30, 40, 48, 64)), sheet((16, 25, 28, 60), (17, 2, 19, 4))],
    "3": [sheet((10, 10, 40, 50)), sheet()],
}


@dataclass(frozen=True)
class Made:
    """A project that was run."""

    project: Path
    index: ImageIndex
    maps: ConceptMaps

    def expected(self, names: dict[str, list[str]]) -> Found:
        """The masks of all images at their own size; concepts of one name united."""
        found: Found = {}
        for of, entries in self.maps.artifact.sets.items():
            for entry in entries.tolist():
                image = int(self.maps.maps.image_ids[entry])
                masks = self.maps.masks(entry, self.index.size(image))
                for factor, mask in enumerate(masks):
                    key = self.index.names[image], names[of][factor]
                    found[key] = found[key] | mask if key in found else mask
        return found

    def export(self, out: Path, format: str, *options: str) -> Path:
        """`dff export`, which must succeed."""
        result = run_dff(
            "export", "--format", format, "--project", str(self.project), "--out", str(out),
            "--workers", "2", *options,
        )  # fmt: skip
        assert result.exit_code == 0, (result.output, result.exception)
        return out


def _publish(root: Path, dataset: str, options: FolderOptions | VocOptions) -> Path:
    project, beside = root.parent / "project", f"../{root.name}"
    project.mkdir()
    write_params(project, str(root), None, backbone="demo", weights="bundled", layers=["conv4_2"])
    edit(project, f"root: {root}", f"root: {beside}")
    execute(INDEX, IndexParams(dataset, options, root=beside), project, Resources())
    index = ImageIndex.open(project / INDEX.writes, project)
    stems = list(SHEETS)
    maps = {
        (of, index.names[i]): SHEETS.get(Path(index.names[i]).stem, SHEETS[stems[i % 3]])
        for of, ids in index.sets.items()
        for i in ids
    }
    Drawn(project, [(2, 0, 0), (2, 0, 1)], maps).publish()
    return project


def _opened(project: Path) -> Made:
    artifact = open_artifact(project / "artifacts/refined.zarr")
    index = ImageIndex.open(project / INDEX.writes, project)
    return Made(project, index, ConceptMaps(artifact, LAYER))


def _photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1], (90, 120, 60)).save(path)


def _label(project: Path, names: dict[str, list[Any]]) -> None:
    content = {"layer": LAYER, "sets": {of: {2: factors} for of, factors in names.items()}}
    text = yaml.safe_dump(content, allow_unicode=True)
    (project / "labels.yaml").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def published_voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two sets") / "VOC2007"
    shown = {"1": ["cow"], "2": ["cow", "horse"], "3": ["horse"]}
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (root / "Annotations").mkdir()
    for stem, classes in shown.items():
        _photograph(root / "JPEGImages" / f"{stem}.jpg")
        text = "".join(XML.format(name=n, difficult=0, box=(1, 1, 4, 4)) for n in classes)
        (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{text}</annotation>")
    for of in ("cow", "horse"):
        lines = (f"{stem} {1 if of in classes else -1}" for stem, classes in shown.items())
        (lists / f"{of}_trainval.txt").write_text("\n".join(lines) + "\n")
    return _publish(root, "voc", VocOptions())


@pytest.fixture
def two_sets(published_voc: Path, tmp_path: Path) -> Made:
    """VOC's layout: image 2 shows a cow and a horse, and is in both sets."""
    return _opened(copied(published_voc, tmp_path))


@pytest.fixture(scope="module")
def published_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folders") / "photographs"
    for name in (
        "herd/1.png", "herd/2.png", "herd/2.jpg", 'a "b" <script>/1.png', "no/1e3.png",
        "no/\U0001f404 it's.png", "no/%2e%2e.png", f"no/{'x' * 240}.png", "no/CON .png",
    ):  # fmt: skip
        _photograph(root / "images" / name)
    return _publish(root, "folder", FolderOptions())


@pytest.fixture
def folders(published_folder: Path, tmp_path: Path) -> Made:
    """A plain folder whose names are unusual; images of one stem in one folder and in two."""
    return _opened(copied(published_folder, tmp_path))


# -- reading back ----------------------------------------------------------------------------------


def _coco(out: Path, made: Made) -> Found:
    data = COCO(str(out / "instances.json"))
    found: Found = {}
    for one in data.dataset["annotations"]:
        image, category = data.imgs[one["image_id"]], data.cats[one["category_id"]]
        mask = data.annToMask(one).astype(bool)
        left, top, width, height = one["bbox"]
        assert mask[top : top + height, left : left + width].sum() == mask.sum()
        if isinstance(one["segmentation"], dict):
            assert one["area"] == mask.sum()
        key = image["file_name"], category["name"]
        found[key] = found[key] | mask if key in found else mask
    return found


def _drawn(size: tuple[int, int], points: list[tuple[float, float]]) -> np.ndarray:
    """A polygon filled and its line drawn, as labelme's `shape_to_mask` and cv2.fillPoly do."""
    canvas = Image.new("1", size[::-1])
    ImageDraw.Draw(canvas).polygon(points, outline=1, fill=1)
    return np.array(canvas)


def _yolo(out: Path, made: Made) -> Found:
    """As YOLO's loaders do: corners times the image's size, cut to whole pixels, then filled."""
    names = yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))["names"]
    root = made.index.dataset.root.resolve()
    found: Found = {}
    for image in sorted((out / "images").iterdir()):
        name = image.resolve().relative_to(root).as_posix()
        lines = (out / "labels" / f"{image.stem}.txt").read_text().splitlines()
        for line in lines:
            category, *numbers = line.split()
            corners = np.array(numbers, float).reshape(-1, 2)
            assert len(corners) >= 3 and corners.min() >= 0 and corners.max() <= 1
            with Image.open(image) as opened:
                pixels = (corners * opened.size).astype(int)
                mask = _drawn(opened.size[::-1], [tuple(p) for p in pixels.tolist()])
            key = name, names[int(category)]
            found[key] = found[key] | mask if key in found else mask
    assert len(list((out / "labels").iterdir())) == len(made.index.names)
    return found


def _voc(out: Path, made: Made) -> Found:
    data = VOCSegmentation(str(out.parents[1]), year="2012", image_set="trainval")
    classes = json.loads((out / "classes.json").read_text(encoding="utf-8"))
    found: Found = {}
    for i in range(len(data)):
        image, target = data[i]
        values = np.array(target)
        assert image.size == target.size and target.mode == "P"
        annotation = ElementTree.parse(out / "Annotations" / f"{Path(data.images[i]).stem}.xml")
        name = annotation.findtext("source/image")
        for value in set(np.unique(values).tolist()) - {0}:
            found[name, classes[str(value)]] = values == value
        boxed = {one.text for one in annotation.iterfind("object/name")}
        assert boxed >= {concept for of, concept in found if of == name}
    return found


def _labelme(out: Path, made: Made) -> Found:
    """By the rules of labelme 6.3's own reader, which needs Qt and more to be installed."""
    found: Found = {}
    files = sorted((out / "parts").rglob("*.json"))
    assert len(files) == len(made.index.names)
    for path in files:
        content = json.loads(path.read_text(encoding="utf-8"))
        photograph = (path.parent / content["imagePath"]).resolve()
        assert content["imageData"] is None and content["flags"] == {}
        with Image.open(photograph) as image:
            assert image.size == (content["imageWidth"], content["imageHeight"])
        name = photograph.relative_to(made.index.dataset.root.resolve()).as_posix()
        for shape in content["shapes"]:
            assert set(shape) == {
                "label", "points", "group_id", "shape_type", "flags", "description", "mask"
            }  # fmt: skip
            assert shape["shape_type"] == "polygon" and len(shape["points"]) > 2
            assert all(isinstance(v, float) for point in shape["points"] for v in point)
            mask = _drawn(image.size[::-1], [tuple(p) for p in shape["points"]])
            key = name, shape["label"]
            found[key] = found[key] | mask if key in found else mask
    return found


def _masks(out: Path, made: Made) -> Found:
    table = pd.read_csv(out / "masks.csv", keep_default_na=False)
    found: Found = {}
    for image, concept, file in table.itertuples(index=False):
        assert (out / file).resolve().is_relative_to(out.resolve())
        with Image.open(out / file) as opened:
            values = np.array(opened)
        assert set(np.unique(values).tolist()) <= {0, 255}
        found[image, concept] = values == 255
    return found


def _csv(out: Path, made: Made) -> Found:
    """Boxes as masks: filled, their components are the maps' rectangles."""
    text = {"image": str, "concept": str}
    table = pd.read_csv(out / "components.csv", dtype=text, keep_default_na=False)
    found: Found = {}
    for row in table.to_dict("records"):
        key = row["image"], row["concept"]
        box = found.setdefault(key, np.zeros(SIZE, bool))
        box[row["top"] : row["bottom"], row["left"] : row["right"]] = True
    return found


READ_BACK: dict[str, Callable[[Path, Made], Found]] = {
    "coco": _coco, "yolo": _yolo, "voc": _voc, "labelme": _labelme, "masks": _masks, "csv": _csv,
}  # fmt: skip


def iou(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0


def _compare(found: Found, expected: Found, format: str) -> None:
    shown = {key: mask for key, mask in expected.items() if mask.any()}
    assert {key for key, mask in found.items() if mask.any()} == set(shown)
    for key, mask in shown.items():
        if format in EXACT:
            np.testing.assert_array_equal(found[key], mask)
        else:
            assert iou(found[key], mask) >= 0.95, key
    if format == "masks":
        assert set(found) == set(expected), "an empty mask is a file too"


def test_every_format_is_read_back() -> None:
    assert set(READ_BACK) == set(EXPORTERS)


@pytest.fixture(params=EXPORTERS)
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where torchvision looks for VOC."""
    return tmp_path / "out" / "VOCdevkit" / "VOC2012"


def test_masks_and_hostile_names_survive(two_sets: Made, out: Path, format: str) -> None:
    _label(two_sets.project, HOSTILE)
    two_sets.export(out, format, "--least-area", "0")
    expected = two_sets.expected(HOSTILE)
    assert len({image for image, _ in expected}) == 3
    if format == "voc":  # one class a pixel: both sets have the same maps here, the first one wins
        expected = {key: mask for key, mask in expected.items() if _first(key, expected)}
    _compare(READ_BACK[format](out, two_sets), expected, format)


def _first(key: tuple[str, str], masks: Found) -> bool:
    image, concept = key
    return concept in HOSTILE["cow"] or (image, HOSTILE["cow"][0]) not in masks


def test_images_of_unusual_names_stay_apart(folders: Made, out: Path, format: str) -> None:
    names = {of: [f"{of}/2/{factor}" for factor in (0, 1)] for of in folders.index.sets}
    folders.export(out, format, "--least-area", "0")
    assert len(folders.index.names) == 9
    _compare(READ_BACK[format](out, folders), folders.expected(names), format)
    inside = out.resolve()
    for path in out.rglob("*"):
        assert path.parent.resolve().is_relative_to(inside)
    assert not (out.parent / ".staging").exists()


def test_factors_of_one_name_are_a_union_and_background_is_none(
    two_sets: Made, out: Path, format: str
) -> None:
    names = {"cow": ["animal", "animal"], "horse": ["animal", "background"]}
    _label(two_sets.project, names)
    two_sets.export(out, format, "--least-area", "0")
    expected = two_sets.expected(names)
    united = {key: mask for key, mask in expected.items() if key[1] == "animal"}
    record = json.loads((out / "export.json").read_text())
    assert record["categories"] == ["animal"] and record["format"] == format
    if format == "csv":  # touching components: boxes are not the mask
        assert set(_csv(out, two_sets)) == set(united)
    else:
        _compare(READ_BACK[format](out, two_sets), united, format)


@pytest.mark.parametrize("format", ["labelme", "masks"])
def test_dataset_folder_reads_it_as_ground_truth(
    folders: Made, tmp_path: Path, format: str
) -> None:
    names = {of: ["head \U0001f404", "no"] for of in folders.index.sets}
    _label(folders.project, names)
    out = folders.export(tmp_path / "out", format, "--least-area", "0")
    root = folders.index.dataset.root
    shutil.copytree(out / "parts", root / "parts")
    params = IndexParams("folder", FolderOptions(), root=str(root))
    execute(INDEX, params, tmp_path / "again", Resources())
    again = ImageIndex.open(tmp_path / "again" / INDEX.writes, tmp_path / "again").dataset
    expected = folders.expected(names)
    for name in ("images/herd/1.png", 'images/a "b" <script>/1.png', "images/no/1e3.png"):
        parts = again.ground_truth(name, "any").parts
        for concept in names["no"]:
            mask = expected[name, concept]
            assert (concept in parts) or not mask.any()
            assert iou(parts.get(concept, np.zeros(SIZE, bool)), mask) >= 0.95
            if format == "masks":
                np.testing.assert_array_equal(parts[concept], mask)
