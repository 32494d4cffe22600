"""The VOC reader against annotations written by hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.datasets import DatasetError
from stages.datasets.voc import CLASSES, VocDataset, VocOptions

SIZE = (40, 60)


def obj(
    class_name: str, difficult: int = 0, truncated: int = 0, box: tuple[object, ...] = (1, 1, 9, 9)
) -> str:
    sides = ("xmin", "ymin", "xmax", "ymax")
    corners = "".join(f"<{side}>{value}</{side}>" for side, value in zip(sides, box, strict=True))
    return (
        f"<object><name>{class_name}</name><pose>Left</pose><truncated>{truncated}</truncated>"
        f"<difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"
    )


def add(year: Path, image_id: str, *objects: str, **listed: int) -> None:
    """One image with its XML, and its line in the lists of the classes named."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (year / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1]).save(year / "JPEGImages" / f"{image_id}.jpg")
    xml = f"<annotation><filename>{image_id}.jpg</filename>{''.join(objects)}</annotation>"
    (year / "Annotations" / f"{image_id}.xml").write_text(xml)
    for class_name, value in listed.items():
        with (year / "ImageSets" / "Main" / f"{class_name}_trainval.txt").open("a") as file:
            file.write(f"{image_id} {value:2d}\n")


def sets(dataset: VocDataset) -> dict[str, tuple[str, ...]]:
    return {Path(found.name).stem: found.sets for found in dataset.images()}


@pytest.fixture
def year(tmp_path: Path) -> Path:
    return tmp_path / "VOC2007"


def test_classes_are_numbered_as_in_the_segmentation() -> None:
    assert len(CLASSES) == 20
    assert list(CLASSES) == sorted(CLASSES)
    assert (CLASSES[0], CLASSES[14], CLASSES[19]) == ("aeroplane", "person", "tvmonitor")


@pytest.mark.parametrize(
    ("exclude", "kept"),
    [
        ("difficult_or_truncated", {"clear", "mixed"}),
        ("difficult", {"clear", "mixed", "truncated", "both"}),
        ("none", {"clear", "mixed", "truncated", "both", "difficult", "elsewhere"}),
    ],
)
def test_an_image_is_kept_when_an_object_of_the_class_is_clear(
    year: Path, exclude: str, kept: set[str]
) -> None:
    add(year, "clear", obj("cow"), cow=1)
    add(year, "mixed", obj("cow", truncated=1), obj("cow", difficult=1), obj("cow"), cow=1)
    add(year, "truncated", obj("cow", truncated=1), cow=1)
    add(year, "both", obj("cow", truncated=1), obj("cow", difficult=1), cow=1)
    add(year, "difficult", obj("cow", difficult=1, truncated=1), cow=0)
    add(year, "elsewhere", obj("cow", difficult=1), obj("dog"), cow=0)
    add(year, "absent", obj("dog"), cow=-1)
    assert set(sets(VocDataset(year, VocOptions(exclude=exclude)))) == kept


def test_the_rule_looks_at_each_class_by_itself(year: Path) -> None:
    add(year, "000002", obj("person"), obj("horse"), obj("car", truncated=1), person=1, horse=1)
    add(year, "000001", obj("person", truncated=1), obj("horse"), person=1, horse=1, car=1)
    (year / "ImageSets" / "Main" / "trainval.txt").write_text("000001\n000002\n000003\n")
    dataset = VocDataset(year)
    assert [found.name for found in dataset.images()] == [
        "JPEGImages/000001.jpg",
        "JPEGImages/000002.jpg",
    ]
    assert sets(dataset) == {"000001": ("horse",), "000002": ("horse", "person")}
    assert len(dataset.ground_truth("JPEGImages/000001.jpg", "person").boxes) == 1


def test_boxes_become_zero_based_and_half_open(year: Path) -> None:
    person = obj("person", box=(45.7, 0.2, 50.4, 40)).replace(
        "</object>",
        "<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax>"
        "</bndbox></part></object>",
    )
    add(year, "a", obj("cow", box=(1, 1, 60, 40)), person, obj("cow", 1, 1, (7, 5, 7, 5)), cow=1)
    dataset = VocDataset(year)
    cow = dataset.ground_truth("JPEGImages/a.jpg", "cow")
    assert cow.boxes == ((0, 0, *SIZE), (4, 6, 5, 7))
    assert cow.whole is None
    assert not cow.parts
    assert dataset.ground_truth("JPEGImages/a.jpg", "person").boxes == ((0, 45, 40, 50),)
    assert dataset.ground_truth("JPEGImages/a.jpg", "dog").empty


def test_void_and_other_classes_are_not_the_object(year: Path) -> None:
    add(year, "a", obj("cow"), obj("dog"), cow=1, dog=1)
    values = np.zeros(SIZE, dtype=np.uint8)
    values[2:20, 3:30] = 255
    values[4:18, 5:28] = 1 + CLASSES.index("cow")
    values[30:, :] = 1 + CLASSES.index("dog")
    image = Image.fromarray(values)
    image.putpalette([(i * 37) % 256 for i in range(768)])
    (year / "SegmentationClass").mkdir()
    image.save(year / "SegmentationClass" / "a.png")
    dataset = VocDataset(year)
    assert [path.name for path in dataset.annotation_files("JPEGImages/a.jpg")] == [
        "a.xml",
        "a.png",
    ]
    for class_name in ("cow", "dog", "sheep"):
        whole = dataset.ground_truth("JPEGImages/a.jpg", class_name).whole
        assert whole is not None
        assert np.array_equal(whole, values == 1 + CLASSES.index(class_name))


