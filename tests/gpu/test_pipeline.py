"""The whole pipeline on a GPU."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpu import DEVICE, needs_cuda
from pipeline.init import write_params
from tools import ROOT

SCORES = {"object": "object_iou", "best part": "part_iou"}


def readme_scores() -> dict[tuple[str, str, str], float]:
    """(kind of maps, k, score) -> IoU in per cent, from the table in README.md."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    at = next(i for i, line in enumerate(lines) if re.match(r"\| *\| k = \d", line))
    header, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines[at : at + 4]
    )
    columns = []
    for cell in header[1:]:
        k, score = cell.split(", ")
        columns.append((k.replace("k = ", "k"), SCORES[score]))
    assert [row[0] for row in rows] == ["heat maps, 75th percentile", "refined"]
    return {
        (kind, *column): float(cell)
        for kind, row in zip(("raw", "refined"), rows, strict=True)
        for column, cell in zip(columns, row[1:], strict=True)
    }


def run(*arguments: str) -> str:
    """`dff` in a process of its own, by a machine that has it not installed."""
    command = [sys.executable, "-m", "pipeline", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_cuda
def test_the_demo_has_the_scores_of_the_readme(tmp_path: Path) -> None:
    write_params(tmp_path, "demo", None)
    printed = run("run", "--project", str(tmp_path), "--device", DEVICE.partition(":")[0])
    assert (tmp_path / "artifacts/report/index.html").exists() and "report: " in printed
    metrics = json.loads((tmp_path / "artifacts/evaluation/metrics.json").read_text())
    means = metrics["conv4_2"]["mean over sets"]
    expected = readme_scores()
    assert len(expected) == 6
    for (kind, k, score), value in expected.items():
        assert means[k][kind][score] == pytest.approx(value, abs=0.3), (kind, k, score)
    # the device is no param: nothing has to be done again without it
    states = run("status", "--project", str(tmp_path))
    assert "fresh" in states and "stale" not in states
