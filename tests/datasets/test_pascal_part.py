"""The PASCAL-Part reader: MATLAB structs as they come, and which parts are one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from stages.datasets import DatasetError
from stages.datasets.pascal_part import (
    PascalPartDataset,
    PascalPartOptions,
    merge_tables,
    merged_name,
)
from stages.datasets.voc import CLASSES

SIZE = (40, 60)
NAME = "VOCdevkit/VOC2010/JPEGImages/2008_000008.jpg"
XML_OBJECT = (
    "<object><name>{}</name><difficult>0</difficult><truncated>0</truncated><bndbox>"
    "<xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
)


def area(*rows_and_columns: slice) -> NDArray[np.uint8]:
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[rows_and_columns] = 1
    return mask


def struct(*records: dict[str, Any]) -> NDArray[Any]:
    """A 1 x n struct array as MATLAB stores it; for no records ``[]``, as in the collection."""
    if not records:
        return np.zeros((0, 0))
    array = np.empty((1, len(records)), dtype=[(name, object) for name in records[0]])
    for i, record in enumerate(records):
        array[0, i] = tuple(record.values())
    return array


def an_object(class_name: str, mask: NDArray[np.uint8], **parts: NDArray[np.uint8]) -> Any:
    named = struct(*({"part_name": name, "mask": part} for name, part in parts.items()))
    class_ind = 1 + CLASSES.index(class_name)
    return {"class": class_name, "class_ind": class_ind, "mask": mask, "parts": named}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A VOC year with one image, listed as horse and person."""
    year = tmp_path / "VOCdevkit" / "VOC2010"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (year / folder).mkdir(parents=True)
    (tmp_path / "Annotations_Part").mkdir()
    Image.new("RGB", SIZE[::-1]).save(tmp_path / NAME)
    objects = "".join(XML_OBJECT.format(name) for name in ("horse", "person"))
    (year / "Annotations" / "2008_000008.xml").write_text(f"<annotation>{objects}</annotation>")
    for name in ("horse", "person"):
        (year / "ImageSets" / "Main" / f"{name}_trainval.txt").write_text("2008_000008  1\n")
    return tmp_path


def annotate(root: Path, *objects: Any) -> None:
    anno = {"imname": "2008_000008", "objects": struct(*objects)}
    path = root / "Annotations_Part" / "2008_000008.mat"
    savemat(path, {"anno": anno}, do_compression=True)


def test_objects_and_merged_parts_of_the_class_are_united(root: Path) -> None:
    first = an_object(
        "horse",
        area(slice(0, 20)),
        head=area(slice(0, 4)),
        lfuleg=area(slice(10, 12)),
        rblleg=area(slice(14, 16)),
        neck=area(slice(4, 6)),
    )
    second = an_object("horse", area(slice(30, 40)), head=area(slice(30, 32)))
    rider = an_object("person", area(slice(20, 25)), llarm=area(slice(20, 22)))
    annotate(root, first, second, rider)
    dataset = PascalPartDataset(root)
    horse = dataset.ground_truth(NAME, "horse")
    assert horse.whole is not None
    assert np.flatnonzero(horse.whole.all(axis=1)).tolist() == [*range(20), *range(30, 40)]
    rows = {part: np.flatnonzero(mask[:, 0]).tolist() for part, mask in horse.parts.items()}
    assert rows == {"head": [0, 1, 2, 3, 30, 31], "leg": [10, 11, 14, 15], "neck": [4, 5]}
    assert horse.boxes == ((1, 0, 40, 30),)
    person = dataset.ground_truth(NAME, "person")
    assert list(person.parts) == ["arm"]
    assert person.parts["arm"].dtype == np.bool_


@pytest.mark.parametrize("parts", [{}, {"lear": area(slice(1))}, {"lear": area(), "rear": area()}])
def test_one_object_with_no_one_and_two_parts(root: Path, parts: dict[str, Any]) -> None:
    annotate(root, an_object("horse", area(slice(3)), **parts))
    truth = PascalPartDataset(root).ground_truth(NAME, "horse")
    assert truth.whole is not None
    assert truth.whole.sum() == 3 * SIZE[1]
    assert list(truth.parts) == (["ear"] if parts else [])


@pytest.mark.parametrize("objects", [(), (an_object("person", area()),)])
def test_without_an_object_of_the_class_only_the_box_is_known(root: Path, objects: Any) -> None:
    annotate(root, *objects)
    truth = PascalPartDataset(root).ground_truth(NAME, "horse")
    assert truth.whole is None
    assert not truth.parts
    assert len(truth.boxes) == 1


def test_sets_hold_only_images_with_a_mat_file(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"none of split trainval has a \.mat file"):
        list(PascalPartDataset(root).images())
    annotate(root, an_object("horse", area()))
    main = root / "VOCdevkit" / "VOC2010" / "ImageSets" / "Main"
    (main / "horse_trainval.txt").write_text("2008_000008  1\n2008_000009  1\n")
    (found,) = PascalPartDataset(root).images()
    assert (found.name, found.sets) == (NAME, ("horse", "person"))
    files = PascalPartDataset(root).annotation_files(NAME)
    assert [path.name for path in files] == ["2008_000008.mat", "2008_000008.xml"]


