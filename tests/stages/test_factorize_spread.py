"""The factorize stage on a cluster: the same bits as alone, whoever does what."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clusters import cluster_here
from pipeline.params import read_params
from stages.algorithms import unit_sums
from stages.algorithms.rows import ResidentRows
from stages.factorize import states, units
from stages.factorize.params import FactorizeParams
from stages.factorize.spread import SpreadEngine, ranges
from stages.factorize.stage import FACTORIZE
from stages.factorize.states import States
from stages.factorize.units import Kept
from stages.frame.cluster import Cluster, Task, clustered, local_cluster
from stages.frame.errors import StageError
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stored_rows import CHANNELS, activations, files, write
from tools import draw_photographs, edit, run_dff, small_project

pytestmark = [pytest.mark.xdist_group("factorize_spread"), pytest.mark.usefixtures("small_units")]
IMAGES = 14
SETS = {"all": list(range(IMAGES)), "some": [1, 4], "others": [2, 9], "one": [7]}
PARAMS = FactorizeParams(k=(1, 3), stability_runs=3, max_passes=6)
LONG = FactorizeParams(k=(2, 4), stability_runs=0, init="random", tol=1e-9, max_passes=6)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of three workers in this process."""
    with cluster_here(3) as found:
        yield found


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 50 rows, and units of two of them: 14 photographs of 9 x 11 are 14 units."""
    monkeypatch.setattr("store.set_rows.BLOCK_BYTES", 50 * CHANNELS * 4)
    monkeypatch.setattr(unit_sums, "UNIT_ROWS", 100)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, int]]]:
    """What went over the network in each pass of each spread set."""
    made, init = list[list[tuple[int, int]]](), SpreadEngine.__init__

    def watched(self: SpreadEngine, *given: Any) -> None:
        init(self, *given)
        made.append(self.traffic)

    monkeypatch.setattr(SpreadEngine, "__init__", watched)
    return made


def factorized(
    project: Path, params: FactorizeParams = PARAMS, cluster: str | None = None
) -> dict[str, bytes]:
    resources = Resources(device="cpu", workers=2, cluster=cluster, reuse=False)
    execute(FACTORIZE, params, project, resources)
    found = files(project)
    (project / "artifacts/factors.zarr").rename(project / f"done {len(list(project.iterdir()))}")
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"density": 0.9, "normalise": "l2", "within": ("all/3/1", "some/3/0")},
        {"normalise": "centre", "nonneg": "H"},
        {"solver": "mu", "tol": 1e-3},
    ],
    ids=["sparse", "dense within", "centred", "mu"],
)
def test_a_cluster_changes_no_bit(
    tmp_path: Path, address: str, options: dict[str, Any], traffic: list[list[tuple[int, int]]]
) -> None:
    density = options.pop("density", 0.2)
    activations(tmp_path, [(9, 11)] * IMAGES, SETS, density)
    params = FactorizeParams(k=(1, 3), stability_runs=3, max_passes=6, **options)
    expected = factorized(tmp_path, params)
    assert factorized(tmp_path, params, address) == expected
    # the sets that are large, and what lies within them
    assert len(traffic) == (0 if params.solver == "mu" else 1 + ("all/3/1" in params.within))


@pytest.mark.parametrize("count", [1, 2])
def test_the_number_of_workers_changes_no_bit(tmp_path: Path, count: int) -> None:
    activations(tmp_path, [(9, 11)] * IMAGES, SETS)
    expected = factorized(tmp_path, LONG)
    with cluster_here(count) as address:
        assert factorized(tmp_path, LONG, address) == expected


def test_what_is_sent_does_not_depend_on_the_number_of_rows(
    tmp_path: Path, address: str, traffic: list[list[tuple[int, int]]]
) -> None:
    for images in (6, 30):
        project = tmp_path / str(images)
        activations(project, [(9, 11)] * images, {"all": list(range(images))})
        factorized(project, cluster=address)
    few, many = (max(passes) for passes in traffic)
    assert few == many
    columns = sum(PARAMS.k)
    W, sums = 8 * columns * CHANNELS, 8 * (columns * CHANNELS + 1 + 9)
    assert W < many[0] < W + 2000 and sums < many[1] < sums + 1500


@pytest.mark.parametrize("rows", [0, 300], ids=["nothing", "some"])
def test_units_that_are_not_kept_are_read_again(
    tmp_path: Path, address: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    activations(tmp_path, [(9, 11)] * IMAGES, {"all": SETS["all"]})
    expected = factorized(tmp_path)
    read, found = [0], units.Units.stored

    def counted(*given: Any) -> Any:
        read[0] += 1
        return found(*given)

    monkeypatch.setattr(units.Units, "stored", counted)
    monkeypatch.setattr(units, "_KEPT", Kept())
    assert factorized(tmp_path, cluster=address) == expected
    once = read[0]
    assert once == -(-IMAGES * 99 // 100)  # each unit once
    monkeypatch.setattr(units, "own_memory", lambda: 3 * 8 * 0.2 * CHANNELS * rows or 1)
    monkeypatch.setattr(units, "_KEPT", Kept())
    assert factorized(tmp_path, cluster=address) == expected
    assert read[0] > 3 * once


def test_what_no_longer_serves_makes_room() -> None:
    rows = ResidentRows((np.zeros((10, 4), np.float32),), (10, 4), np.dtype(np.float32))
    size, kept = rows.nbytes, Kept()
    for unit in range(4):
        if kept.make_room("mine", 1, size, 3 * size):
            kept.put("mine", unit, 1, rows, 3 * size)
    assert [kept.get("mine", unit, 1) is rows for unit in range(4)] == [True] * 3 + [False]
    assert kept.get("mine", 2, 3) is rows
    assert kept.make_room("mine", 3, size, 3 * size)  # 0 was not used in this pass or the last
    assert [kept.get("mine", unit, 3) is rows for unit in (0, 1, 2)] == [False, True, True]
    assert kept.make_room("others", 1, 3 * size, 3 * size) and not kept.nbytes


def test_ranges_are_parts_of_the_tree() -> None:
    for count in (*range(1, 70), 1000, 12345):
        for slots in (1, 2, 7, 100):
            found = ranges(count, slots)
            step = found[0][1] if len(found) > 1 else 1
            assert step & (step - 1) == 0 and all(first % step == 0 for first, _ in found)
            assert [last for _, last in found[:-1]] == [first for first, _ in found[1:]]
            assert found[0][0] == 0 and found[-1][1] == count
            assert len(found) == count or 2 * slots <= len(found) < 4 * slots


@pytest.mark.parametrize("first", ["here", "there"])
def test_a_run_goes_on_elsewhere(
    tmp_path: Path, address: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    activations(tmp_path, [(9, 11)] * IMAGES, SETS)
    expected = factorized(tmp_path, LONG)
    monkeypatch.setattr(states, "SECONDS", 0)
    kept, count = States.keep, 0

    def stopped(self: States, *given: Any, **how: Any) -> None:
        nonlocal count
        kept(self, *given, **how)
        count += 1
        if count in (3, 8):  # in the midst of the large set, and among the others
            raise KeyboardInterrupt

    monkeypatch.setattr(States, "keep", stopped)
    order = (None, address, None) if first == "here" else (address, None, address)
    for cluster in order[:2]:
        with pytest.raises(KeyboardInterrupt):
            factorized(tmp_path, LONG, cluster=cluster)
    assert factorized(tmp_path, LONG, cluster=order[2]) == expected


def test_a_bad_value_names_its_image(tmp_path: Path, address: str) -> None:
    values = activations(tmp_path / "sound", [(9, 11)] * IMAGES, SETS)
    values[850, 3] = np.nan
    for sets in (SETS, {"small": [2, 8]}):  # spread, and by one worker
        project = tmp_path / str(len(sets))
        write(project, [(9, 11)] * IMAGES, sets, values)
        with pytest.raises(StageError, match=r"image set '\w+': A has NaN .* \(image 8\.jpg\)"):
            factorized(project, cluster=address)


def test_pinned_factors_are_gone_on_from_on_a_cluster(tmp_path: Path, address: str) -> None:
    photographs = draw_photographs(tmp_path / "photographs")
    project = small_project(tmp_path / "project", photographs)
    edit(project, "  size: 64", "  size: [48, 64]")
    for stage in ("index", "extract", "factorize", "heatmaps", "pin"):
        assert run_dff(stage, "--project", str(project)).exit_code == 0
    for folder in ("images", "masks"):
        shutil.copy(photographs / folder / "discs/2.png", photographs / folder / "discs/2b.png")
        (photographs / folder / "discs/4.png").unlink()
    for stage in ("index", "extract"):
        assert run_dff(stage, "--project", str(project)).exit_code == 0
    params = read_params(project)["factorize"]
    assert params.start
    expected = factorized(project, params)
    assert factorized(project, params, address) == expected


def test_a_worker_may_be_killed_in_the_midst_of_a_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    activations(tmp_path, [(9, 11)] * IMAGES, {"all": SETS["all"]})
    expected = factorized(tmp_path, LONG)
    waited, passes = Cluster.result, 0

    def killing(self: Cluster, task: Task[Any]) -> Any:
        nonlocal passes
        passes += task.label.endswith("ranges")
        if passes == 3 and pids:
            os.kill(pids.pop(), signal.SIGKILL)
        return waited(self, task)

    monkeypatch.setattr(Cluster, "result", killing)
    with local_cluster("local:2", 2 * 2**30) as address:
        with clustered(address, workers=2) as cluster:
            assert cluster
            pids = list(cluster.client.run(os.getpid).values())[:1]
        assert factorized(tmp_path, LONG, cluster=address) == expected
    assert passes == 6 and not pids
