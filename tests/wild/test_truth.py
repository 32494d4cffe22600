"""Annotations from the wild: one line a case, what they say about the image as a person sees it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from drawn import LAYER, bits, write_voc
from drawn import voc as drawn_voc
from stages.algorithms.metrics import RegionCounts
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.datasets import DatasetError, GroundTruth, open_dataset
from stages.evaluate.boxes import main_boxes
from stages.evaluate.counting import Counting
from stages.evaluate.failures import write_failures
from stages.evaluate.stage import EVALUATE
from stages.evaluate.truth import SetTruth
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.images.decode import decode_rgb, read_header
from stages.index.params import IndexParams
from stages.index.stage import INDEX
from wild import (
    BOX,
    OBJECT,
    SIZE,
    Build,
    bitmap,
    box_of,
    chunk,
    mask,
    photo,
    save,
    shape,
    shapes,
    stored,
    text,
    voc,
    with_chunk,
)  # fmt: skip

NONE, ALL = np.zeros(SIZE, bool), np.ones(SIZE, bool)
SQUARE = [[5, 3], [25, 3], [25, 14], [5, 14]]
GREY = np.random.default_rng(0).integers(1, 255, (*SIZE, 3))


@dataclass
class Case:
    """One annotation of ``s/a.jpg``, and what it must say.

    Attributes
    ----------
    whole : bool [h, w] or None
        The object.
    parts : dict of name to bool [h, w], or a set of names
    ignore : bool [h, w], optional
    notes : str
        A piece of what is said of it.
    refused : str
        A piece of why it is not used.
    """

    build: Build
    whole: np.ndarray | None = None
    parts: Any = field(default_factory=dict)
    ignore: np.ndarray | None = None
    notes: str = ""
    refused: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def rgba(colours: Any, opaque: np.ndarray = OBJECT) -> np.ndarray:
    """A picture that is opaque in some places."""
    shown = np.broadcast_to(np.asarray(colours), (*SIZE, 3))
    return np.concatenate([shown, 255 * opaque[..., None]], axis=2)


def labelme(*drawn: dict[str, Any], **facts: Any) -> Build:
    return lambda root: shapes(root / "parts/s/a.json", *drawn, **facts)


def masked(values: Any, mode: str = "", name: str = "a.png", **options: Any) -> Build:
    return lambda root: save(root / "masks/s" / name, values, mode, **options)


def paletted(
    colours: Sequence[int], numbers: Any = OBJECT, name: str = "a.png", **options: Any
) -> Build:
    def build(root: Path) -> None:
        (root / "masks/s").mkdir(parents=True)
        image = Image.fromarray(np.asarray(numbers).astype(np.uint8))
        image.putpalette(list(colours) + [77] * (768 - len(colours)))
        image.save(root / "masks/s" / name, **options)

    return build


def indexed(values: Any, **options: Any) -> Build:
    def build(root: Path) -> None:
        save(root / "parts/s/a.png", values, **options)
        text(root / "parts/parts.json", '{"1": "head", "2": "leg"}')

    return build


def wordy(root: Path) -> None:
    with_chunk(mask(root / "masks/s/a.png"), chunk(b"tEXt", b"k\0" + 2_000_000 * b"x"))


def disc(x: float, y: float, radius: float) -> np.ndarray:
    return np.array(
        [[(j - x) ** 2 + (i - y) ** 2 <= radius**2 for j in range(SIZE[1])] for i in range(SIZE[0])]
    )


VOID = np.where(OBJECT, 200, 0)
VOID[:2] = 255
TWO = np.where(OBJECT, 1, 0)
TWO[20:] = 2
POLYGON = shape(SQUARE)

CASES: dict[str, Case] = {
    # -- opacity and palettes
    "white, opaque on the object": Case(masked(rgba(255)), OBJECT),
    "white and half opaque": Case(masked(rgba(255) // [1, 1, 1, 3]), OBJECT),
    "black, opaque on the object": Case(masked(rgba(0)), OBJECT),
    "a photograph cut out": Case(masked(rgba(np.where(GREY > 60, GREY, 0))), OBJECT),
    "opaque black and white": Case(masked(rgba(255 * OBJECT[..., None].repeat(3, 2), ALL)), OBJECT),
    "white on black, transparent beside": Case(masked(rgba(255 * OBJECT[..., None].repeat(3, 2), np.arange(SIZE[1]) < 30 * ALL)), OBJECT),
    "grey and opacity": Case(masked(rgba(255), "LA"), OBJECT),
    "opacity in TIFF": Case(masked(rgba(255), name="a.tif"), OBJECT),
    "opacity in WebP": Case(masked(rgba(255), name="a.webp", lossless=True), OBJECT),
    "a transparent colour": Case(paletted([255, 255, 255, 255, 0, 0], transparency=0), OBJECT),
    "numbers in colours": Case(paletted([0, 0, 0, 128, 0, 0]), OBJECT),
    "numbers without black": Case(paletted([9, 9, 9, 128, 0, 0]), OBJECT),
    "black is number 1": Case(paletted([255, 255, 255, 0, 0, 0], ~OBJECT), OBJECT),
    "black is number 1 in GIF": Case(paletted([255, 255, 255, 0, 0, 0], ~OBJECT, "a.gif"), OBJECT),
    "black is number 1 in BMP": Case(paletted([255, 255, 255, 0, 0, 0], ~OBJECT, "a.bmp"), OBJECT),
    "one bit": Case(masked(255 * OBJECT, "1", "a.bmp"), OBJECT),
    "sixteen bits": Case(lambda root: Image.fromarray(OBJECT.astype(np.uint16) * 300).save(mask(root / "masks/s/a.png")), OBJECT),
    # -- what changes pixels, and what does not count
    "a JPEG": Case(masked(255 * OBJECT, name="a.jpg"), refused="JPEG changes pixels' values: save it as PNG"),
    "a JPEG called PNG": Case(masked(255 * OBJECT, format="JPEG"), refused="JPEG changes pixels' values"),
    "lossy WebP": Case(masked(255 * OBJECT, name="a.webp"), refused="lossy WEBP changes"),
    "JPEG in TIFF": Case(masked(255 * OBJECT, name="a.tif", compression="jpeg"), refused="JPEG compression changes"),
    "another size": Case(masked(255 * OBJECT[1:]), refused="annotates 36x23 pixels, the image has 36x24"),
    "a text of 2 MB": Case(wordy, OBJECT),
    "void": Case(masked(VOID), OBJECT, ignore=VOID == 255, options={"void": 255}),
    "void in colours": Case(masked(np.stack(3 * [VOID], axis=2)), OBJECT, ignore=VOID == 255, options={"void": 255}),
    "void that nobody named": Case(masked(VOID), VOID > 0),
    "void in parts": Case(indexed(np.where(VOID == 255, 255, TWO)), OBJECT | (TWO == 2), {"head": OBJECT, "leg": TWO == 2}, VOID == 255, options={"void": 255}),
    "numbers without names": Case(indexed(np.where(VOID == 255, 9, TWO)), OBJECT | (TWO == 2), {"head", "leg"}, notes="does not name the values 9"),
    "numbers and a transparent colour": Case(indexed(TWO, transparency=0), OBJECT | (TWO == 2), {"head", "leg"}),
    # -- labelme
    "circle": Case(labelme(shape([[10, 9], [14, 9]], "circle")), disc(10, 9, 4), {"arm": disc(10, 9, 4)}),
    "mask": Case(labelme(bitmap()), OBJECT, {"arm": OBJECT}),
    "rectangle from below": Case(labelme(shape([[25, 14], [5, 3]], "rectangle")), parts={"arm"}),
    "rectangle of four": Case(labelme(shape(SQUARE, "rectangle")), parts={"arm"}),
    "turned rectangle": Case(labelme(shape(SQUARE, "rotation")), parts={"arm"}),
    **{
        f"{kind} beside a polygon": Case(labelme(POLYGON, shape(points, kind, "eye")), parts={"arm"}, notes=f"1 shapes left out: 1 x {kind} (it has no area)")
        for kind, points in (("line", [[1, 1], [9, 9]]), ("linestrip", [[1, 1], [9, 9], [5, 3]]), ("point", [[1, 1]]), ("points", [[1, 1], [5, 5]]))
    },
    "shapes of a later version": Case(labelme(POLYGON, shape(SQUARE, "ellipse")), parts={"arm"}, notes="1 x ellipse (not a shape that is known)"),
    "a polygon of two points": Case(labelme(POLYGON, shape([[1, 2], [3, 4]])), parts={"arm"}, notes="1 x polygon of less than three points"),
    "a mask that is no PNG": Case(labelme(POLYGON, bitmap() | {"mask": "no!"}), parts={"arm"}, notes="1 x mask that is not a PNG in Base64"),
    "points alone": Case(labelme(shape([[1, 1]], "point")), refused="none can be drawn: 1 x point"),
    "no label": Case(labelme(shape(SQUARE, label=None)), parts={""}),
    "a number for a label": Case(labelme(shape(SQUARE, label=7)), parts={"7"}),
    "no size": Case(labelme(bitmap(), imageHeight=None, imageWidth=None), OBJECT, {"arm"}),
    "no size, left out": Case(lambda root: text(root / "parts/s/a.json", '{"shapes": []}'), NONE),
    "no shapes": Case(labelme(shapes=None), NONE),
    "Windows' path": Case(labelme(bitmap(), imagePath="..\\..\\s\\a.jpg"), OBJECT, {"arm"}),
    "a byte order mark": Case(lambda root: text(root / "parts/s/a.json", b"\xef\xbb\xbf" + shapes(root / "x.json", bitmap()).read_bytes()), OBJECT, {"arm"}),
    "a mask that is too large": Case(labelme(POLYGON, bitmap(ALL, (0, 0, *SIZE)) | {"points": [[0, 0], [9, 9]]}), parts={"arm"}, notes="1 x mask of another size"),
    "a mask that reaches out": Case(labelme(bitmap() | {"points": [[-1, 3], [19, 14]]}), np.pad(OBJECT[:, 6:], ((0, 0), (0, 6))), {"arm"}),
    "another JSON": Case(lambda root: text(root / "parts/s/a.json", '{"images": [], "annotations": []}'), refused="not readable polygons"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_annotation(case: Case, tmp_path: Path) -> None:
    photo(tmp_path / "s" / "a.jpg")
    case.build(tmp_path)
    dataset = open_dataset("folder", tmp_path, case.options)
    if case.refused:
        with pytest.raises(DatasetError) as refused:
            dataset.ground_truth("s/a.jpg", "s")
        assert case.refused in str(refused.value) and "\n" not in str(refused.value)
        return
    truth = dataset.ground_truth("s/a.jpg", "s")
    assert truth.whole is not None and truth.whole.shape == SIZE
    if case.whole is not None:
        np.testing.assert_array_equal(truth.whole, case.whole)
    assert set(truth.parts) == set(case.parts)
    for name in case.parts if isinstance(case.parts, dict) else ():
        np.testing.assert_array_equal(truth.parts[name], case.parts[name])
    assert (truth.ignore is None) == (case.ignore is None)
    if case.ignore is not None:
        np.testing.assert_array_equal(truth.ignore, case.ignore)
    said = " ".join(truth.notes)
    assert case.notes in said and bool(said) == bool(case.notes)


# -- frames of reference -----------------------------------------------------------------------

TURNED = [5, 6, 7, 8]  # height and width change places: sizes tell which frame is meant


def parts_of(root: Path, orientation: int) -> None:
    mask(root / "parts/s/a/arm.png", turned=orientation)


def indexed_of(root: Path, orientation: int) -> None:
    save(root / "parts/s/a.png", stored(OBJECT, orientation))
    text(root / "parts/parts.json", '{"1": "arm"}')


FRAMES: dict[str, tuple[Any, Sequence[int]]] = {
    "mask as seen": (lambda r, o: mask(r / "masks/s/a.png"), range(1, 9)),
    "mask that says it": (lambda r, o: mask(r / "masks/s/a.png", turned=o, tag=o), range(1, 9)),
    "mask that says something else": (lambda r, o: mask(r / "masks/s/a.png", turned=3, tag=3), range(1, 9)),
    "TIFF that says it": (lambda r, o: mask(r / "masks/s/a.tif", turned=o, tag=o), range(1, 9)),
    "mask as stored": (lambda r, o: mask(r / "masks/s/a.png", turned=o), TURNED),
    "parts as seen": (lambda r, o: parts_of(r, 1), range(1, 9)),
    "parts as stored": (parts_of, TURNED),
    "indexed as seen": (lambda r, o: indexed_of(r, 1), range(1, 9)),
    "indexed as stored": (indexed_of, TURNED),
    "labelme": (lambda r, o: shapes(r / "parts/s/a.json", bitmap()), range(1, 9)),
    "labelme without a size": (lambda r, o: shapes(r / "parts/s/a.json", bitmap(), imageHeight=None, imageWidth=None), range(1, 9)),
}  # fmt: skip


@pytest.mark.parametrize(("build", "orientations"), FRAMES.values(), ids=FRAMES)
def test_frames_of_a_folder(build: Any, orientations: Sequence[int], tmp_path: Path) -> None:
    for orientation in orientations:
        root = tmp_path / str(orientation)
        path = photo(root / "s/a.jpg", orientation=orientation)
        assert read_header(path) == decode_rgb(path.read_bytes()).shape[:2] == SIZE
        build(root, orientation)
        truth = open_dataset("folder", root, {}).ground_truth("s/a.jpg", "s")
        for found in [truth.whole, *truth.parts.values()]:
            np.testing.assert_array_equal(found, OBJECT, err_msg=str(orientation))


def voc_truth(root: Path) -> GroundTruth:
    return open_dataset("voc", root, {}).ground_truth("JPEGImages/a.jpg", "cow")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_frames_of_voc(orientation: int, tmp_path: Path) -> None:
    """Boxes and segmentation of the pixels as stored, and where sizes tell it, as seen."""
    drawn = stored(OBJECT, orientation)
    voc(tmp_path / "r", orientation=orientation, box=box_of(drawn), size=drawn.shape)
    save(tmp_path / "r/SegmentationClass/a.png", 10 * drawn)
    truth = voc_truth(tmp_path / "r")
    assert truth.boxes == (BOX,) and truth.whole is not None
    np.testing.assert_array_equal(truth.whole, OBJECT)
    assert bool(truth.notes) == (orientation in (2, 3, 4)), "what is assumed is said"
    if orientation in TURNED:
        voc(tmp_path / "s", orientation=orientation)
        save(tmp_path / "s/SegmentationClass/a.png", 10 * OBJECT)
        truth = voc_truth(tmp_path / "s")
        assert truth.boxes == (BOX,) and truth.whole is not None and not truth.notes
        np.testing.assert_array_equal(truth.whole, OBJECT)


def test_a_size_that_fits_neither_and_boxes_that_reach_out(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"annotates 99x24 pixels, the image has 36x24"):
        voc_truth(voc(tmp_path / "o", size=(24, 99)))
    assert voc_truth(voc(tmp_path / "p", box=(-4, 5, 90, 26))).boxes == ((0, 5, 24, 26),)
    assert voc_truth(voc(tmp_path / "q", size=(0, 0))).boxes == (BOX,)
    with pytest.raises(DatasetError, match="lies outside the image"):
        voc_truth(voc(tmp_path / "r", box=(3, 50, 15, 60)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_frames_of_pascal_part(orientation: int, tmp_path: Path) -> None:
    drawn = stored(OBJECT, orientation)
    year = tmp_path / "VOCdevkit/VOC2010"
    voc(year, orientation=orientation, box=box_of(drawn), size=drawn.shape)
    part = {"part_name": "head", "mask": drawn}
    anno = {"objects": {"class": "cow", "mask": drawn, "parts": part}}
    (tmp_path / "Annotations_Part").mkdir()
    savemat(tmp_path / "Annotations_Part/a.mat", {"anno": anno})
    dataset = open_dataset("pascal_part", tmp_path, {})
    truth = dataset.ground_truth("VOCdevkit/VOC2010/JPEGImages/a.jpg", "cow")
    assert truth.boxes == (BOX,) and truth.whole is not None
    np.testing.assert_array_equal(truth.whole, OBJECT)
    np.testing.assert_array_equal(truth.parts["head"], OBJECT)


# -- scores --------------------------------------------------------------------------------------


def test_ignored_pixels_count_nowhere() -> None:
    """Against a loop over pixels."""
    rng = np.random.default_rng(0)
    counts = RegionCounts(9)
    shared, union, right, total = (np.zeros(9) for _ in range(4))
    for _ in range(3):
        masks, region, ignore = (
            rng.random((9, 7, 5)) > 0.5,
            rng.random((7, 5)) > 0.6,
            rng.random((7, 5)) > 0.7,
        )
        counts.add(masks, {"object": region, "background": ~region}, ignore)
        for i, j in np.ndindex(7, 5):
            if not ignore[i, j]:
                shared += masks[:, i, j] & region[i, j]
                union += masks[:, i, j] | region[i, j]
                right += masks[:, i, j] == region[i, j]
                total += 1
    np.testing.assert_allclose(counts.iou({"object"}), shared / union)
    np.testing.assert_allclose(counts.accuracy({"object"}), right / total)
    assert sum(counts.pixels.values()) == total[0] and counts.images == 3
    counts.add(masks, {"object": region}, np.ones((7, 5), bool))
    assert counts.images == 3, "an image of which nothing is known is none"
    with pytest.raises(ValueError, match="'ignore' must be bool"):
        counts.add(masks, {"object": region}, np.ones((5, 7), bool))


def test_void_in_the_scores_of_voc(tmp_path: Path) -> None:
    """Of the object 4 pixels are found, 4 are not; of 4 void ones 4 are found; 2 are background."""
    root = write_voc(tmp_path / "VOC2007")
    (root / "SegmentationClass").mkdir()
    values = np.zeros((4, 4), np.uint8)
    values[:2], values[2] = 10, 255
    Image.fromarray(values).save(root / "SegmentationClass/000001.png")
    found = ["####", "....", "####", "##.."]
    sheets = {f"00000{i}": [found] for i in (1, 2, 3)}
    drawn = drawn_voc(tmp_path / "p", sheets, [(1, 0, 0)], root=str(root))
    where = {name: drawn.project / path for name, path in EVALUATE.reads.items()}
    factors, index = Factors.open(where["factorize"]), ImageIndex.open(where["index"], tmp_path)
    maps = ConceptMaps.open(where["heatmaps"])[LAYER]
    entries = [(int(entry), int(factors.image_ids[entry])) for entry in factors.sets["cow"]]
    key = (LAYER, "raw")
    boxes = {key: main_boxes(maps, index)}
    counting = Counting(SetTruth(index, "cow"), {key: maps}, boxes, entries)
    sums = counting.run(Resources(workers=2))
    counts = sums.maps[key].objects
    assert bits(found).sum() == 10
    assert counts.iou({"object"}).tolist() == [4 / (4 + 4 + 2)]
    assert counts.accuracy({"object"}).tolist() == [6 / 12]
    assert counting.scored(sums) == {"images": 2, "object": 1, "parts": 0, "boxes": 2}


def test_implausible_and_damaged_masks_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = {"a": ALL, "b": NONE, "c": OBJECT, "d": OBJECT[1:]}
    root = tmp_path / "photographs"
    for name, drawn in masks.items():
        photo(root / f"s/{name}.jpg")
        save(root / f"masks/s/{name}.png", 255 * drawn)
    folder = execute(INDEX, IndexParams("folder", root=str(root)), tmp_path, Resources(workers=1))
    truth = SetTruth(ImageIndex.open(folder, tmp_path), "s")
    for image_id in range(4):
        truth.read(image_id)
    assert truth.doubtful == {
        "s/a.jpg": ["the annotated object (s) covers the whole image"],
        "s/b.jpg": ["the annotated object (s) covers nothing"],
    }
    assert truth.damaged == {
        "s/d.jpg": "masks/s/d.png: annotates 36x23 pixels, the image has 36x24"
    }
    write_failures(tmp_path, truth.damaged, truth.doubtful)
    said = capsys.readouterr().err
    assert "evaluate: 1 annotation is not scored: s/d.jpg: masks/s/d.png: annotates 36x23" in said
    assert "evaluate: 2 annotations are scored, but doubtful: s/a.jpg: the annotated object" in said
    table = Evaluation(tmp_path).failures
    assert table["scored"].tolist() == [False, True, True]