def test_an_image_without_a_mat_file_still_has_its_boxes(root: Path) -> None:
    truth = PascalPartDataset(root).ground_truth(NAME, "horse")
    assert (truth.whole, len(truth.boxes)) == (None, 1)


def test_other_folders_below_the_root_and_none_outside(root: Path) -> None:
    (root / "VOCdevkit" / "VOC2010").rename(root / "VOC2010")
    (root / "Annotations_Part").rename(root / "mat")
    (root / "mat" / "2008_000008.mat").touch()
    dataset = PascalPartDataset(root, PascalPartOptions(voc=".", annotations="mat"))
    assert [found.name for found in dataset.images()] == ["VOC2010/JPEGImages/2008_000008.jpg"]
    for outside in ("../VOC2010", "/VOC2010"):
        with pytest.raises(ValueError, match="below the root"):
            PascalPartOptions(voc=outside)
    with pytest.raises(ValueError, match="exclude"):
        PascalPartOptions(exclude="truncated")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "anno",
    [
        {"imname": "x"},
        {"objects": 3.0},
        {"objects": "horse"},
        {"objects": struct({"class": "horse", "mask": area()})},
        {"objects": struct(an_object("horse", area()) | {"class": 13})},
        {"objects": struct(an_object("horse", area()) | {"parts": 1.0})},
        {"objects": struct(an_object("horse", area()) | {"mask": area()[1:]})},
        {"objects": struct(an_object("horse", area(), head=area()[:, :3]))},
        {"objects": struct(an_object("horse", area()) | {"mask": np.zeros((0, 0))})},
    ],
)
def test_another_structure_is_a_damaged_annotation(root: Path, anno: dict[str, Any]) -> None:
    savemat(root / "Annotations_Part" / "2008_000008.mat", {"anno": anno})
    with pytest.raises(DatasetError, match=r"2008_000008\.mat: not a readable PASCAL-Part"):
        PascalPartDataset(root).ground_truth(NAME, "horse")


def test_a_cut_off_file_is_a_damaged_annotation_wherever_it_is_cut(root: Path) -> None:
    annotate(root, an_object("horse", area(slice(5)), head=area(slice(2))))
    path = root / "Annotations_Part" / "2008_000008.mat"
    content = path.read_bytes()
    for length in range(0, len(content) - 8, 7):
        path.write_bytes(content[:length])
        with pytest.raises(DatasetError, match=r"2008_000008\.mat"):
            PascalPartDataset(root).ground_truth(NAME, "horse")


def test_the_merge_table_has_the_classes_with_parts() -> None:
    without = {"boat", "chair", "diningtable", "sofa"}
    (sides,) = merge_tables()["sides"]
    assert set(sides) == set(CLASSES) - without
    for class_name, names in sides.items():
        for raw, merged in names.items():
            assert not raw[-1].isdigit()
            assert merged_name(class_name, merged) == merged, "merging twice changes nothing"


@pytest.mark.parametrize(
    ("class_name", "raw", "merged"),
    [
        ("cow", "lhorn", "head"),
        ("cow", "muzzle", "head"),
        ("cow", "neck", "neck+torso"),
        ("horse", "torso", "neck+torso"),
        ("horse", "lbho", "leg"),
        ("horse", "rfuleg", "leg"),
        ("horse", "tail", "tail"),
        ("dog", "lfpa", "leg"),
        ("car", "door_3", "door"),
    ],
)
def test_coarse_names_are_those_of_table_3(class_name: str, raw: str, merged: str) -> None:
    assert merged_name(class_name, raw, "coarse") == merged


def test_an_unknown_mapping_is_refused() -> None:
    with pytest.raises(ValueError, match="merge: 'fine' is unknown, choose sides, coarse"):
        PascalPartOptions(merge="fine")


@pytest.mark.parametrize(
    ("class_name", "raw", "merged"),
    [
        ("aeroplane", "wheel_1", "wheel"),
        ("aeroplane", "wheel_10", "wheel"),
        ("aeroplane", "rwing", "wing"),
        ("bicycle", "fwheel", "wheel"),
        ("bicycle", "chainwheel", "chainwheel"),
        ("car", "rightmirror", "mirror"),
        ("car", "door_3", "door"),
        ("cat", "lfpa", "paw"),
        ("cow", "rblleg", "leg"),
        ("cow", "rear", "ear"),
        ("dog", "rbleg", "leg"),
        ("dog", "muzzle", "muzzle"),
        ("horse", "lbho", "hoof"),
        ("horse", "lbuleg", "leg"),
        ("horse", "neck", "neck"),
        ("horse", "torso", "torso"),
        ("person", "lebrow", "eyebrow"),
        ("train", "cleftside_2", "side"),
        ("train", "coach_2", "coach"),
        ("sofa", "cushion", "cushion"),
    ],
)
def test_merged_names(class_name: str, raw: str, merged: str) -> None:
    assert merged_name(class_name, raw) == merged
