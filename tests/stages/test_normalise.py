"""Rows that are normalised, through all stages: in every budget, pinned, and of new photographs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import Result

from killable import Killable
from stages.algorithms.nmf import factorize
from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import Factors
from stages.extract.stage import EXTRACT
from stages.factorize.params import FactorizeParams
from stages.factorize.stage import FACTORIZE
from stages.frame.execute import execute
from stages.frame.resources import Resources
from store import SetRows
from tools import edit, message

pytestmark = pytest.mark.xdist_group("killable")

Dff = Callable[..., Result]
LAYER = "features.5"
WAYS = pytest.mark.parametrize("how", ["l2", "centre"])


def rows_of(project: Path, name: str) -> np.ndarray:
    activations = Activations.open(project / EXTRACT.writes)
    ragged = activations.at(LAYER)
    maps = [ragged.map(int(entry)) for entry in activations.sets[name]]
    return np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps]).astype(float)


def by_hand(A: np.ndarray, how: str) -> np.ndarray:
    if how == "centre":
        return A - A.mean(axis=0)
    lengths = np.linalg.norm(A, axis=1, keepdims=True)
    return np.divide(A, lengths, out=np.zeros_like(A), where=lengths > 0)


def params(how: str) -> FactorizeParams:
    nonneg = "H" if how == "centre" else "W and H"
    return FactorizeParams((1, 2), normalise=how, nonneg=nonneg, stability_runs=0)  # type: ignore[arg-type]


def chosen(project: Path, how: str) -> None:
    edit(project, "normalise: none", f"normalise: {how}")
    if how == "centre":
        edit(project, "nonneg: W and H", "nonneg: H")


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@WAYS
def test_in_any_budget_it_is_the_factorization_of_rows_normalised_by_hand(
    project: Path, dff: Dff, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in ("index", "extract"):
        assert dff(stage).exit_code == 0
    # several blocks a set
    monkeypatch.setattr(SetRows, "rows_per_block", property(lambda self: 40))
    made = []
    for streamed in (False, True):
        if streamed:
            monkeypatch.setattr(SetRows, "nbytes", 2**50)
        made.append(contents(execute(FACTORIZE, params(how), project, Resources(workers=1))))
        if not streamed:
            shutil.rmtree(project / FACTORIZE.writes)
    assert made[0] == made[1]
    factors = Factors.open(project / FACTORIZE.writes)
    assert (factors.normalise, factors.nonneg) == (how, params(how).nonneg)
    of = factors.at(LAYER)
    for rank, name in enumerate(factors.sets):
        A = rows_of(project, name)
        hand = by_hand(A, how).astype(np.float32)
        if how == "centre":
            np.testing.assert_allclose(of.mean[rank], A.mean(axis=0), atol=1e-6)
        assert (factors.mean(LAYER, rank) is None) == (how == "l2")
        expected = factorize(hand, 2, nonneg=params(how).nonneg)
        W = of.W[rank, factors.factorizations.columns_of(2, 0)]
        np.testing.assert_allclose(of.norm[rank], np.square(hand).sum(), rtol=1e-5)
        np.testing.assert_allclose(W, expected.factors, atol=5e-3)
        loss = of.loss[rank, 1]
        np.testing.assert_allclose(loss[np.isfinite(loss)][-1], expected.loss[-1], rtol=1e-3)


@WAYS
@pytest.mark.parametrize("sizes", ["64", "[48, 64]"])
def test_new_photographs_are_seen_as_those_of_the_set_are(
    project: Path, photographs: Path, tmp_path: Path, dff: Dff, how: str, sizes: str
) -> None:
    chosen(project, how)
    edit(project, "  size: 64", f"  size: {sizes}")
    for stage in ("index", "extract", "factorize", "heatmaps", "refine"):
        assert dff(stage).exit_code == 0
    (tmp_path / "new").mkdir()
    shutil.copy(photographs / "images/discs/3.png", tmp_path / "new" / "copy.png")
    out = tmp_path / "out"
    seen = dff("transform", str(tmp_path / "new"), "--set", "discs", "--k", "2", "--out", str(out))
    assert seen.exit_code == 0, seen.exception
    made = ConceptMaps.open(out / "heatmaps.zarr")[LAYER]
    known = ConceptMaps.open(project / "artifacts/heatmaps.zarr")[LAYER]
    columns = known.columns_of(1, 0) + known.columns_of(2, 0)
    images = [known.artifact.images[int(i)] for i in known.maps.image_ids]
    before = known.maps.map(images.index("images/discs/3.png"))[..., columns].astype(int)
    assert abs(made.maps.map(0).astype(int) - before).max() <= 65535 * 2e-3
    assert before.any()


@WAYS
def test_pinned_factors_go_on_with_the_rows_they_are_of(
    project: Path, photographs: Path, dff: Dff, how: str
) -> None:
    chosen(project, how)
    stages = ("index", "extract", "factorize", "heatmaps")
    for stage in stages:
        assert dff(stage).exit_code == 0
    assert dff("pin", "--freeze").exit_code == 0
    before = Factors.open(project / "artifacts/factors.zarr")
    then = [before.at(LAYER).W, before.mean(LAYER, 0)]
    for name in ("discs", "more discs"):
        folder = photographs / "images" / name
        ImageOps.mirror(Image.open(folder / "2.png")).save(folder / "2b.png")
    said = ""
    for stage in stages:
        result = dff(stage)
        assert result.exit_code == 0, result.exception
        said += result.stderr
    assert "discs: 7 of 7 pinned images hold still; new: 1, explained to" in said
    after = Factors.open(project / "artifacts/factors.zarr")
    np.testing.assert_array_equal(after.at(LAYER).W, then[0])
    if how == "centre":
        np.testing.assert_array_equal(after.mean(LAYER, 0), then[1])
    edit(project, f"normalise: {how}", "normalise: none")
    refused = message(dff("factorize"))
    assert "factorize.normalise: none: the factors of " in refused
    assert f"were pinned with {how}" in refused


def test_a_killed_run_goes_on_with_the_same_mean(project: Path, killable: Killable) -> None:
    chosen(project, "centre")
    edit(project, "max_passes: 100", "max_passes: 11")
    edit(project, "tol: 0.0001", "tol: 0.0")
    for stage in ("index", "extract", "factorize"):
        code, output = killable.run(project, stage)
        assert code == 0, output
    out = project / FACTORIZE.writes
    expected = contents(out)
    for die_at in (2, 4):
        shutil.rmtree(out, ignore_errors=True)
        assert killable.run(project, "factorize", die_at)[0] == -9
    assert killable.run(project, "factorize")[0] == 0
    assert contents(out) == expected


def test_params_say_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"normalise: centre leaves values below zero.*nonneg: H"):
        FactorizeParams(normalise="centre")
    with pytest.raises(ValueError, match="normalise: 'L2' is unknown, choose none, l2 or centre"):
        FactorizeParams(normalise="L2")  # type: ignore[arg-type]
