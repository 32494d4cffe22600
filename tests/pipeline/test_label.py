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
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.factors import Factors
from stages.naming.labels import read_labels
from stages.naming.names import FactorNames, title
from tools import copied, draw, message, movable_project, run_in_process

Dff = Callable[..., Result]


pytestmark = pytest.mark.xdist_group("label")  # one worker makes its project


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = movable_project(tmp_path_factory.mktemp("evaluated"))
    photographs = project.parent / "photographs"
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
    run_in_process(project, *(stage.name for stage in STAGES[:6]))
    return project


@pytest.fixture
def evaluated(made: Path, project: Path) -> Path:
    """A project whose first image set has parts: the upper and lower half of its discs."""
    return copied(made, project.parent)


def table(project: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(project / "artifacts/evaluation" / f"{name}.parquet")


def test_a_form_has_a_place_for_every_factor_and_changes_nothing_while_empty(
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
    assert after["parts"].equals(before["parts"]), "coverage decides while nobody has"
    assert table(evaluated, "labels").empty
    again = dff("label")
    assert again.exit_code == 0
    assert "has a place for every factor already, and 0 of 6 have a name" in again.stdout


def test_automatic_labels_leave_out_the_images_they_come_from(evaluated: Path, dff: Dff) -> None:
    result = dff("label", "--auto", "--images", "7")
    assert result.exit_code == 0, result.output
    labels = read_labels(evaluated / "labels.yaml")
    blank = {1: ((),), 2: ((), ())}
    assert labels.sets["more discs"] == blank, "nothing but the whole is annotated on them"
    assert len(labels.seen["discs"]) == 6, "one is left to be scored"
    # what coverage says of just these six, the other one being left out
    (rest,) = {f"images/discs/{i}.png" for i in range(7)} - labels.seen["discs"]
    content = {"seen": {"discs": [rest]}, "sets": {"discs": {1: [None]}}}
    written = (evaluated / "labels.yaml").read_text()
    (evaluated / "labels.yaml").write_text(yaml.safe_dump(content))
    assert dff("evaluate").exit_code == 0
    cells = table(evaluated, "coverage").query("set == 'discs' and maps == 'raw'")
    for (k, factor), of_factor in cells.groupby(["k", "factor"]):
        covered = of_factor.query("coverage > 0.5 and part != 'object'")
        names = labels.sets["discs"][int(k)][int(factor)]
        assert set(names) <= set(covered["part"]) and len(names) <= 2
        assert bool(names) == bool(len(covered))
        if names:  # the one of the largest IoU comes first
            assert names[0] == covered.loc[covered["iou"].idxmax(), "part"]
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


def test_names_are_not_replaced_by_accident(evaluated: Path, dff: Dff) -> None:
    path = evaluated / "labels.yaml"
    path.write_text("sets: {discs: {1: [upper]}}\n")
    line = message(dff("label", "--auto"))
    assert "1 of 1 factors have a name already, which --auto would replace" in line
    result = dff("label")
    assert "brought up to date, 1 factors have a name" in result.stdout
    labels = read_labels(path)
    assert labels.sets["discs"] == {1: (("upper",),), 2: ((), ())}
    assert labels.factors and set(labels.directions) == {"discs", "more discs"}
    before = path.read_text()
    assert "has a place for every factor already, and 1 of 6 have a name" in dff("label").stdout
    assert path.read_text() == before
    assert dff("label", "--force").exit_code == 0
    assert read_labels(path).counts == (0, 6)


def names_of(project: Path, image_set: str = "discs") -> dict[int, tuple[list[str], list[float]]]:
    """By k, the names of a set's factors as evaluate published them, and their cosines."""
    evaluation = Evaluation.open(project / "artifacts/evaluation")
    names = FactorNames.from_record(evaluation.names)
    return {
        k: ([title(one) for one in named.names], list(named.cosines))
        for k, named in names.sets.get(image_set, {}).items()
    }


def test_names_survive_another_photograph_and_another_k(
    evaluated: Path, photographs: Path, dff: Dff
) -> None:
    assert dff("label").exit_code == 0
    path = evaluated / "labels.yaml"
    path.write_text(path.read_text().replace("2: [null, null]", "2: [Ärmel <b>, no]", 1))
    assert dff("evaluate").exit_code == 0
    assert names_of(evaluated) == {2: (["Ärmel <b>", "no"], [1.0, 1.0])}
    before = Factors.open(evaluated / "artifacts/factors.zarr").at("features.5").W

    draw(photographs / "images/discs/7.png", 7, (64, 64))
    for stage in STAGES:
        assert dff(stage.name).exit_code == 0
    after = Factors.open(evaluated / "artifacts/factors.zarr").at("features.5").W
    ((names, cosines),) = names_of(evaluated).values()
    assert sorted(names) == sorted(["Ärmel <b>", "no"])
    for place, name in enumerate(names):
        old = 1 + ["Ärmel <b>", "no"].index(name)  # behind the one of k = 1
        exact = float(before[0, old] @ after[0, 1 + place])
        assert 0.9 <= cosines[place] <= 1
        assert cosines[place] == pytest.approx(exact, abs=1e-3)
    shown = dff("show").stdout
    assert "names of discs, k = 2: " in shown and "Ärmel <b>" in shown and "(cosine " in shown
    page = (evaluated / "artifacts/report/pages/set-000.html").read_text(encoding="utf-8")
    assert "Ärmel &lt;b&gt;" in page and "Ärmel <b>" not in page
    result = dff("label")
    assert "brought up to date, 2 factors have a name" in result.stdout
    assert (
        read_labels(path).factors == Factors.open(evaluated / "artifacts/factors.zarr").fingerprint
    )

    params = evaluated / "params.yaml"
    params.write_text(params.read_text().replace("k: [1, 2]", "k: [1, 3]"))
    for stage in STAGES[2:6]:
        assert dff(stage.name).exit_code == 0, "names of another k refuse no run"
    found = names_of(evaluated)
    assert set(found) <= {3} and all(len(names) == 3 for names, _ in found.values())


def test_a_file_of_other_factors_without_directions_names_nothing(
    evaluated: Path, dff: Dff
) -> None:
    (evaluated / "labels.yaml").write_text("factors: abc\nsets: {discs: {1: [disc]}}\n")
    result = dff("evaluate")
    assert result.exit_code == 0
    assert "discs, k = 1: its names were given to other factors" in result.stderr
    assert names_of(evaluated) == {}


def test_without_parts_there_is_nothing_to_name_them_by(project: Path, dff: Dff) -> None:
    for stage in STAGES[:5]:
        assert dff(stage.name).exit_code == 0
    assert "no image set has two images with annotated parts" in message(dff("label", "--auto"))
    assert not read_labels(project / "labels.yaml").sets


def test_needs_the_maps(project: Path, dff: Dff) -> None:
    assert "run `dff index` first" in message(dff("label", "--auto"))
