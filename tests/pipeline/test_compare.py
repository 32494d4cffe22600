"""`dff run` in a folder without DVC, and `dff compare` of several such folders."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
from PIL import Image

from pipeline.registry import STAGES
from tools import edit, message, run_dff


def run(project: Path) -> "subprocess.CompletedProcess[str]":
    """`dff run` as a user types it."""
    command = [sys.executable, "-m", "pipeline", "run", "--project", str(project)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run_stages(project: Path) -> Path:
    """The small project with all its artifacts; in this process, which has its libraries loaded."""
    for stage in STAGES:
        assert run_dff(stage.name, "--project", str(project)).exit_code == 0
    return project


def test_run_needs_no_dvc_and_repeats_nothing(project: Path) -> None:
    stages = ["index", "extract", "factorize", "heatmaps", "refine", "evaluate", "report"]
    # the first ones here: a process each takes seconds to load its libraries, and of all seven
    # the wheel's test makes some
    for name in stages[:4]:
        assert run_dff(name, "--project", str(project)).exit_code == 0
    result = run(project)
    assert result.returncode == 0, result.stderr
    fresh = [line for line in result.stderr.splitlines() if line.endswith(": fresh")]
    assert fresh == [f"{name}: fresh" for name in stages[:4]]
    finished = project
    page = finished / "artifacts/report/index.html"
    first = page.stat().st_mtime_ns
    result = run(finished)
    assert result.returncode == 0 and "object IoU" in result.stdout
    assert result.stderr.splitlines() == [f"{name}: fresh" for name in stages]
    assert page.stat().st_mtime_ns == first

    edit(finished, "images: 12", "images: 3")
    result = run(finished)
    assert result.returncode == 0
    assert "evaluate: fresh" in result.stderr and "report: fresh" not in result.stderr

    edit(finished, "k: [1, 2]", "k: [500]")
    result = run(finished)
    assert result.returncode == 1 and result.stdout == ""
    assert "more than the 128 channels" in result.stderr and "the run stopped" in result.stderr


def test_compares_networks(project: Path, tmp_path: Path) -> None:
    finished = run_stages(project)
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    out = tmp_path / "out" / "figure4"
    line = message(run_dff("compare", str(finished), str(other), "--out", str(out)))
    assert "squeezenet1_1 features.5: two projects have this network, layer and size" in line
    assert not out.parent.exists()

    edit(other, "layers: [features.5]", "layers: [features.2]")
    run_stages(other)
    result = run_dff("compare", str(finished), str(other), "--out", str(out))
    assert result.exit_code == 0
    table = pd.read_csv(out.with_suffix(".csv"))
    assert set(table["layer"]) == {"squeezenet1_1 features.5", "squeezenet1_1 features.2"}
    assert len(table) == 2 * 2 * 2  # projects, maps, k
    expected = pd.read_csv(finished / "artifacts/evaluation/figure4.csv")
    mine = table[table["layer"] == "squeezenet1_1 features.5"].reset_index(drop=True)
    assert mine["part_iou"].equals(expected["part_iou"])
    assert "squeezenet1_1 features.2" in result.stdout
    with Image.open(out.with_suffix(".png")) as picture:
        assert min(picture.size) > 400

    edit(other, "layers: [features.2]", "layers: [features.5]")
    edit(other, "  size: 64", "  size: [48, 64]")
    run_stages(other)
    result = run_dff("compare", str(finished), str(other), "--out", str(out))
    assert result.exit_code == 0
    table = pd.read_csv(out.with_suffix(".csv"))
    names = [f"squeezenet1_1 features.5, {seen} px" for seen in ("64", "48 and 64")]
    assert table["layer"].unique().tolist() == names


def test_a_name_without_a_suffix_is_meant(tmp_path: Path) -> None:
    line = message(run_dff("compare", str(tmp_path), "--out", "/"))
    assert "must be a file's name" in line


def test_needs_projects_that_were_run(tmp_path: Path) -> None:
    line = message(run_dff("compare", str(tmp_path)))
    assert "artifacts/evaluation: not there yet" in line and f"dff run --project {tmp_path}" in line
