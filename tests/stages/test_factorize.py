"""The factorize stage on activations that were written here, row by row."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment

from stages.algorithms.nmf import Sweep
from stages.artifacts.factors import Factors
from stages.evaluate.choice_tables import choice_table, factor_table, link_table
from stages.evaluate.tables import loss_table
from stages.factorize.needs import library_bytes
from stages.factorize.params import FactorizeParams
from stages.factorize.stage import FACTORIZE
from stages.frame.errors import StageError
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.naming.names import FactorNames
from store import SetRows
from stored_rows import CHANNELS, activations, files, write

PARAMS = FactorizeParams(k=(1, 2, 4), seeds=(0, 3), stability_runs=3)


def factorized(project: Path, params: FactorizeParams = PARAMS, **resources: int) -> Factors:
    return Factors.open(execute(FACTORIZE, params, project, Resources(**resources)))  # type: ignore[arg-type]


@pytest.mark.parametrize("density", [0.1, 0.9], ids=["sparse", "dense"])
def test_memory_and_workers_do_not_change_a_bit(
    tmp_path: Path, density: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # blocks of few rows, so that there are several
    monkeypatch.setattr("store.set_rows.BLOCK_BYTES", 300 * CHANNELS * 4)
    activations(tmp_path, [(9, 11)] * 12, {"all": list(range(12)), "some": [1, 4, 5]}, density)
    from stages.algorithms import rows

    kept: list[bool] = []
    within = rows.ResidentRows.within

    def watched(*arguments: object) -> object:
        found = within(*arguments)  # type: ignore[arg-type]
        kept.append(found is not None)
        return found

    monkeypatch.setattr(rows.ResidentRows, "within", watched)
    factorized(tmp_path, workers=2)
    assert kept == [True, True]
    expected = files(tmp_path)
    for workers, limit in ((1, 2**40), (3, 1)):  # other workers; then streamed as well

        def limited(of: SetRows, most: int, limit: int = limit) -> object:
            return within(of, min(most, limit))

        monkeypatch.setattr(rows.ResidentRows, "within", limited)
        (tmp_path / "artifacts/factors.zarr").rename(tmp_path / f"{workers}-{limit}")
        factorized(tmp_path, workers=workers)
        assert files(tmp_path) == expected


def test_layers_with_values_below_zero_are_refused(tmp_path: Path) -> None:
    values = activations(tmp_path / "sound", [(4, 5)] * 6, {"all": list(range(6))})
    values[67, 3] = -0.0  # is no such value
    write(tmp_path / "zero", [(4, 5)] * 6, {"few": [0, 3, 5]}, values)
    factorized(tmp_path / "zero")
    values[67, 3] = -1e-6
    write(tmp_path / "bad", [(4, 5)] * 6, {"few": [0, 3, 5]}, values)
    with pytest.raises(StageError, match=r"^extract.layers: \w+ of own: has values below zero"):
        factorized(tmp_path / "bad")
    assert not (tmp_path / "bad/artifacts/factors.zarr").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_value_names_its_image(tmp_path: Path, bad: float) -> None:
    values = activations(tmp_path / "sound", [(4, 5)] * 6, {"all": list(range(6))})
    values[67, 3] = bad
    write(tmp_path / "bad", [(4, 5)] * 6, {"few": [0, 3, 5]}, values)
    with pytest.raises(StageError, match=r"image set 'few': A has .* in row 27 \(image 3\.jpg\)"):
        factorized(tmp_path / "bad")
    assert not (tmp_path / "bad/artifacts/factors.zarr").exists()


@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_a_budget_that_cannot_work_is_refused_with_both_numbers(
    tmp_path: Path, solver: str
) -> None:
    activations(tmp_path, [(9, 11)] * 3, {"all": [0, 1, 2]})
    params = FactorizeParams(k=(2,), solver=solver)  # type: ignore[arg-type]
    needed = r"needs about \d+ MiB \(\d+ for libraries, .*\), the budget is 1 MiB: .*raise --memory"
    with pytest.raises(StageError, match=needed):
        factorized(tmp_path, params, memory=2**20)
    factorized(tmp_path, params, memory=library_bytes() + 2**26)


@pytest.mark.parametrize("solver", ["hals", "mu"])
@pytest.mark.parametrize("init", ["sample", "random", "nndsvd"])
def test_sets_as_odd_as_they_come(tmp_path: Path, solver: str, init: str) -> None:
    grids = [(1, 1), (1, 1), (3, 2), (1, 7), (3, 2)]
    values = np.zeros((sum(h * w for h, w in grids), CHANNELS), np.float32)
    values[2:8, :5] = 3
    values[15:21, :5] = 3
    sets = {"nothing": [0, 1], "one cell": [0], "one image": [2], "the same twice": [2, 4]}
    write(tmp_path, grids, sets, values)
    params = FactorizeParams(k=(1, 3), solver=solver, init=init)  # type: ignore[arg-type]
    factors = factorized(tmp_path, params)
    W, loss = factors.at("layer").W, factors.at("layer").loss
    assert np.isfinite(W).all() and (W >= 0).all()
    for rank, name in enumerate(sets):
        final = [history[~np.isnan(history)][-1] for history in loss[rank]]
        norm = factors.at("layer").norm[rank]
        # the paper's updates creep up on an exact fit
        assert max(final) <= (1e-4 if solver == "mu" else 1e-5) * norm, name
    table = choice_table(factors, loss_table(factors))
    assert not table["suggested"].any() and (table["reason"] != "").all(), "too few images"
    assert set(link_table(factors)["set"]) <= {"one image", "the same twice"}


def test_tables_of_choosing_k(tmp_path: Path) -> None:
    activations(tmp_path, [(9, 11)] * 12, {"all": list(range(12)), "some": [1, 4, 5]})
    factors = factorized(tmp_path)
    table = choice_table(factors, loss_table(factors))
    assert table[["set", "k"]].to_numpy().tolist() == [
        [name, k] for name in ("all", "some") for k in (1, 2, 4)
    ]
    assert table["stability"].between(0, 1 + 1e-9).all() and table["seed_cosine"].notna().all()
    some = table[table["set"] == "some"]
    assert not some["suggested"].any() and some["reason"].str.contains("image").all()
    every = table[table["set"] == "all"]
    if every["suggested"].any():
        assert (every["reason"] != "").tolist() == every["suggested"].tolist()
    else:
        assert (every["reason"] != "").all()
    links = link_table(factors)
    assert len(links) == 2 * 2 * (2 + 4)  # sets, seeds, factors that have a parent
    assert set(zip(links["parent_k"], links["k"], strict=True)) == {(1, 2), (2, 4)}
    H = np.concatenate(list(factors.at("layer").coefficients.select(factors.sets["all"]).blocks()))
    columns = factors.factorizations.columns
    for row in links[links["set"] == "all"].to_dict("records"):
        mine = H[:, columns.index((row["k"], row["seed"], row["factor"]))].astype(float)
        cosines = {}
        for factor in range(row["parent_k"]):
            other = H[:, columns.index((row["parent_k"], row["seed"], factor))].astype(float)
            cosines[factor] = mine @ other / np.linalg.norm(mine) / np.linalg.norm(other)
        assert row["parent_factor"] == max(cosines, key=cosines.__getitem__)
        assert row["cosine"] == pytest.approx(max(cosines.values()), rel=1e-4)


def test_factors_have_a_stability_each(tmp_path: Path) -> None:
    """Against counterparts that SciPy finds in the same runs."""
    values = activations(tmp_path, [(9, 11)] * 12, {"all": list(range(12))})
    factors = factorized(tmp_path)
    of = factors.factorizations
    runs = Sweep(values, PARAMS.k, PARAMS.seeds, stability_runs=3).stability
    table = factor_table(factors, FactorNames("layer", 0))
    assert len(table) == len(of.columns)
    for k, seed in of.problems:
        W = factors.at("layer").W[0, of.columns_of(k, seed)].astype(float)
        cosines = []
        for run in runs[of.ks.index(k)].runs.astype(float):
            products = W @ run.T
            _, found = linear_sum_assignment(products, maximize=True)
            cosines.append(products[np.arange(k), found])
        mine = table[(table["k"] == k) & (table["seed"] == seed)]
        np.testing.assert_allclose(mine["stability"], np.mean(cosines, axis=0), atol=1e-4)
        assert mine["factor"].tolist() == list(range(k))
        assert mine["energy"].sum() == pytest.approx(1)


def test_without_runs_there_is_no_suggestion(tmp_path: Path) -> None:
    activations(tmp_path, [(4, 5)] * 6, {"all": list(range(6))})
    factors = factorized(tmp_path, FactorizeParams(k=(1, 2), stability_runs=0))
    table = choice_table(factors, loss_table(factors))
    assert not table["suggested"].any() and table["stability"].isna().all()
    assert np.isnan(factors.at("layer").factor_stability).all()
    table.to_csv(tmp_path / "choice.csv", index=False)
    assert pd.read_csv(tmp_path / "choice.csv")["suggested"].tolist() == [False, False]


@pytest.mark.parametrize("runs", [1, -1])
def test_one_run_cannot_be_compared(runs: int) -> None:
    with pytest.raises(ValueError, match="stability_runs"):
        FactorizeParams(stability_runs=runs)
