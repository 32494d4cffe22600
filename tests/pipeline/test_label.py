"""`dff label`: a form to fill in, or names from coverage on a few images."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import Result

from pipeline.registry import STAGES
from stages.evaluate.labels import read_labels
from tools import message

Dff = Callable[..., Result]


@pytest.fixture
def evaluated(project: Path, photographs: Path, dff: Dff) -> Path:
    """A project whose first image set has parts: the upper and lower half of its discs."""
    for i in range(7):
        mask = np.array(Image.open(photographs / "masks/discs" / f"{i}.png"))
        middle = int(np.flatnonzero(mask.any(axis=1)).mean())
        halves = {"upper": mask.copy(), "lower": mask.copy()}
        halves["upper"][middle:] = False
        halves["lower"][:middle] = False
        for name, half in halves.items():
            path = photographs / "parts/discs" / str(i) / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(half).save(path)
    for stage in STAGES[:6]:
        assert dff(stage.name).exit_code == 0
    return project


def table(project: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(project / "artifacts/evaluation" / f"{name}.parquet")


def test_a_form_names_every_factor_and_changes_nothing_while_empty(
    evaluated: Path, dff: Dff
) -> None:
    before = table(evaluated, "scores")
    assert dff("label").stdout.strip() == str(evaluated / "labels.yaml")
    content = yaml.safe_load((evaluated / "labels.yaml").read_text())
    assert content["sets"] == {
        "discs": {1: [None], 2: [None, None]},
        "more discs": {1: [None], 2: [None, None]},
    }
    assert dff("evaluate").exit_code == 0
    after = table(evaluated, "scores")
    assert after["object_iou"].equals(before["object_iou"]), "no image was looked at"
    assert set(after["parts"]) == {""}, "nobody has named them"
    assert table(evaluated, "labels").empty


def test_automatic_labels_leave_out_the_images_they_come_from(evaluated: Path, dff: Dff) -> None:
    result = dff("label", "--auto", "--images", "7")
    assert result.exit_code == 0, result.output
    labels = read_labels(evaluated / "labels.yaml")
    assert list(labels.sets) == ["discs"], "nothing but the whole is annotated on the others"
    assert len(labels.seen["discs"]) == 6, "one is left to be scored"
    # what coverage says of just these six, the other one being left out
    (rest,) = {f"images/discs/{i}.png" for i in range(7)} - labels.seen["discs"]
    content = {"seen": {"discs": [rest]}, "sets": {"discs": {1: [None]}}}
    written = (evaluated / "labels.yaml").read_text()
    (evaluated / "labels.yaml").write_text(yaml.safe_dump(content))
    assert dff("evaluate").exit_code == 0
    cells = table(evaluated, "coverage").query("set == 'discs' and maps == 'raw'")
    for (k, factor), of_factor in cells.groupby(["k", "factor"]):
        expected = set(of_factor.query("coverage > 0.5 and part != 'object'")["part"])
        assert set(labels.sets["discs"][int(k)][int(factor)]) == expected
    (evaluated / "labels.yaml").write_text(written)

    result = dff("label", "--auto", "--images", "3", "--force")
    labels = read_labels(evaluated / "labels.yaml")
    assert len(labels.seen["discs"]) == 3
    found = table(evaluated, "labels")
    assert set(found["images"]) == {4}
    assert set(found["label"]) == {"/".join(n) for names in labels.sets["discs"].values()
                                   for n in names if n}  # fmt: skip
    for label in found["label"]:
        assert label in result.stdout
    unnamed = [k for k, names in labels.sets["discs"].items() if () in names]
    for k in unnamed:
        assert f"discs, k = {k}: no name for factor" in result.stdout


def test_a_part_that_only_labelled_images_show_is_no_mistake(
    evaluated: Path, photographs: Path, dff: Dff
) -> None:
    """It has no pixel on the others: its label cannot be scored, and the run goes on."""
    assert dff("label", "--auto", "--images", "3").exit_code == 0
    seen = sorted(read_labels(evaluated / "labels.yaml").seen["discs"])
    stem = Path(seen[0]).stem
    upper = photographs / "parts/discs" / stem / "upper.png"
    upper.with_name("rare.png").write_bytes(upper.read_bytes())
    for stage in STAGES[:6]:
        assert dff(stage.name).exit_code in (0, 1)  # the labels are of other factors now
    assert dff("label", "--auto", "--images", "3", "--force").exit_code == 0
    names = read_labels(evaluated / "labels.yaml").sets["discs"]
    path = evaluated / "labels.yaml"
    content = yaml.safe_load(path.read_text())
    content["sets"]["discs"][1] = ["rare"]
    path.write_text(yaml.safe_dump(content))
    assert dff("evaluate").exit_code == 0, names
    row = table(evaluated, "labels").query("label == 'rare'")
    assert len(row) == 2 and row["iou"].isna().all()


def test_images_with_masks_alone_are_not_looked_at(
    evaluated: Path, photographs: Path, dff: Dff
) -> None:
    shutil.rmtree(photographs / "parts/discs/0")
    shutil.rmtree(photographs / "parts/discs/4")
    for stage in STAGES[:6]:
        assert dff(stage.name).exit_code == 0
    assert dff("label", "--auto", "--images", "5").exit_code == 0
    seen = read_labels(evaluated / "labels.yaml").seen["discs"]
    assert len(seen) == 4
    assert not seen & {"images/discs/0.png", "images/discs/4.png"}


def test_labels_are_not_replaced_by_accident(evaluated: Path, dff: Dff) -> None:
    (evaluated / "labels.yaml").write_text("sets: {discs: {1: [upper]}}\n")
    for arguments in ([], ["--auto"]):
        assert "has labels already; --force replaces them" in message(dff("label", *arguments))
    assert "upper" in (evaluated / "labels.yaml").read_text()


def test_labels_of_other_factors_are_refused(evaluated: Path, dff: Dff) -> None:
    assert dff("label", "--auto").exit_code == 0
    path = evaluated / "params.yaml"
    path.write_text(path.read_text().replace("seeds: [0]", "seeds: [1]"))
    for stage in STAGES[2:5]:
        assert dff(stage.name).exit_code == 0
    line = message(dff("evaluate"))
    assert "labels.yaml: was written for other factors" in line
    assert dff("label", "--auto", "--force").exit_code == 0
    assert read_labels(evaluated / "labels.yaml").seed == 1


def test_without_parts_there_is_nothing_to_name_them_by(project: Path, dff: Dff) -> None:
    for stage in STAGES[:5]:
        assert dff(stage.name).exit_code == 0
    assert "no image set has two images with annotated parts" in message(dff("label", "--auto"))
    assert not read_labels(project / "labels.yaml").sets


def test_needs_the_maps(project: Path, dff: Dff) -> None:
    assert "run `dff index` first" in message(dff("label", "--auto"))
