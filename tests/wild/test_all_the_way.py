"""From a folder as people have it to the report: what was left out is said, and scores of how many."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import Result

from pipeline.params import read_params
from pipeline.registry import STAGES
from pipeline.results import open_results
from stages.artifacts.evaluation import Evaluation
from stages.naming.labels import read_labels
from tools import edit, run_dff, small_project
from wild import OBJECT, mask, photo, save, text

Dff = Callable[..., Result]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Six photographs, two of them with a mask that counts."""
    root = tmp_path / "photographs"
    for i in range(6):
        photo(root / f"images/horse/{i}.jpg", seed=i)
    mask(root / "masks/horse/0_mask.PNG")
    mask(root / "masks/horse/1.png", OBJECT | True)
    save(root / "masks/horse/2.png", 255 * OBJECT[1:])
    save(root / "masks/horse/3.jpg", 255 * OBJECT)
    mask(root / "masks/horse/zz.png")
    text(root / "images/horse/notes.txt")
    return root


def test_what_is_left_out_is_in_the_terminal_the_tables_and_the_report(
    project: Path, dff: Dff
) -> None:
    said = {
        stage: dff(stage).output
        for stage in (
            "index",
            "extract",
            "factorize",
            "heatmaps",
            "refine",
            "evaluate",
            "explain",
            "report",
        )
    }
    assert "index: 1 file left out: 1 .txt" in said["index"]
    assert "index: 1 annotation belongs to no image: masks/horse/zz.png" in said["index"]
    assert "evaluate: 2 annotations are not scored: images/horse/2.jpg: " in said["evaluate"]
    assert "evaluate: 1 annotation is scored, but doubtful: images/horse/1" in said["evaluate"]
    artifacts = project / "artifacts"
    left_out = pd.read_parquet(artifacts / "index" / "failures.parquet")
    assert left_out["kind"].tolist() == ["file", "annotation"]
    evaluation = Evaluation.open(artifacts / "evaluation")
    assert evaluation.scored["horse"] == {"images": 6, "object": 2, "parts": 0, "boxes": 0}
    assert evaluation.failures["scored"].tolist() == [False, False, True]
    assert evaluation.metrics["unreadable_images"] == 0
    page = (artifacts / "report" / "index.html").read_text(encoding="utf-8")
    names = [*left_out["name"], *evaluation.failures["name"]]
    assert len(names) == 5 and all(f"<td>{name}</td>" in page for name in names)
    assert "2/6 images" in page
    assert "2/6" in dff("show").output


NAMES = ["NA", "nan", "null", "None", "010", "1e3", "true", "~", "-", "#x", "=1+1", 'q"t', "a\rb"]


def test_sets_are_called_what_their_folders_are(tmp_path: Path) -> None:
    """From the photographs to the tables, the names of factors, and what a notebook is given."""
    for i, name in enumerate(NAMES):
        photo(tmp_path / "photographs/images" / name / "0.png", seed=i)
        mask(tmp_path / "photographs/masks" / name / "0.png")
    project = small_project(tmp_path / "project", tmp_path / "photographs")
    edit(project, "k: [1, 2]", "k: [2]")
    for command in [stage.name for stage in STAGES] + ["label"]:
        result = run_dff(command, "--project", str(project))
        assert result.exit_code == 0, result.exception
    expected = sorted(NAMES)
    assert sorted(open_results(project).sets) == expected
    assert sorted(read_labels(project / "labels.yaml").sets) == expected
    evaluation = Evaluation.open(project / "artifacts/evaluation")
    assert sorted(evaluation.scored) == expected
    for file in sorted(evaluation.folder.glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as lines:
            written = {row["set"] for row in csv.DictReader(lines) if "set" in row}
        table = pd.read_parquet(file.with_suffix(".parquet"))
        if "set" in table and len(table):
            assert sorted(written) == sorted(set(table["set"])) == expected, file.name
    for chosen in NAMES:
        text = (project / "params.yaml").read_text(encoding="utf-8")
        line = next(line for line in text.splitlines() if line.startswith("  sets: "))
        edit(project, line, f"  sets: [{json.dumps(chosen)}]")
        assert read_params(project)["index"].sets == (chosen,)
