"""evaluate on maps drawn by hand: every number can be counted on a sheet of squared paper."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from drawn import HEAD, WHOLE, Drawn, mask, photograph
from stages.datasets import GroundTruth
from stages.datasets.folder import FolderDataset
from stages.evaluate.params import EvaluateParams
from stages.evaluate.stage import EVALUATE
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.index.params import IndexParams
from stages.index.stage import INDEX


def test_scores_by_hand(drawn: Drawn) -> None:
    drawn.evaluate()
    scores = drawn.table("scores.parquet")
    # the object: 8 + 4 pixels. k = 1: masks of 12 + 2, 8 + 2 of them inside: 10 / (14 + 12 - 10).
    # k = 2, factor 0: masks of 6 + 0, 4 inside: 4 / 14. Factor 1: 4 + 16, 0 + 4 inside: 4 / 28.
    assert scores["object_iou"].tolist() == pytest.approx([1000 / 16, 400 / 14, 400 / 28])
    assert scores["object_precision"].tolist() == pytest.approx([1000 / 14, 400 / 6, 400 / 20])
    # of 32 pixels wrong: 4 + 2; 2 + 8; 16 + 8
    assert scores["object_accuracy"].tolist() == pytest.approx([2600 / 32, 2200 / 32, 800 / 32])
    # k = 1: head is 4 + 1 of its 14, 5 / 14; leg 3 / 14. Factor 0: head 4 of 6 and 5, 4 / 7;
    # leg 1 of 6 and 3, 1 / 8. Factor 1: head 1 of 20 and 5, 1 / 24; leg 0.
    assert scores["best_part"].tolist() == ["head", "head", "head"]
    assert scores["best_part_iou"].tolist() == pytest.approx([500 / 14, 400 / 7, 100 / 24])
    # coverage above a half: k = 1 head 5/5, leg 3/3, background 4/20; factor 0: head 4/5, leg 1/3,
    # background 2/20; factor 1: head 1/5, leg 0, background (4 + 12)/20
    assert scores["parts"].tolist() == ["head/leg", "head", "background"]
    # head or leg: 6 + 1 pixels (they share one), all inside the 14. head: 4 / 7. background: 16/24.
    assert scores["parts_iou"].tolist() == pytest.approx([700 / 14, 400 / 7, 1600 / 24])
    assert scores["corloc"].isna().all() and (scores["boxed"] == 0).all()


def test_coverage_table_by_hand(drawn: Drawn) -> None:
    drawn.evaluate()
    cells = drawn.table("coverage.parquet", k=2, factor=0)
    assert cells["part"].tolist() == ["object", "head", "leg", "background"]
    assert cells["coverage"].tolist() == pytest.approx([4 / 12, 4 / 5, 1 / 3, 2 / 20])
    assert cells["iou"].tolist() == pytest.approx([400 / 14, 400 / 7, 100 / 8, 200 / 24])


def test_coverage_must_be_exceeded(drawn: Drawn) -> None:
    """Ties: a coverage of just the threshold does not count."""
    drawn.evaluate(coverage=0.8)
    assert drawn.table("scores.parquet")["parts"].tolist() == ["head/leg", "", ""]


def test_quality_is_the_mean_over_factors_without_the_background(drawn: Drawn) -> None:
    drawn.evaluate()
    quality = drawn.table("quality.csv")
    assert quality["part_iou"].tolist() == pytest.approx([500 / 14, (400 / 7 + 100 / 24) / 2])
    assert quality["object_iou"].tolist() == pytest.approx([1000 / 16, 400 / 14])
    assert quality["seeds"].tolist() == [1, 1]
    assert quality[["object_iou_std", "part_iou_std"]].isna().all(axis=None), "of one seed"


def test_the_foreground_by_two_rules(drawn: Drawn) -> None:
    drawn.evaluate()
    table = drawn.table("foreground.parquet", k=2).set_index("rule")
    assert table.loc["truth", "factor"] == 0
    # factor 0 touches 4 of 12 border pixels of a with 6 of 16; factor 1 fills b and an edge of a
    scores = drawn.table("scores.parquet", k=2)
    assert scores["border_contact"].tolist() == pytest.approx(
        [4 / 24 / (6 / 32), 16 / 24 / (20 / 32)]
    )
    assert table.loc["shape", "factor"] == 0
    assert table.loc["shape", "object_iou"] == pytest.approx(400 / 14)
    assert drawn.table("quality.csv")["shape_right"].tolist() == [100, 100]


def test_the_foreground_by_shape_is_wrong(project: Path, tmp_path: Path) -> None:
    """Of two seeds one: a line at the border is the object, and a square inside is not."""
    root = tmp_path / "cows"
    photograph(root / "images" / "a.png", (4, 4))
    line, square = ["####", "....", "....", "...."], ["....", ".##.", ".##.", "...."]
    mask(root / "masks" / "a.png", line)
    execute(INDEX, IndexParams(dataset="folder", root=str(root)), project, Resources())
    columns = [(2, 0, 0), (2, 0, 1), (2, 1, 0), (2, 1, 1)]
    drawn = Drawn(project, columns, {("cows", "images/a.png"): [line, square, line, line]})
    drawn.publish()
    drawn.evaluate()
    row = drawn.table("quality.csv").iloc[0]
    assert (row["shape_right"], row["shape_object_iou"], row["object_iou"]) == (50, 50, 100)


def test_all_masks_together_by_hand(drawn: Drawn) -> None:
    drawn.evaluate()
    table = drawn.table("partitions.parquet").set_index("k")
    # k = 1: head 5/14, leg without a factor. k = 2: factor 0 head 4/7, factor 1 leg 0, or factor 1
    # head 1/24, factor 0 leg 1/8.
    assert table["matched_iou"].tolist() == pytest.approx([500 / 28, 400 / 14])
    # in one part alone: 3 pixels of the head in a and 1 in b, 2 of the leg (they share one).
    # k = 1: all in the mask. k = 2: those of the head in factors 0, 0, 0, 1; of the leg in none.
    truth = ["head"] * 4 + ["leg"] * 2
    found = [0, 0, 0, 1, 2, 2]
    assert table.loc[1, ["nmi", "ari"]].tolist() == [0, 0]
    assert table.loc[2, "nmi"] == pytest.approx(100 * normalized_mutual_info_score(truth, found))
    assert table.loc[2, "ari"] == pytest.approx(100 * adjusted_rand_score(truth, found))
    # k = 2: 6 and 20 pixels, none in both
    assert table["overlap"].tolist() == [0, 0]
    quality = drawn.table("quality.csv").set_index("k")
    for name in ("matched_iou", "nmi", "ari", "overlap"):
        assert quality[name].tolist() == pytest.approx(table[name].tolist())


@pytest.mark.parametrize(
    ("within", "of_two"),
    [
        (np.nan, None),  # no k = 1 to measure by
        ([1, 0.7, 0.2], 400 / 14),  # factor 0 alone
        ([1, 0.7, 0.9], 800 / 30),  # both: 6 + 20 pixels that do not meet, 8 of them of the 12
        ([1, 0.1, 0.3], 400 / 28),  # the larger share always is of the figure
    ],
)
def test_the_figure_by_hand(drawn: Drawn, within: Any, of_two: float | None) -> None:
    drawn.within = within
    drawn.publish()
    drawn.evaluate()
    found = drawn.table("quality.csv").set_index("k")["figure_iou"]
    assert found[1] == pytest.approx(1000 / 16), "of k = 1 the one factor there is"
    assert np.isnan(found[2]) if of_two is None else found[2] == pytest.approx(of_two)


def test_overlap_without_any_annotation(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "cows"
    photograph(root / "images" / "a.png", (4, 4))
    execute(INDEX, IndexParams(dataset="folder", root=str(root)), project, Resources())
    sheets = [WHOLE["a"], ["####", "....", "....", "...."]]
    drawn = Drawn(project, [(2, 0, 0), (2, 0, 1)], {("cows", "images/a.png"): sheets})
    drawn.publish()
    drawn.evaluate()
    row = drawn.table("quality.csv").iloc[0]
    assert row["overlap"] == 50, "four of eight pixels"
    assert row[["matched_iou", "nmi", "ari", "object_iou"]].isna().all()
    assert drawn.table("scores.parquet").empty


def test_seeds_give_means_and_deviations(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "cows"
    photograph(root / "images" / "a.png", (4, 4))
    mask(root / "masks" / "a.png", WHOLE["a"])
    execute(INDEX, IndexParams(dataset="folder", root=str(root)), project, Resources())
    sheets = [WHOLE["a"], ["####", "....", "....", "...."]]
    drawn = Drawn(project, [(1, 0, 0), (1, 7, 0)], {("cows", "images/a.png"): sheets})
    drawn.publish()
    drawn.evaluate()
    row = drawn.table("quality.csv").iloc[0]
    # 100 and 50 per cent: mean 75, standard deviation 25
    assert (row["object_iou"], row["object_iou_std"], row["seeds"]) == (75, 25, 2)
    assert row[["part_iou", "part_iou_std"]].isna().all(), "there are no parts"
    # in Figure 4 the object is the part then
    figure4 = drawn.table("figure4.csv").iloc[0]
    assert (figure4["part_iou"], figure4["part_iou_std"], figure4["sets"]) == (75, 25, 1)


def test_figure_4_deviates_over_seeds_not_over_sets(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "animals"
    for name in ("cows", "dogs"):
        photograph(root / "images" / name / "a.png", (4, 4))
        mask(root / "masks" / name / "a.png", WHOLE["a"])
    execute(INDEX, IndexParams(dataset="folder", root=str(root)), project, Resources())
    half, full = ["####", "....", "....", "...."], WHOLE["a"]
    maps = {
        ("cows", "images/cows/a.png"): [full, half],
        ("dogs", "images/dogs/a.png"): [half, full],
    }
    drawn = Drawn(project, [(1, 0, 0), (1, 1, 0)], maps)
    drawn.publish()
    drawn.evaluate()
    row = drawn.table("figure4.csv").iloc[0]
    assert (row["part_iou"], row["part_iou_std"], row["sets"], row["seeds"]) == (75, 0, 2, 2)


def test_a_damaged_annotation_is_reported_and_does_not_count(drawn: Drawn, tmp_path: Path) -> None:
    path = tmp_path / "cows/masks/a.png"
    path.write_bytes(path.read_bytes()[:40])
    execute(
        INDEX,
        IndexParams(dataset="folder", root=str(tmp_path / "cows")),
        drawn.project,
        Resources(),
    )
    drawn.publish()
    drawn.evaluate()
    record = json.loads((drawn.project / EVALUATE.writes / "artifact.json").read_text())
    assert list(record["damaged_annotations"]) == ["images/a.png"]
    assert "masks/a.png" in record["damaged_annotations"]["images/a.png"]
    # image b alone: 2 of 4 pixels
    assert drawn.table("scores.parquet", k=1)["object_iou"].tolist() == [50]


def test_whichever_thread_is_first_the_record_is_the_same(
    drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        path = tmp_path / f"cows/masks/{name}.png"
        path.write_bytes(path.read_bytes()[:40])
    params = IndexParams(dataset="folder", root=str(tmp_path / "cows"), max_failed=1.0)
    execute(INDEX, params, drawn.project, Resources())
    drawn.publish()
    read, b_was_read = FolderDataset.ground_truth, threading.Event()

    def b_first(self: FolderDataset, name: str, image_set: str) -> GroundTruth:
        try:
            if name.endswith("a.png"):
                assert b_was_read.wait(10)
            return read(self, name, image_set)
        finally:
            if name.endswith("b.png"):
                b_was_read.set()

    monkeypatch.setattr(FolderDataset, "ground_truth", b_first)
    drawn.evaluate()
    record = json.loads((drawn.project / EVALUATE.writes / "artifact.json").read_text())
    assert list(record["damaged_annotations"]) == ["images/a.png", "images/b.png"]


def test_an_image_without_parts_says_nothing_of_parts(drawn: Drawn, tmp_path: Path) -> None:
    """It counts for the object, and not as one on which every factor misses its part."""
    shutil.rmtree(tmp_path / "cows/parts/b")
    params = IndexParams(dataset="folder", root=str(tmp_path / "cows"))
    execute(INDEX, params, drawn.project, Resources())
    drawn.publish()
    drawn.evaluate()
    scores = drawn.table("scores.parquet", k=1)
    assert scores["object_iou"].tolist() == pytest.approx([1000 / 16])
    # image a alone: head 4 of the mask's 12 pixels; head or leg 5 of them; background 4/8 covered
    assert scores["best_part_iou"].tolist() == pytest.approx([400 / 12])
    assert scores["parts"].tolist() == ["head/leg"]
    assert scores["parts_iou"].tolist() == pytest.approx([600 / 12])
    cells = drawn.table("coverage.parquet", k=1).set_index("part")["coverage"]
    assert cells["background"] == pytest.approx(4 / 8)


def test_a_part_called_background_is_no_part_of_the_object(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "cows"
    photograph(root / "images" / "a.png", (4, 4))
    mask(root / "parts" / "a" / "head.png", HEAD["a"])
    mask(root / "parts" / "a" / "background.png", ["....", "....", "####", "####"])
    execute(INDEX, IndexParams(dataset="folder", root=str(root)), project, Resources())
    drawn = Drawn(project, [(1, 0, 0)], {("cows", "images/a.png"): [HEAD["a"]]})
    drawn.publish()
    drawn.evaluate()
    row = drawn.table("scores.parquet").iloc[0]
    assert (row["object_iou"], row["best_part"], row["parts"]) == (100, "head", "head")


def test_workers_change_nothing(drawn: Drawn) -> None:
    def contents(workers: int) -> dict[str, bytes]:
        out = execute(EVALUATE, EvaluateParams(), drawn.project, Resources(workers=workers))
        return {p.name: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}

    assert contents(1) == contents(3)
