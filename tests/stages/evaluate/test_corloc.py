"""Boxes against VOC's, by hand: 1-based and inclusive."""

import json
from pathlib import Path

import numpy as np
import pytest

from drawn import CORNER, LAYER, NOTHING, VOC_IMAGES, labels, voc, write_voc
from stages.evaluate.stage import EVALUATE


def test_corloc_by_hand(project: Path, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007")
    sheets = {
        # the box of the upper blob is rows 0-1, columns 0-3: the first cow's, IoU 1; a smaller
        # component below does not matter
        "000001": [["####", "####", "....", "#..."]],
        # an L: its box is the lower right 3 x 2, IoU 4 / 6 with the cow
        "000002": [["....", "..#.", "..##", "...#"]],
        "000003": [CORNER],
    }
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    drawn.evaluate()
    scores = drawn.table("scores.parquet", set="cow").iloc[0]
    # image 3 has no box of a cow: it does not count
    assert (scores["hits"], scores["boxed"], scores["corloc"]) == (2, 2, 100)
    assert np.isnan(scores["object_iou"])
    horse = drawn.table("scores.parquet", set="horse").iloc[0]
    assert (horse["hits"], horse["boxed"], horse["corloc"]) == (0, 1, 0)
    record = json.loads((project / EVALUATE.writes / "artifact.json").read_text())
    assert record["exclude"] == "none"
    metrics = json.loads((project / EVALUATE.writes / "metrics.json").read_text())
    assert metrics[LAYER]["mean over sets"]["k1"]["raw"] == {"corloc": 50.0, "overlap": 0.0}


def test_an_iou_of_just_a_half_is_no_hit(project: Path, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007")
    sheets = {
        # 8 pixels with the first cow's 8: rows 0-3, columns 0-1 share 4 of 12. The difficult
        # second cow counts as well: a box of row 3 and columns 0-1 shares 2 of its 4: just a half
        "000001": [["....", "....", "....", "##.."]],
        "000002": [NOTHING],
        "000003": [NOTHING],
    }
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    drawn.evaluate()
    row = drawn.table("scores.parquet", set="cow").iloc[0]
    assert (row["hits"], row["boxed"]) == (0, 2)
    sheets["000001"] = [["....", "....", "....", "###."]]  # 3 of 4
    again = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    again.evaluate()
    assert again.table("scores.parquet", set="cow").iloc[0]["hits"] == 1


def test_class_agnostic_corloc_takes_any_box(project: Path, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007")
    sheets = {
        "000001": [["....", "....", "....", "####"]],
        "000002": [["##..", "##..", "....", "...."]],
        "000003": [["##..", "##..", "....", "...."]],
    }
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), together=True)
    drawn.evaluate()
    row = drawn.table("scores.parquet").iloc[0]
    assert (row["set"], row["hits"], row["boxed"]) == ("trainval", 2, 3)
    record = json.loads((project / EVALUATE.writes / "artifact.json").read_text())
    assert record["exclude"] == "", "the rule leaves nobody out here"


def test_boxes_on_images_that_do_not_count_are_not_exported(project: Path, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007")
    sheets = {image_id: [CORNER] for image_id in VOC_IMAGES}
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    labels(project, "seen: {cow: [JPEGImages/000001.jpg]}\nsets: {cow: {1: [~]}}")
    folder = drawn.evaluate() / "detections" / f"{LAYER}-k1-seed0-raw"
    lines = (folder / "comp3_det_trainval_cow.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["000002", "000003"]


def test_k_above_1_takes_the_better_factor_and_says_so(project: Path, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007")
    row = ["####", "####", "....", "...."]
    sheets = {"000001": [NOTHING, row], "000002": [NOTHING, CORNER], "000003": [CORNER, NOTHING]}
    drawn = voc(project, sheets, [(2, 0, 0), (2, 0, 1)], root=str(root), exclude="none")
    drawn.evaluate()
    table = drawn.table("foreground.parquet", set="cow").set_index("rule")
    assert table.loc["truth", ["factor", "corloc"]].tolist() == [1, 100]


def test_detections_in_vocs_and_cocos_formats(project: Path, tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask
    from pycocotools.coco import COCO

    root = write_voc(tmp_path / "VOC2007")
    sheets = {
        "000001": [["####", "####", "....", "#..."]],
        "000002": [["....", "..#.", "..##", "...#"]],
        "000003": [NOTHING],
    }
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    folder = drawn.evaluate() / "detections"
    lines = (folder / f"{LAYER}-k1-seed0-raw" / "comp3_det_trainval_cow.txt").read_text()
    # 1-based, inclusive: left, top, right, bottom
    assert lines.splitlines() == [
        "000001 0.500000 1.0 1.0 4.0 2.0",
        "000002 0.250000 3.0 2.0 4.0 4.0",
    ]
    coco = COCO(str(folder / "images.json"))
    found = coco.loadRes(str(folder / f"{LAYER}-k1-seed0-raw.coco.json"))
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    assert sorted(names.values()) == ["cow", "horse"]
    hits = 0
    for one in found.loadAnns(found.getAnnIds()):
        mine = coco.getAnnIds(imgIds=[one["image_id"]], catIds=[one["category_id"]])
        truth = [annotation["bbox"] for annotation in coco.loadAnns(mine)]
        overlap = coco_mask.iou([one["bbox"]], truth, [0] * len(truth)) if truth else np.zeros(1)
        hits += bool((np.asarray(overlap) > 0.5).any())
    counted = drawn.table("scores.parquet", set="cow").iloc[0]["hits"]
    assert hits == counted == 2
    assert len(coco.getAnnIds()) == 4, "three cows' boxes and one horse's"


def test_all_boxes_ranked_by_hand(project: Path, tmp_path: Path) -> None:
    """Two cows count; the difficult one in the last row of image 1 need not be found."""
    root = write_voc(tmp_path / "VOC2007")
    sheets = {
        # 7 pixels: the first cow, IoU 1; 4 pixels: the difficult one, spared
        "000001": [["####", "###.", "....", "####"]],
        # 3 pixels at the upper left: a false alarm; 1 pixel of the cow's 4: none either
        "000002": [["##..", "#...", "....", "...#"]],
        "000003": [CORNER],  # has no box of a cow: it does not count
    }
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    drawn.evaluate()
    names = ["box_ap", "box_recall", "box_precision"]
    row = drawn.table("foreground.parquet", set="cow", rule="shape").iloc[0]
    # hit, spared, false, false: precision 1 at recall 1 / 2, and no more
    assert row[names].tolist() == [50, 50, 100]
    # the second cow, of 4 pixels, behind a false alarm of 6: hit, false, hit; (1 + 2 / 3) / 2
    sheets["000002"] = [["####", "#...", "#.##", "..##"]]
    again = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    again.evaluate()
    row = again.table("foreground.parquet", set="cow", rule="shape").iloc[0]
    assert row[names].tolist() == pytest.approx([500 / 6, 100, 200 / 3])
    quality = again.table("quality.csv", set="cow").iloc[0]
    assert quality[names].tolist() == quality[[f"shape_{name}" for name in names]].tolist()
    horse = again.table("foreground.parquet", set="horse").iloc[0]
    assert horse[names].tolist() == [0, 0, 0]
