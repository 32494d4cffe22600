"""Every stage on a cluster of two workers gives what it gives alone, file by file."""

import filecmp
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.registry import BY_NAME
from stages.maps import write
from store import Staging
from tools import copied, edit, movable_project, run_dff, run_in_process

pytestmark = pytest.mark.xdist_group("cluster")  # one worker starts it

SPREAD = ["index", "heatmaps", "refine", "evaluate", "report"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as local:
        yield local.scheduler_address


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after all stages, without a cluster."""
    project = movable_project(tmp_path_factory.mktemp("alone"))
    run_in_process(project)
    return project


def files_of(folder: Path) -> dict[str, Path]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def assert_same(one: Path, other: Path) -> None:
    """The same files with the same contents."""
    mine, theirs = files_of(one), files_of(other)
    assert mine.keys() == theirs.keys()
    assert mine, "compares nothing"
    assert [name for name in mine if not filecmp.cmp(mine[name], theirs[name], False)] == []


def again_on(cluster: str, made: Path, home: Path, *names: str) -> Path:
    """A project whose artifacts of some stages were made anew on a cluster."""
    project = copied(made, home)
    for name in names:
        shutil.rmtree(project / BY_NAME[name].writes)
    for name in names:
        result = run_dff(name, "--project", str(project), "--cluster", cluster)
        assert result.exit_code == 0, (name, result.output, result.exception)
    return project


def test_stages_give_on_a_cluster_what_they_give_alone(
    alone: Path, cluster: str, tmp_path: Path
) -> None:
    project = again_on(cluster, alone, tmp_path, *SPREAD)
    for name in SPREAD:
        assert_same(alone / BY_NAME[name].writes, project / BY_NAME[name].writes)


@pytest.mark.parametrize("binarise", ["half", "percentile"])
def test_maps_that_are_stored_are_written_by_the_workers(
    alone: Path, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binarise: str
) -> None:
    """Shards of some images each; where masks begin at percentiles, these are counted first."""
    monkeypatch.setattr(write, "SHARD_BYTES", 1 << 15)
    made = copied(alone, tmp_path / "here")
    edit(made, "store: none", "store: full")
    if binarise == "percentile":
        edit(made, "binarise: half", "binarise: percentile")
        edit(made, "masks: apart", "masks: independent")
    run_in_process(made, "heatmaps", "refine")
    project = again_on(cluster, made, tmp_path / "there", "heatmaps", "refine")
    for name in ("heatmaps", "refine"):
        assert_same(made / BY_NAME[name].writes, project / BY_NAME[name].writes)
        assert len(list((project / BY_NAME[name].writes).rglob("c/*/0"))) > 8, "shards"


def interrupting(checkpoint: Callable[..., None]) -> Callable[..., None]:
    """Ctrl-C after the first checkpoint that counts some images."""

    def interrupted(self: Staging, **progress: Any) -> None:
        checkpoint(self, **progress)
        if progress.get("done"):
            raise KeyboardInterrupt

    return interrupted


def test_a_run_that_was_begun_alone_goes_on_on_a_cluster(
    alone: Path, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "SHARD_BYTES", 1 << 15)
    made = copied(alone, tmp_path / "here")
    edit(made, "store: none", "store: full")
    run_in_process(made, "heatmaps")
    project = copied(made, tmp_path / "there")
    shutil.rmtree(project / BY_NAME["heatmaps"].writes)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Staging, "checkpoint", interrupting(Staging.checkpoint))
        run_dff("heatmaps", "--project", str(project), "--workers", "1")
    result = run_dff("heatmaps", "--project", str(project), "--cluster", cluster)
    assert result.exit_code == 0, (result.output, result.exception)
    assert_same(made / BY_NAME["heatmaps"].writes, project / BY_NAME["heatmaps"].writes)
