"""From a folder as people have it to the report: what was left out is said, and scores of how many."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import Result

from stages.artifacts.evaluation import Evaluation
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
        for stage in ("index", "extract", "factorize", "heatmaps", "refine", "evaluate", "report")
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
