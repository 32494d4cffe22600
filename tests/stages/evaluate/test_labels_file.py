"""labels.yaml: names instead of coverage, and what is wrong with some."""

from pathlib import Path

import pandas as pd
import pytest

from drawn import CORNER, VOC_IMAGES, Drawn, labels, voc, write_voc
from stages.artifacts.evaluation import Evaluation
from stages.evaluate.stage import EVALUATE
from stages.frame.errors import StageError


def test_labels_cannot_be_scored_by_boxes(project: Path, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007")
    sheets = {image_id: [CORNER] for image_id in VOC_IMAGES}
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    labels(project, "sets: {cow: {1: [whatever]}}")
    drawn.evaluate()
    assert drawn.table("labels.parquet").empty
    assert drawn.table("scores.parquet")["parts_iou"].isna().all()


def test_labels_are_used_instead_of_coverage(drawn: Drawn) -> None:
    labels(drawn.project, "sets:\n  cows:\n    2: [head, [leg, head]]\n")
    drawn.evaluate()
    scores = drawn.table("scores.parquet")
    assert scores["parts"].tolist() == ["head/leg", "head", "leg/head"]
    # factor 1 with head or leg: it shares one pixel of b: 1 / (20 + 7 - 1)
    assert scores["parts_iou"].tolist() == pytest.approx([700 / 14, 400 / 7, 100 / 26])
    table = drawn.table("labels.parquet")
    assert table[["label", "factors", "images"]].to_numpy().tolist() == [
        ["head", "0", 2],
        ["leg/head", "1", 2],
    ]
    assert table["iou"].tolist() == pytest.approx([400 / 7, 100 / 26])


def test_factors_of_one_label_count_together(drawn: Drawn) -> None:
    labels(drawn.project, "sets: {cows: {2: [object, object]}}")
    drawn.evaluate()
    row = drawn.table("labels.parquet").iloc[0]
    # united masks: 6 + 4 in a, 16 in b; 4 + 4 of them on the object's 12: 8 / (26 + 12 - 8)
    assert (row["factors"], row["iou"]) == ("0/1", pytest.approx(800 / 30))


def test_images_that_were_looked_at_do_not_count(drawn: Drawn) -> None:
    labels(drawn.project, "seen: {cows: [images/a.png]}\nsets: {cows: {1: [object], 2: [head, ~]}}")
    drawn.evaluate()
    scores = drawn.table("scores.parquet")
    assert scores["object_iou"].tolist() == pytest.approx([50, 0, 25])
    assert scores["parts"].tolist() == ["object", "head", ""]
    assert drawn.table("labels.parquet")["images"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sets: {cows: {2: [head]}}", "sets.cows.2: must be a list of 2 names"),
        ("sets: [cows]", "sets: must have an entry"),
        ("seen: {cows: 3}\nsets: {cows: {1: [~]}}", "seen.cows: must be a list"),
        ("sats: {}", "sats: unknown key, did you mean 'sets'?"),
        ("[cows]", "must have the keys"),
        ("sets: {", "cannot be read (not valid YAML in line 1: "),
        (
            "sets:\n  cows: {1: [a]}\n  'cows': {1: [b]}",
            "cannot be read (not valid YAML in line 3: 'cows' stands there twice)",
        ),
        ("sets: {cows: {1: [a], 01: [b]}}", "sets.cows.01: 1 stands there twice"),
        ("[" * 5000, "cannot be read"),
        ("seed: x\nsets: {cows: {1: [head]}}", "seed: 'x' is not a whole number"),
    ],
)
def test_wrong_labels_are_one_line(drawn: Drawn, text: str, expected: str) -> None:
    labels(drawn.project, text)
    with pytest.raises(StageError) as caught:
        drawn.evaluate()
    assert str(caught.value).startswith(str(drawn.project / "labels.yaml"))
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert not (drawn.project / EVALUATE.writes).exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sets: {cows: {2: [hed, leg]}}", "so without an IoU: 'hed' (did you mean 'head'?)"),
        ("sets: {cows: {3: [head, leg, head]}}", "sets.cows: k 3 is not there"),
        ("sets: {cow: {1: [head]}}", "image set 'cow' is not there, so it is left alone; did you"),
        ("layer: fc\nsets: {cows: {1: [head]}}", "layer 'fc' is not there"),
        ("seed: 5\nsets: {cows: {1: [head]}}", "given to other factors"),
        ("factors: abc\nsets: {cows: {1: [head]}}", "given to other factors"),
        ("seen: {cows: [images/c.png]}\nsets: {cows: {1: [~]}}", "image 'images/c.png' is not"),
        ("seen: {dogs: [images/a.png]}\nsets: {cows: {1: [~]}}", "seen: image set 'dogs' is not"),
    ],
)
def test_names_that_fit_nothing_refuse_no_run(drawn: Drawn, text: str, expected: str) -> None:
    labels(drawn.project, text)
    folder = drawn.evaluate()
    assert expected in " ".join(Evaluation.open(folder).names["notes"])


def test_words_that_are_no_parts_have_no_iou(drawn: Drawn) -> None:
    drawn.evaluate()
    before = drawn.table("scores.parquet")
    labels(drawn.project, "sets: {cows: {1: [Kopf], 2: [7, 7]}}")
    folder = drawn.evaluate()
    pd.testing.assert_frame_equal(drawn.table("scores.parquet"), before)
    table = drawn.table("labels.parquet")
    assert table["label"].tolist() == ["Kopf", "7"] and table["iou"].isna().all()
    assert table["factors"].tolist() == ["0", "0/1"], "two concepts of one name are a union"
    assert Evaluation.open(folder).names["sets"][1][:3] == ["cows", 2, [["7"], ["7"]]]


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "sets: {}\n", "seen: {cows: [images/a.png]}\n"]
)
def test_empty_labels_are_none(drawn: Drawn, text: str) -> None:
    before = (drawn.evaluate() / "artifact.json").read_text()
    scores = drawn.table("scores.parquet")
    labels(drawn.project, text)
    assert (drawn.evaluate() / "artifact.json").read_text() == before
    assert drawn.table("scores.parquet").equals(scores)
    assert drawn.table("labels.parquet").empty
