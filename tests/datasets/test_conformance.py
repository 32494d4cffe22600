"""What holds for every dataset reader: one line in `COLLECTIONS` each."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from stages.datasets import READERS, Dataset, DatasetError, open_dataset
from stages.datasets.demo.scenes import DEMO_SETS

SIZES = {"000001": (40, 60), "000002": (64, 48), "000003": (33, 35)}  # id -> height, width
BOX = "<xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>30</ymax>"


@dataclass(frozen=True)
class Collection:
    """How to write a small collection that a reader reads.

    Attributes
    ----------
    write : callable
        ``write(root)`` makes it and returns the annotation file to damage; it belongs to an image.
    options : dict
        To open it with; the defaults when empty.
    kinds : set
        What the annotations hold: whole, parts, boxes.
    sizes : dict
        (height, width) by the images' names without folder and suffix.
    """

    reader: str
    write: Callable[[Path], Path]
    kinds: set[str]
    options: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=lambda: SIZES)

    def open(self, root: Path) -> Dataset:
        return open_dataset(self.reader, root, self.options)


def photograph(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (90, 120, 30)).save(path)


def half(size: tuple[int, int], value: int = 255) -> NDArray[np.uint8]:
    values = np.zeros(size, dtype=np.uint8)
    values[: size[0] // 2] = value
    return values


def save(path: Path, values: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def write_masks(root: Path, masks: str = "masks") -> Path:
    for image_id, size in SIZES.items():
        photograph(root / "images" / "horse" / f"{image_id}.jpg", size)
        path = save(root / masks / "horse" / f"{image_id}.png", half(size))
    return path


def write_part_masks(root: Path) -> Path:
    for image_id, size in SIZES.items():
        photograph(root / "horse" / f"{image_id}.jpg", size)
        for part in ("head", "leg"):
            path = save(root / "parts" / "horse" / image_id / f"{part}.png", half(size))
    return path


def write_indexed(root: Path) -> Path:
    for image_id, size in SIZES.items():
        photograph(root / "horse" / f"{image_id}.jpg", size)
        path = save(root / "parts" / "horse" / f"{image_id}.png", half(size, 1))
    (root / "parts" / "parts.json").write_text('{"1": "head", "2": "leg"}')
    return path


def write_labelme(root: Path) -> Path:
    for image_id, (height, width) in SIZES.items():
        photograph(root / "horse" / f"{image_id}.jpg", (height, width))
        shape = {"label": "head", "points": [[0, 0], [9, 0], [9, 9]], "shape_type": "polygon"}
        content = {"shapes": [shape], "imageHeight": height, "imageWidth": width}
        path = root / "parts" / "horse" / f"{image_id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return path


def write_voc(root: Path) -> Path:
    """A year with the classes dog (all images) and horse (the first two), in reverse order."""
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    objects = "".join(
        f"<object><name>{name}</name><pose>Left</pose><truncated>0</truncated>"
        f"<difficult>0</difficult><bndbox>{BOX}</bndbox></object>"
        for name in ("dog", "horse")
    )
    for image_id, size in SIZES.items():
        photograph(root / "JPEGImages" / f"{image_id}.jpg", size)
        path = root / "Annotations" / f"{image_id}.xml"
        path.write_text(f"<annotation><folder>VOC2007</folder>{objects}</annotation>")
        save(root / "SegmentationClass" / f"{image_id}.png", half(size, 12))
    main = root / "ImageSets" / "Main"
    (main / "dog_trainval.txt").write_text("000003  1\n000002  1\n000001  1\n")
    (main / "horse_trainval.txt").write_text("000003 -1\n000002  1\n000001  1\n")
    (main / "trainval.txt").write_text("000001\n000002\n000003\n")
    return path


def struct(*records: dict[str, Any]) -> NDArray[Any]:
    """A 1 x n struct array; ``[]`` for no records."""
    if not records:
        return np.zeros((0, 0))
    array = np.empty((1, len(records)), dtype=[(name, object) for name in records[0]])
    for i, record in enumerate(records):
        array[0, i] = tuple(record.values())
    return array


def write_pascal_part(root: Path) -> Path:
    """Several objects and parts; one object with one part; one object without parts."""
    write_voc(root / "VOCdevkit" / "VOC2010")
    (root / "Annotations_Part").mkdir()
    for image_id, size in SIZES.items():
        mask = (half(size) > 0).astype(np.uint8)
        parts = [{"part_name": name, "mask": mask} for name in ("lfleg", "rfleg", "head")]
        parts = parts[: {"000001": 3, "000002": 1, "000003": 0}[image_id]]
        objects = [
            {"class": name, "class_ind": index, "mask": mask, "parts": struct(*parts)}
            for name, index in (("dog", 12), ("horse", 13))
        ]
        objects = objects if image_id == "000001" else objects[:1]
        path = root / "Annotations_Part" / f"{image_id}.mat"
        savemat(path, {"anno": {"imname": image_id, "objects": struct(*objects)}})
    return path


def write_drawn(root: Path) -> Path:
    reader = READERS["demo"]
    assert reader.draw
    reader.draw(root, reader.options(images=1))
    return root / "parts" / DEMO_SETS[0] / f"{DEMO_SETS[0]}_000.png"


COLLECTIONS = {
    "demo": Collection(
        "demo",
        write_drawn,
        {"whole", "parts"},
        {"images": 1},
        {f"{kind}_000": (224, 224) for kind in DEMO_SETS},
    ),
    "folder with masks": Collection("folder", write_masks, {"whole"}),
    "folder with part masks": Collection("folder", write_part_masks, {"whole", "parts"}),
    "folder with indexed parts": Collection("folder", write_indexed, {"whole", "parts"}),
    "folder with polygons": Collection(
        "folder", write_labelme, {"whole", "parts"}, {"whole": "full"}
    ),
    "icoseg": Collection("icoseg", lambda root: write_masks(root, "ground_truth"), {"whole"}),
    "voc": Collection("voc", write_voc, {"whole", "boxes"}),
    "voc, everything": Collection(
        "voc", write_voc, {"whole", "boxes"}, {"split": "trainval", "exclude": "none"}
    ),
    "voc, one set": Collection("voc", write_voc, {"whole", "boxes"}, {"together": True}),
    "pascal_part, coarse": Collection(
        "pascal_part", write_pascal_part, {"whole", "parts", "boxes"}, {"merge": "coarse"}
    ),
    "pascal_part": Collection("pascal_part", write_pascal_part, {"whole", "parts", "boxes"}),
}
every_collection = pytest.mark.parametrize("collection", COLLECTIONS.values(), ids=COLLECTIONS)


def test_every_reader_is_here() -> None:
    assert {collection.reader for collection in COLLECTIONS.values()} == set(READERS)


@every_collection
def test_images_are_sorted_and_there_once(collection: Collection, tmp_path: Path) -> None:
    collection.write(tmp_path)
    dataset = collection.open(tmp_path)
    found = list(dataset.images())
    names = [image.name for image in found]
    assert {Path(name).stem for name in names} == set(collection.sizes)
    assert len(names) == len(collection.sizes)
    assert names == sorted(set(names))
    for image in found:
        assert "\\" not in image.name
        assert dataset.image_path(image.name) == dataset.root / image.name
        assert dataset.image_path(image.name).is_file()
        assert image.sets
        assert list(image.sets) == sorted(set(image.sets))
    assert list(dataset.images()) == found


@every_collection
def test_options_open_the_same_collection_again(collection: Collection, tmp_path: Path) -> None:
    """In the form that the index artifact records them."""
    collection.write(tmp_path)
    dataset = collection.open(tmp_path)
    options = READERS[collection.reader].options(**collection.options)
    recorded = json.loads(json.dumps(dataclasses.asdict(options)))
    assert collection.options.items() <= recorded.items()
    assert READERS[collection.reader].options(**recorded) == options
    again = open_dataset(collection.reader, dataset.root, recorded)
    assert again == dataset
    assert list(again.images()) == list(dataset.images())


@pytest.mark.parametrize("name", READERS)
def test_options_are_params(name: str) -> None:
    """Frozen, each with a usual value and a line of help, and no name is misspelt silently."""
    options = READERS[name].options
    assert options() == options()
    for one in dataclasses.fields(options):
        assert type(one.default) in (str, int, float, bool, tuple)
        assert one.metadata["help"]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options(), one.name, one.default)
    with pytest.raises(TypeError):
        open_dataset(name, Path(), {"no such option": 1})


@every_collection
def test_annotations_have_the_image_s_size(collection: Collection, tmp_path: Path) -> None:
    collection.write(tmp_path)
    dataset = collection.open(tmp_path)
    kinds = set()
    for image in dataset.images():
        size = collection.sizes[Path(image.name).stem]
        for image_set in image.sets:
            truth = dataset.ground_truth(image.name, image_set)
            kinds |= {"whole"} if truth.whole is not None else set()
            kinds |= {"parts"} if truth.parts else set()
            kinds |= {"boxes"} if truth.boxes else set()
            for mask in [*truth.parts.values(), *([] if truth.whole is None else [truth.whole])]:
                assert isinstance(mask, np.ndarray)
                assert mask.shape == size
                assert mask.dtype == np.bool_
            for top, left, bottom, right in truth.boxes:
                assert 0 <= top < bottom <= size[0]
                assert 0 <= left < right <= size[1]
    assert kinds == collection.kinds


@every_collection
def test_annotation_files_are_those_below_the_root(collection: Collection, tmp_path: Path) -> None:
    written = collection.write(tmp_path)
    dataset = collection.open(tmp_path)
    every = [path for image in dataset.images() for path in dataset.annotation_files(image.name)]
    assert written in every
    for path in every:
        assert path.is_file()
        assert path.is_relative_to(dataset.root)
    for path in set(every):
        path.unlink()
    for image in dataset.images() if collection.reader != "pascal_part" else []:
        assert dataset.annotation_files(image.name) == []
        assert dataset.ground_truth(image.name, image.sets[0]).empty


@every_collection
def test_a_missing_root_is_one_clear_line(collection: Collection, tmp_path: Path) -> None:
    for root in (tmp_path / "gone", tmp_path):
        with pytest.raises(DatasetError) as caught:
            list(collection.open(root).images())
        assert str(root) in str(caught.value)
        assert "\n" not in str(caught.value)


@every_collection
@pytest.mark.parametrize("damage", ["emptied", "cut", "garbage"])
def test_a_damaged_annotation_spoils_only_its_own_image(
    collection: Collection, tmp_path: Path, damage: str
) -> None:
    path = collection.write(tmp_path)
    before = list(collection.open(tmp_path).images())
    content = path.read_bytes()
    changed = {"emptied": b"", "cut": content[: len(content) // 2], "garbage": bytes(range(256))}
    path.write_bytes(changed[damage])
    dataset = collection.open(tmp_path)
    assert [image.name for image in dataset.images()] == [image.name for image in before]
    for image in dataset.images():
        if path not in dataset.annotation_files(image.name):
            assert not dataset.ground_truth(image.name, image.sets[0]).empty
            continue
        with pytest.raises(DatasetError) as caught:
            dataset.ground_truth(image.name, image.sets[0])
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@every_collection
def test_what_is_not_used_is_named(collection: Collection, tmp_path: Path) -> None:
    """By a name below the root, with a reason; an annotation of no image makes no image."""
    written = collection.write(tmp_path)
    dataset = collection.open(tmp_path)
    images = list(dataset.images())
    before = dataset.left_out()
    if collection.reader not in ("voc", "pascal_part"):  # these are not at one with their lists
        assert before == []
    stray = written.with_name(f"of-nothing{written.suffix}")
    stray.write_bytes(written.read_bytes())
    assert list(dataset.images()) == images
    added = [one for one in dataset.left_out() if one not in before]
    assert [one.name for one in added] in ([], [stray.relative_to(dataset.root).as_posix()])
    assert all(one.reason and one.kind == "annotation" for one in [*before, *added])
    if collection.reader in ("icoseg", "pascal_part"):
        assert len(added) == 1
