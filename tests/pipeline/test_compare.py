"""`dff run` in a folder without DVC, and `dff compare` of several such folders."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pipeline.dvc import uses_dvc
from pipeline.registry import STAGES
from tools import ROOT, edit, message, run_dff, run_in_process

pytestmark = pytest.mark.xdist_group("results")  # one worker makes its project


def run(project: Path) -> "subprocess.CompletedProcess[str]":
    """`dff run` as a user types it."""
    command = [sys.executable, "-m", "pipeline", "run", "--project", str(project)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_run_needs_no_dvc_and_repeats_nothing(reported: Path, tmp_path: Path) -> None:
    """Begun by hand: a run from nothing is seven processes, and there is one in test_dvc_run.py."""
    project = tmp_path / "project"
    shutil.copytree(reported, project)
    page = project / "artifacts/report/index.html"
    first = page.stat().st_mtime_ns
    result = run(project)
    assert result.returncode == 0 and "object IoU" in result.stdout
    assert result.stderr.splitlines() == [f"{stage.name}: fresh" for stage in STAGES]
    assert page.stat().st_mtime_ns == first

    edit(project, "coverage: 0.5", "coverage: 0.6")
    result = run(project)
    assert result.returncode == 0
    assert "refine: fresh" in result.stderr and "evaluate: fresh" not in result.stderr
    assert "report: fresh" not in result.stderr, "it is stale once there is another evaluation"
    assert page.stat().st_mtime_ns > first

    edit(project, "k: [1, 2]", "k: [500]")
    result = run(project)
    assert result.returncode == 1 and result.stdout == ""
    assert "more than the 128 channels" in result.stderr and "the run stopped" in result.stderr


def test_a_checkout_without_git_runs_without_dvc(reported: Path, tmp_path: Path) -> None:
    """As a ZIP download is one."""
    project = tmp_path / "project"
    shutil.copytree(reported, project)
    (project / ".dvc").mkdir()
    (project / "dvc.yaml").write_text("stages: {}\n")
    assert not uses_dvc(project)
    done = run(project)
    assert done.returncode == 0, done.stderr
    first, *others = done.stderr.splitlines()
    assert first.endswith("no git repository: the stages run one after the other, without DVC")
    assert others == [f"{stage.name}: fresh" for stage in STAGES]
    assert "object IoU" in done.stdout
    (project / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    assert uses_dvc(project)
    assert uses_dvc(ROOT) == (ROOT / ".git").exists()


def test_compares_networks(finished: Path, tmp_path: Path) -> None:
    to_evaluate = [stage.name for stage in STAGES[:7]]
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    out = tmp_path / "out" / "figure4"
    line = message(run_dff("compare", str(finished), str(other), "--out", str(out)))
    assert "squeezenet1_1 features.5: two projects have this network, layer and size" in line
    assert not out.parent.exists()

    edit(other, "layers: [features.5]", "layers: [features.2]")
    run_in_process(other, *to_evaluate)
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
    run_in_process(other, *to_evaluate)
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
