"""kill -9 in the middle of any stage, run it again: the artifact equals the uninterrupted one."""

import subprocess
import sys
from pathlib import Path

import pytest
from tools import edit

from pipeline.registry import STAGES

# Runs `dff STAGE`, with shards of a few rows, and dies without a word at the N-th checkpoint.
KILLED = """
import importlib, os, signal, sys
import store.ragged
staging = importlib.import_module("store.staging")
from store.layout import Layout

stage, die_at = sys.argv[1], int(sys.argv[2])
sys.argv = ["dff", stage]
rows = {"extract": 98, "factorize": 120, "heatmaps": 6000, "refine": 6000}.get(stage, 100)
store.ragged.plan_layout = lambda *a, **k: Layout(rows // 2, rows)
checkpoints = 0
write = staging.write_atomically

def dying(path, content):
    global checkpoints
    checkpoints += 1
    if checkpoints == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)

staging.write_atomically = dying
import stages.factorize
stages.factorize.write_atomically = dying
from pipeline.cli import main
main()
"""


def run_killed(project: Path, stage: str, die_at: int) -> int:
    """Exit code of the stage, killed at a checkpoint (0: never)."""
    command = [sys.executable, "-c", KILLED, stage, str(die_at)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an artifact."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_killed_stages_go_on_where_they_stopped(project: Path, solver: str) -> None:
    edit(project, "solver: hals", f"solver: {solver}")
    edit(project, "max_passes: 100", "max_passes: 11")
    stages = STAGES[:5] if solver == "hals" else STAGES[:3]
    kills = 0
    for stage in stages:
        out = project / stage.writes
        if stage.name == "index":
            assert run_killed(project, "index", 0) == 0
            continue
        if solver == "mu" and stage.name == "extract":
            assert run_killed(project, "extract", 0) == 0
            continue
        assert run_killed(project, stage.name, 0) == 0
        expected = contents(out)
        for die_at in (2, 3):
            assert run_killed(project, stage.name, die_at) == -9
            assert contents(out) == expected, "an interrupted run touched the earlier artifact"
            kills += 1
        assert run_killed(project, stage.name, 0) == 0
        assert contents(out) == expected, f"{stage.name}: resumed, but other bytes"
    assert kills >= 2


def test_work_is_not_done_twice(project: Path) -> None:
    """After a kill, the resumed extraction only computes what was not on disk."""
    assert run_killed(project, "index", 0) == 0
    assert run_killed(project, "extract", 4) == -9
    command = [sys.executable, "-c", KILLED, "extract", "0"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0
    assert "from an earlier run" in done.stderr
    assert not list((project / "artifacts/.staging").rglob("progress.json")), "work is swept"


def test_changed_params_start_clean(project: Path) -> None:
    assert run_killed(project, "index", 0) == 0
    assert run_killed(project, "extract", 3) == -9
    edit(project, "weights: random:0", "weights: random:1")
    command = [sys.executable, "-c", KILLED, "extract", "0"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0
    assert "from an earlier run" not in done.stderr
