"""The whole pipeline through DVC, in a copy of the project: caching, partial runs, metrics."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tools import copy_of_project, edit, shell


@pytest.fixture
def clone(project: Path, tmp_path: Path) -> Path:
    """A fresh repository with the project's code and the small photographs' params."""
    names = ("pipeline", "stages", "store", ".dvc", "dvc.yaml", ".dvcignore", ".gitignore")
    folder = copy_of_project(tmp_path / "clone", *names)
    shutil.copy(project / "params.yaml", folder / "params.yaml")
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "start"],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """A command as a user types it, without the network."""
    return shell(folder, folder, *command)


def stages_run(result: "subprocess.CompletedProcess[str]") -> list[str]:
    """The stages that DVC ran after the index, from what it prints; that one it always asks."""
    lines = (result.stdout + result.stderr).splitlines()
    first, *others = [line.split("'")[1] for line in lines if line.startswith("Running stage")]
    assert first == "index"
    return others


def commit(folder: Path, name: str) -> None:
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    who = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *who, "commit", "-qm", name], cwd=folder, check=True)
    subprocess.run(["git", "tag", name], cwd=folder, check=True)


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_run_through_dvc(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command is a process or eight: one test for all that a run is asked to do."""
    monkeypatch.setenv("DFF_KEEP", "3")
    first = run(clone, "dff", "run")
    assert first.returncode == 0, first.stderr
    everything = ["extract", "factorize", "heatmaps", "refine", "evaluate", "explain", "report"]
    assert stages_run(first) == everything
    assert "report: " in first.stdout and "object IoU" in first.stdout
    commit(clone, "both")

    shard = next((clone / "artifacts/activations.zarr").rglob("c/0/0"))
    assert shard.stat().st_nlink > 2, "large outs are linked to the caches, not copied"
    files = [p for p in (clone / "artifacts/activations.zarr").rglob("*") if p.is_file()]
    assert len(files) < 25
    metrics = json.loads(run(clone, "dvc", "metrics", "show", "--json").stdout)
    assert "k2" in json.dumps(metrics)
    plots = run(clone, "dvc", "plots", "show", "-o", "plots")
    assert plots.returncode == 0, plots.stderr
    assert (clone / "plots/index.html").exists()
    shutil.rmtree(clone / "plots")

    # other params run what depends on them; going back, by whichever command, runs nothing
    factors, heatmaps = clone / "artifacts/factors.zarr", clone / "artifacts/heatmaps.zarr"
    both = bytes_of(factors)
    edit(clone, "k: [1, 2]", "k: [3]")
    changed = run(clone, "dvc", "repro", "heatmaps")
    assert stages_run(changed) == ["factorize", "heatmaps"], changed.stderr
    three = bytes_of(factors)
    assert three != both
    commit(clone, "three")

    edit(clone, "k: [3]", "k: [1, 2]")
    back = run(clone, "dff", "run")
    assert back.returncode == 0 and stages_run(back) == [], back.stderr
    assert bytes_of(factors) == both

    experiment = run(clone, "dvc", "exp", "run", "heatmaps", "-S", "factorize.k=[3]")
    assert experiment.returncode == 0 and stages_run(experiment) == [], experiment.stderr
    assert bytes_of(factors) == three

    subprocess.run(["git", "checkout", "-qf", "both"], cwd=clone, check=True)
    assert run(clone, "dvc", "checkout").returncode == 0
    assert bytes_of(factors) == both
    assert json.loads(run(clone, "dvc", "status", "--json").stdout) == {"index": ["always changed"]}

    # a failed run leaves what there was before it: here both, not three that was made last
    edit(clone, "k: [1, 2]", "k: [500]")
    failed = run(clone, "dff", "run")
    assert failed.returncode == 1
    assert "more than the 128 channels" in failed.stderr
    assert bytes_of(factors) == both and (heatmaps / "zarr.json").exists()

    # run by hand, without DVC's knowledge
    edit(clone, "k: [500]", "k: [3]")
    by_hand = run(clone, "dff", "factorize")
    assert "brought back from its kept copy" in by_hand.stderr, by_hand.stderr
    assert bytes_of(factors) == three


def test_the_committed_lock_is_that_of_the_tree(tmp_path: Path) -> None:
    """Else `make demo` in a fresh clone would leave it changed, and outs be taken for others."""
    names = ("pipeline", "stages", "store", ".dvc", "dvc.yaml", "dvc.lock", ".dvcignore")
    folder = copy_of_project(tmp_path / "clone", *names, "params.yaml", "labels.yaml")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    done = run(folder, "dvc", "status", "--json")
    assert done.returncode == 0, done.stderr
    states = json.loads(done.stdout)
    assert states  # nothing has been made here: the outs at least are not there
    changed = {
        name: sorted(path for path, how in entry["changed deps"].items() if how != "deleted")
        for name, entries in states.items()
        for entry in entries
        if "changed deps" in entry
    }
    behind = {name: paths for name, paths in changed.items() if paths}
    assert not behind, f"run `make demo` and commit dvc.lock: {behind}"
