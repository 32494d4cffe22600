"""The factorize stage on a cluster: the same bits as alone, whoever does what."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.algorithms import unit_sums
from stages.factorize import spread
from stages.factorize.params import FactorizeParams
from stages.factorize.stage import FACTORIZE
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stored_rows import CHANNELS, activations, files

pytestmark = pytest.mark.xdist_group("cluster")
SETS = {"all": list(range(24)), "some": [1, 4, 5], "others": [2, 3, 9], "one": [7]}
PARAMS = FactorizeParams(k=(1, 3), stability_runs=3)


@pytest.fixture(scope="module", params=[1, 3])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=request.param, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as found:
        yield found.scheduler_address


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 100 rows, and units of two: the 24 photographs of 9 x 11 are 12 of them."""
    monkeypatch.setattr("store.set_rows.BLOCK_BYTES", 100 * CHANNELS * 4)
    monkeypatch.setattr(unit_sums, "UNIT_ROWS", 200)


def project(folder: Path, density: float = 0.2) -> Path:
    activations(folder, [(9, 11)] * 24, SETS, density)
    return folder


def factorized(project: Path, params: FactorizeParams, cluster: str | None) -> dict[str, bytes]:
    resources = Resources(device="cpu", workers=2, cluster=cluster, reuse=False)
    execute(FACTORIZE, params, project, resources)
    found = files(project)
    (project / "artifacts/factors.zarr").rename(project / f"done {len(list(project.iterdir()))}")
    return found


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"density": 0.9},
        {"normalise": "l2", "within": ("all/3/1", "some/3/0")},
        {"normalise": "centre", "nonneg": "H"},
        {"solver": "mu", "tol": 1e-3},
    ],
    ids=["sparse", "dense", "within", "centred", "mu"],
)
def test_a_cluster_changes_no_bit(
    tmp_path: Path, address: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = project(tmp_path, options.pop("density", 0.2))
    params = FactorizeParams(k=(1, 3), stability_runs=3, **options)
    expected = factorized(here, params, None)
    passes: list[int] = []
    summed = spread.SpreadEngine._sums
    monkeypatch.setattr(
        spread.SpreadEngine, "_sums", lambda *given: (passes.append(1), summed(*given))[1]
    )
    assert factorized(here, params, address) == expected
    assert bool(passes) == (params.solver != "mu")