@pytest.mark.parametrize("shape", [(*SIZE, 3), (SIZE[0] - 1, SIZE[1])])
def test_a_segmentation_in_colour_or_of_another_size_is_refused(
    year: Path, shape: tuple[int, ...]
) -> None:
    add(year, "a", obj("cow"), cow=1)
    (year / "SegmentationClass").mkdir()
    Image.fromarray(np.zeros(shape, np.uint8)).save(year / "SegmentationClass" / "a.png")
    with pytest.raises(DatasetError, match=r"a\.png: (stores colours|annotates 60x39 pixels)"):
        VocDataset(year).ground_truth("JPEGImages/a.jpg", "cow")


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (BOMB, "DOCTYPE"),
        ("<annotation><object>", "no element found"),
        ("", "no element found"),
        (f"<annotation>{obj('cow', box=(9, 1, 3, 9))}</annotation>", "is empty"),
        (f"<annotation>{obj('cow', box=('nan', 1, 3, 9))}</annotation>", "NaN"),
        (f"<annotation>{obj('cow', box=('1e999', 1, 3, 9))}</annotation>", "infinity"),
        ("<annotation><object><name>cow</name></object></annotation>", "no bndbox/xmin"),
        (f"<annotation>{obj('')}</annotation>", "no name"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "encoding"),
    ],
)
def test_a_damaged_xml_leaves_the_image_where_the_lists_have_it(
    year: Path, xml: str, reason: str
) -> None:
    add(year, "a", cow=1, dog=0)
    (year / "Annotations" / "a.xml").write_text(xml)
    assert sets(VocDataset(year)) == {"a": ("cow",)}
    assert sets(VocDataset(year, VocOptions(exclude="none"))) == {"a": ("cow", "dog")}
    with pytest.raises(DatasetError, match=rf"a\.xml: .*{reason}"):
        VocDataset(year).ground_truth("JPEGImages/a.jpg", "cow")


def test_without_an_xml_there_is_no_annotation(year: Path) -> None:
    add(year, "a", cow=1)
    (year / "Annotations" / "a.xml").unlink()
    dataset = VocDataset(year)
    assert sets(dataset) == {"a": ("cow",)}
    assert dataset.annotation_files("JPEGImages/a.jpg") == []
    assert dataset.ground_truth("JPEGImages/a.jpg", "cow").empty


@pytest.mark.parametrize("above", [".", "VOCdevkit"])
def test_the_only_year_below_the_root_is_the_root(tmp_path: Path, above: str) -> None:
    year = tmp_path / above / "VOC2007"
    add(year, "a", obj("cow"), cow=1)
    dataset = VocDataset(tmp_path)
    assert dataset == VocDataset(year)
    assert dataset.root == year
    assert dataset.image_path("JPEGImages/a.jpg").is_file()


def test_several_years_must_be_chosen_from(tmp_path: Path) -> None:
    for name in ("VOC2007", "VOC2012"):
        add(tmp_path / name, "a", obj("cow"), cow=1)
    with pytest.raises(DatasetError, match="choose one of VOC2007, VOC2012"):
        list(VocDataset(tmp_path).images())


def test_unknown_rule_and_unknown_split(year: Path) -> None:
    with pytest.raises(ValueError, match="exclude: 'truncated' is unknown, choose difficult_or_"):
        VocOptions(exclude="truncated")  # type: ignore[arg-type]
    add(year, "a", obj("cow"), cow=1)
    with pytest.raises(DatasetError, match="no images of split 'test'; it has trainval"):
        list(VocDataset(year, VocOptions(split="test")).images())


@pytest.mark.parametrize("line", ["a", "a 2", "1", "../../a 1"])
def test_a_damaged_class_list_is_refused(year: Path, line: str) -> None:
    add(year, "a", obj("cow"), cow=1)
    path = year / "ImageSets" / "Main" / "cow_trainval.txt"
    path.write_text(f"a 1\n\n{line}\n")
    with pytest.raises(DatasetError, match=r"cow_trainval\.txt: .*"):
        list(VocDataset(year).images())


def test_when_the_rule_leaves_nothing_it_says_so(year: Path) -> None:
    add(year, "a", obj("cow", truncated=1), cow=1)
    with pytest.raises(DatasetError, match=r"1 are listed for trainval, .*leaves none"):
        list(VocDataset(year).images())


def test_a_box_outside_the_image_is_damage(year: Path) -> None:
    add(year, "a", obj("cow", box=(1, -10, 9, -3)), cow=1)
    with pytest.raises(DatasetError, match="the box 1 -10 9 -3 lies outside the image"):
        VocDataset(year).ground_truth("JPEGImages/a.jpg", "cow")


def test_together_is_one_set_of_all_images_with_all_boxes(year: Path) -> None:
    """The class-agnostic protocol: no image and no class is left out."""
    add(year, "a", obj("cow", truncated=1), obj("dog"), cow=1, dog=1)
    add(year, "b", obj("cow", difficult=1), cow=0, dog=-1)
    dataset = VocDataset(year, VocOptions(together=True))
    assert sets(dataset) == {"a": ("trainval",), "b": ("trainval",)}
    assert len(dataset.ground_truth("JPEGImages/a.jpg", "trainval").boxes) == 2
    assert dataset.ground_truth("JPEGImages/a.jpg", "trainval").whole is None
    folder = year / "SegmentationClass"
    folder.mkdir()
    with Image.open(year / "JPEGImages" / "a.jpg") as image:
        values = np.zeros(image.size[::-1], dtype=np.uint8)
    values[0, :3] = (1, 20, 255)  # aeroplane, tvmonitor, void
    Image.fromarray(values).save(folder / "a.png")
    whole = dataset.ground_truth("JPEGImages/a.jpg", "trainval").whole
    assert whole is not None and whole.sum() == 2 and whole[0, :2].all()
