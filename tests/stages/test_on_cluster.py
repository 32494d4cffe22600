"""Every stage on a cluster of two workers gives what it gives alone, file by file."""

import filecmp
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed.protocol.pickle import dumps, loads

from clusters import cluster_here
from pipeline.params import read_params
from pipeline.registry import BY_NAME
from pipeline.status import stage_states
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.export.formats import EXPORTERS
from stages.frame.cluster import RECORD, Cluster
from stages.frame.execute import gather_inputs
from stages.frame.fingerprint import fingerprint
from stages.heatmaps.stage import HEATMAPS
from stages.index.stage import INDEX
from stages.maps import write
from stages.maps.coefficients import HeatMaps, grids_of
from stages.maps.making import Making
from stages.maps.plan import MapPlan, Percentile
from store import Staging, staging
from tools import (
    ROOT,
    copied,
    edit,
    message,
    movable_project,
    run_dff,
    run_in_process,
    shell,
)

pytestmark = pytest.mark.xdist_group("on_cluster")  # one worker starts it

SPREAD = ["index", "heatmaps", "refine", "evaluate", "report"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with cluster_here(2) as found:
        yield found


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
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "checkpoint", interrupting(Staging.checkpoint))
        assert run_dff("heatmaps", "--project", str(project), "--workers", "1").exit_code
    assert not (project / BY_NAME["heatmaps"].writes).exists()
    result = run_dff("heatmaps", "--project", str(project), "--cluster", cluster)
    assert result.exit_code == 0, (result.output, result.exception)
    assert_same(made / BY_NAME["heatmaps"].writes, project / BY_NAME["heatmaps"].writes)


def test_status_says_where_a_run_stands_and_who_does_what(alone: Path, tmp_path: Path) -> None:
    project = copied(alone, tmp_path)
    edit(project, "long_side: 48", "long_side: 40")
    record = {
        "address": "tcp://10.0.0.1:8786",
        "dashboard": "http://10.0.0.1:8787/status",
        "workers": {
            "tcp://10.0.0.3:4312": [2, "heatmaps: thresholds of sets: items 6 to 8"],
            "tcp://10.0.0.2:4312": [40, "heatmaps: thresholds of sets: items 4 to 6"],
        },
    }
    out, params = project / HEATMAPS.writes, read_params(project)["heatmaps"]
    wanted = fingerprint(HEATMAPS, params, gather_inputs(HEATMAPS, project).fingerprints, "")
    with pytest.raises(KeyboardInterrupt), staging(out, wanted) as work:
        work.checkpoint(done=8, total=14, unit="images")
        (work.scratch / RECORD).write_text(json.dumps(record))
        raise KeyboardInterrupt
    state = next(one for one in stage_states(project) if one.name == "heatmaps")
    assert state.state == "partial"
    assert state.detail == (
        "8 of 14 images on tcp://10.0.0.1:8786: 2 workers (10.0.0.2:4312 did 40, last heatmaps: "
        "thresholds of sets: items 4 to 6; 10.0.0.3:4312 did 2, last heatmaps: thresholds of sets: "
        "items 6 to 8); http://10.0.0.1:8787/status"
    )
    run_in_process(project, "heatmaps")
    assert {one.name: one.state for one in stage_states(project)}["heatmaps"] == "fresh"


def test_an_image_that_vanished_is_one_line(alone: Path, cluster: str, tmp_path: Path) -> None:
    project = copied(alone, tmp_path)
    shutil.rmtree(project / BY_NAME["refine"].writes)
    gone = project.parent / "photographs/images/discs/3.png"
    gone.unlink()
    said = message(run_dff("refine", "--project", str(project), "--cluster", cluster))
    assert "3.png: cannot be read (No such file or directory)" in said


@pytest.mark.parametrize("format", sorted(EXPORTERS))
def test_exports_are_the_same(alone: Path, cluster: str, tmp_path: Path, format: str) -> None:
    project = copied(alone, tmp_path)
    for name, more in (("here", []), ("there", ["--cluster", cluster])):
        out = ["--out", str(tmp_path / name / format), "--project", str(project)]
        result = run_dff("export", "--format", format, *out, *more)
        assert result.exit_code == 0, (result.output, result.exception)
    assert_same(tmp_path / "here" / format, tmp_path / "there" / format)


def test_what_workers_are_sent_does_not_grow_with_the_collection(
    alone: Path, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of indexes, artifacts, maps only where they lie; of each image a few bytes."""
    sent: list[int] = []
    shared = Cluster.shared

    def counted(self: Cluster, value: Any) -> Any:
        sent.append(len(dumps(value)))
        return shared(self, value)

    monkeypatch.setattr(Cluster, "shared", counted)
    again_on(cluster, alone, tmp_path, *SPREAD)
    assert sent
    assert max(sent) < 1 << 15
    factors = Factors.open(alone / BY_NAME["factorize"].writes)
    ragged = factors.at(factors.layers[0]).coefficients
    assert len(dumps(ImageIndex.open(alone / INDEX.writes, alone))) < 1000
    assert len(dumps(ragged)) < 1000
    count, columns = 1000, 10
    sizes, scale = [(48, 36)] * count, np.ones((1, columns))
    maps = HeatMaps(partial(grids_of, ragged), sizes, scale, [0] * count, 2)
    plan = MapPlan(
        sizes, range(count), [range(count)], columns, np.uint16, Percentile(75.0), 2,
        np.zeros((count, 32), np.uint8),
    )  # fmt: skip
    assert len(dumps(Making(plan, maps))) < 1 << 15


def test_some_images_of_an_index_are_sent_as_they_are(alone: Path) -> None:
    """Who gets a range of them opens nothing: the index may be of millions."""
    index = ImageIndex.open(alone / INDEX.writes, alone)
    sent = loads(dumps(index.light([3, 1])))
    assert sent.origin is None and not sent.sets
    assert list(sent.names) == [index.names[3], index.names[1]]
    assert sent.size(0) == index.size(3)
    assert (sent.rgb(1) == index.rgb(1)).all()


def test_two_processes_by_the_command_line(alone: Path, tmp_path: Path) -> None:
    """As a newcomer sees it: the two start, do the work, and end."""
    project = copied(alone, tmp_path)
    edit(project, "  top: 6", "  top: 5")  # of the report: no stage else is run
    here = copied(project, tmp_path / "here")
    found = shell(project, ROOT, sys.executable, "-m", "pipeline", "run", "--cluster", "local:2")
    assert found.returncode == 0, found.stderr
    assert "on 2 workers with 2 threads at tcp://127.0.0.1:" in found.stderr
    run_in_process(here, "report")
    assert_same(here / BY_NAME["report"].writes, project / BY_NAME["report"].writes)
