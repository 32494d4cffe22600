"""kill -9 in the middle of any stage, run it again: the artifact equals the uninterrupted one."""

import os
import shutil
from pathlib import Path

import pytest

from killable import Killable
from pipeline.registry import STAGES
from tools import edit, run_dff

pytestmark = pytest.mark.xdist_group("killable")  # one worker has the server


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an artifact."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_killed_stages_go_on_where_they_stopped(
    project: Path, killable: Killable, solver: str
) -> None:
    edit(project, "solver: hals", f"solver: {solver}")
    edit(project, "max_passes: 100", "max_passes: 11")
    killed = []
    for stage in STAGES[:5] if solver == "hals" else STAGES[:3]:
        code, output = killable.run(project, stage.name)
        assert code == 0, output
        out = project / stage.writes
        expected = contents(out)
        if stage.name == "index":
            continue  # quick: it starts again from nothing
        for die_at in (2, 3):
            code, output = killable.run(project, stage.name, die_at)
            assert code == -9, output
            assert contents(out) == expected, "an interrupted run touched the earlier artifact"
        killed.append(stage.name)
        code, output = killable.run(project, stage.name)
        assert code == 0, output
        assert contents(out) == expected, f"{stage.name}: resumed, but other bytes"
    assert killed[:2] == ["extract", "factorize"]


def test_refinement_by_percentile_goes_on_from_any_checkpoint(
    project: Path, killable: Killable
) -> None:
    """Thresholds are counted once per set, and boxes of what was there are found again."""
    edit(project, "binarise: half", "binarise: percentile")
    for stage in STAGES[:4]:
        assert run_dff(stage.name, "--project", str(project)).exit_code == 0
    assert killable.run(project, "refine")[0] == 0
    out = project / "artifacts/refined.zarr"
    expected = contents(out)
    # all of them with `make soak`: each is two processes
    for die_at in range(1, 6) if "DFF_KILLS" in os.environ else (2, 5):
        shutil.rmtree(out)
        code, output = killable.run(project, "refine", die_at)
        assert code == -9 and not out.exists(), output
        code, output = killable.run(project, "refine")
        assert code == 0, output
        assert contents(out) == expected, f"killed at checkpoint {die_at}: other bytes"


def test_work_is_not_done_twice(project: Path, killable: Killable) -> None:
    assert killable.run(project, "index")[0] == 0
    assert killable.run(project, "extract", die_at=4)[0] == -9
    code, output = killable.run(project, "extract")
    assert code == 0 and "from an earlier run" in output
    assert not list((project / "artifacts/.staging").rglob("progress.json")), "work is swept"


def test_changed_params_start_clean(project: Path, killable: Killable) -> None:
    assert killable.run(project, "index")[0] == 0
    assert killable.run(project, "extract", die_at=3)[0] == -9
    edit(project, "weights: random:0", "weights: random:1")
    code, output = killable.run(project, "extract")
    assert code == 0 and "from an earlier run" not in output


def test_status_tells_partial_work(project: Path, killable: Killable) -> None:
    from pipeline.status import stage_states

    assert killable.run(project, "index")[0] == 0
    assert killable.run(project, "extract", die_at=4)[0] == -9
    states = {state.name: state for state in stage_states(project)}
    assert states["index"].state == "fresh"
    assert states["extract"].state == "partial"
    assert states["extract"].detail.endswith("of 14 images")
    assert states["factorize"].state == "absent"
    assert killable.run(project, "extract")[0] == 0
    edit(project, "batch: 2", "batch: 3")
    assert {state.name: state.state for state in stage_states(project)}["extract"] == "stale"
