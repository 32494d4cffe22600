"""Image sets within factors: what one factor explains, factorized again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from stages.algorithms.nmf import factorize_many
from stages.algorithms.nmf.shares import shares_of_rows
from stages.algorithms.nmf.sweep import Sweep
from stages.algorithms.normalised import weighted
from stages.algorithms.rows import ResidentRows
from stages.artifacts.factors import Factors
from stages.artifacts.within import Within, resolved
from stages.factorize.params import FactorizeParams
from stages.factorize.stage import FACTORIZE
from stages.frame.errors import StageError
from stages.frame.execute import execute
from stages.frame.resources import Resources
from store import RaggedWriter, SetRows, create_artifact
from store.artifact import layer_key

CHANNELS, GRID, IMAGES = 24, (6, 8), 10
SETS = {"all": list(range(IMAGES)), "some": [1, 4, 5]}
WITHIN = ("all/2/0", "all/2/1", "all/2/1/3/0")
PARAMS = FactorizeParams(k=(1, 2, 3), stability_runs=2, within=WITHIN)


def write(project: Path, values: np.ndarray, sets: dict[str, list[int]] = SETS) -> None:
    """An artifact of the extract stage, of images of one size."""
    images = len(values) // (GRID[0] * GRID[1])
    group = create_artifact(
        project / "artifacts/activations.zarr",
        stage="extract",
        fingerprint="0" * 64,
        layers=["layer"],
        images=[f"image {i}.jpg" for i in range(images)],
        sets={name: np.array(entries) for name, entries in sets.items()},
    )
    maps = group.require_group(f"{layer_key('layer')}/maps")
    channels = values.shape[1]
    writer = RaggedWriter(
        maps, np.array([GRID] * images), np.arange(images), channels, np.float32, narrow=True
    )
    writer.append(0, values.astype(np.float32))
    writer.close()


def made(seed: int = 0, density: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = IMAGES * GRID[0] * GRID[1]
    values = rng.gamma(0.5, 1.0, (rows, 4)) @ rng.gamma(0.5, 1.0, (4, CHANNELS))
    values[values < np.quantile(values, 1 - density)] = 0
    return np.asarray(values.astype(np.float16), np.float32)


def factorized(project: Path, params: FactorizeParams = PARAMS, **resources: int) -> Factors:
    return Factors.open(execute(FACTORIZE, params, project, Resources(**resources)))  # type: ignore[arg-type]


def coefficients(factors: Factors, name: str) -> np.ndarray:
    return np.concatenate(
        list(factors.at("layer").coefficients.select(factors.sets[name]).blocks())
    )


def of(factors: Factors, name: str, k: int) -> tuple[np.ndarray, np.ndarray]:
    """H and W of one factorization."""
    columns = factors.factorizations.columns_of(k)
    rank = list(factors.sets).index(name)
    return coefficients(factors, name)[:, columns], factors.at("layer").W[rank, columns]


def files(project: Path) -> dict[str, bytes]:
    folder = project / "artifacts/factors.zarr"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- what it finds ---------------------------------------------------------------------------------


def planted() -> tuple[np.ndarray, np.ndarray]:
    """Rows of a ground of two kinds, and of a thing of two kinds of places that are much alike.

    The thing's rows have some of the ground, too. Energy decides what a further factor is for:
    there is more in the thing than in what the ground's kinds differ by, and more in that than in
    what the thing's places differ by.
    """
    rng = np.random.default_rng(1)
    kinds = np.zeros((4, CHANNELS))
    kinds[:2, 10:14] = 1  # the ground's
    kinds[0, :5] = kinds[1, 5:10] = 0.376
    kinds[2:, 14:18] = 1  # what the thing's places have in common
    kinds[2, 18:21] = kinds[3, 21:24] = 1.2  # and what they have not
    kinds /= np.linalg.norm(kinds, axis=1, keepdims=True)
    height, width = GRID
    amounts = np.zeros((IMAGES, height, width, 4))
    amounts[:, : height // 2, :, 0] = rng.uniform(3, 6, (IMAGES, height // 2, width))
    amounts[:, height // 2 :, :, 1] = rng.uniform(3, 6, (IMAGES, height // 2, width))
    for image in range(IMAGES):
        top, left = rng.integers(0, height - 2), rng.integers(0, width - 4)
        thing = amounts[image, top : top + 2, left : left + 4]
        thing[..., :2] *= 0.05
        thing[:, :2, 2], thing[:, 2:, 3] = rng.uniform(3, 5, (2, 2, 2))
    return amounts.reshape(-1, 4) @ kinds, kinds


def test_a_factor_is_divided_into_what_it_is_made_of(tmp_path: Path) -> None:
    values, kinds = planted()
    write(tmp_path, values, {"set": list(range(IMAGES))})
    params = FactorizeParams(k=(1, 2, 3), stability_runs=0)
    _, coarse = of(factorized(tmp_path, params), "set", 2)
    thing = int((coarse @ kinds[2:].sum(axis=0)).argmax())
    factors = factorized(tmp_path, FactorizeParams(k=(1, 2, 3), within=(f"set/2/{thing}",)))
    H, found = of(factors, f"set/2/{thing}", 2)
    cosines = found @ kinds[2:].T
    order = cosines.argmax(axis=0)
    assert set(order) == {0, 1} and cosines.max(axis=0).min() > 0.95
    # each where it was put, of the places that the thing has
    where = np.linalg.lstsq(kinds.T, values.T, rcond=None)[0].T[:, 2:] > 1
    assert where.any(axis=1).sum() == IMAGES * 8
    assert (
        H[where.any(axis=1)].argmax(axis=1) == order[where[where.any(axis=1)].argmax(axis=1)]
    ).all()
    assert H[~where.any(axis=1)].max() < 0.2 * H.max()
    # plainly, as many factors say more of the ground, and do not tell the thing's places apart
    _, plain = of(factors, "set", 3)
    assert (plain @ kinds[2:].T).max(axis=0).max() < 0.9
    _, alone = of(factors, f"set/2/{thing}", 1)
    assert float((alone @ coarse[thing])[0]) > 0.99  # k = 1 is the factor itself


# -- what it is ------------------------------------------------------------------------------------


def test_it_is_the_factorization_of_the_weighted_rows(tmp_path: Path) -> None:
    values = made()
    write(tmp_path, values)
    factors = factorized(tmp_path)
    assert list(factors.sets) == ["all", "some", *WITHIN] and factors.own_sets == ["all", "some"]
    shares = shares_of_rows(*of(factors, "all", 2))
    assert shares.sum(axis=1)[values.any(axis=1)] == pytest.approx(1, abs=1e-6)
    nested = shares_of_rows(*of(factors, "all/2/1", 3))[:, 0] * shares[:, 1]
    weights = dict(zip(WITHIN, [*shares.T, nested], strict=True))
    for name, mine in weights.items():
        matrix = values * mine[:, None]
        rank = list(factors.sets).index(name)
        assert factors.at("layer").norm[rank] == pytest.approx(np.square(matrix).sum(), rel=1e-5)
        # sparse as the store's rows are: there are optima as good as this one, and which it is
        # rounding may decide
        for one in factorize_many(scipy.sparse.csr_matrix(matrix), PARAMS.k):
            H, W = of(factors, name, one.k)
            np.testing.assert_allclose(W, one.factors, atol=5e-3)  # both stop within tol
            np.testing.assert_allclose(H, one.coefficients, atol=2e-2)
            assert (H[mine == 0] == 0).all()
        assert list(factors.image_ids[factors.sets[name]]) == SETS["all"]
        assert factors.root(name) == "all"
    # the parts of the factors are the whole
    together = sum(values * mine[:, None] for mine in shares.T)
    np.testing.assert_allclose(together, values, atol=1e-5)


@pytest.mark.parametrize("density", [0.2, 0.9], ids=["sparse", "dense"])
def test_memory_and_workers_do_not_change_a_bit(
    tmp_path: Path, density: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.algorithms import rows

    monkeypatch.setattr("store.set_rows.BLOCK_BYTES", 100 * CHANNELS * 4)
    write(tmp_path, made(density=density))
    factorized(tmp_path, workers=2)
    expected = files(tmp_path)
    within = rows.ResidentRows.within
    kept: list[bool] = []

    def limited(rows: SetRows, most: int) -> object:
        kept.append(False)
        return within(rows, 1)

    monkeypatch.setattr(rows.ResidentRows, "within", limited)
    (tmp_path / "artifacts/factors.zarr").rename(tmp_path / "before")
    factorized(tmp_path, workers=1)
    assert len(kept) == 5 and files(tmp_path) == expected


def test_what_lies_within_changes_nothing_of_its_set(tmp_path: Path) -> None:
    write(tmp_path / "plain", made())
    write(tmp_path / "more", made())
    plain = factorized(tmp_path / "plain", FactorizeParams(k=(1, 2, 3), stability_runs=2))
    more = factorized(tmp_path / "more")
    assert plain.within == {} and "within" not in dict(plain.artifact.attrs)
    for name in ("all", "some"):
        np.testing.assert_array_equal(coefficients(plain, name), coefficients(more, name))
    for array in ("W", "loss", "energy", "stability", "held_out", "parent", "nonzero"):
        before, now = (getattr(one.at("layer"), array) for one in (plain, more))
        width = before.shape[-1] if array == "loss" else None  # padded to the longest
        np.testing.assert_array_equal(before, now[:2, ..., :width])


def test_a_crash_costs_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, made())
    factorized(tmp_path)
    expected = files(tmp_path)
    for after in (1, 2, 3, 4, 5):
        (tmp_path / "artifacts/factors.zarr").rename(tmp_path / f"before {after}")
        _crash(tmp_path, after, monkeypatch)
        execute(FACTORIZE, PARAMS, tmp_path, Resources(reuse=False))
        assert files(tmp_path) == expected, after


def _crash(project: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    step, steps = Sweep.step, 0

    def crashing(self: Sweep) -> None:
        nonlocal steps
        steps += 1
        if steps == after:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patched:
        patched.setattr(Sweep, "step", crashing)
        with pytest.raises(KeyboardInterrupt):
            execute(FACTORIZE, PARAMS, project, Resources(reuse=False))


@pytest.mark.parametrize("how", ["l2", "centre"])
def test_rows_are_normalised_before_they_are_weighted(tmp_path: Path, how: str) -> None:
    values = made()
    write(tmp_path, values)
    nonneg: Any = "H" if how == "centre" else "W and H"
    options: Any = {"nonneg": nonneg, "normalise": how, "stability_runs": 0, "max_passes": 20}
    factors = factorized(
        tmp_path, FactorizeParams(k=(1, 2), within=("all/2/0", "all/2/0/2/1"), **options)
    )
    rows = values.copy()
    if how == "l2":
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    else:
        rows -= rows.mean(axis=0)
    for name, outer, factor in (("all/2/0", "all", 0), ("all/2/0/2/1", "all/2/0", 1)):
        H, W = of(factors, outer, 2)
        rows = rows * shares_of_rows(H, W)[:, [factor]]
        same = scipy.sparse.csr_matrix(rows) if how == "l2" else rows  # as the stage has them
        expected = factorize_many(same, (1, 2), seeds=(0,), nonneg=nonneg, max_passes=20)
        _, found = of(factors, name, 2)
        np.testing.assert_allclose(found, expected[1].factors, atol=2e-4)


def test_signed_factors_are_divided_too(tmp_path: Path) -> None:
    values = (made() - 0.2).astype(np.float16).astype(np.float32)
    write(tmp_path, values)
    params = FactorizeParams(k=(1, 2), nonneg="H", stability_runs=2, within=("all/2/0", "all/2/1"))
    factors = factorized(tmp_path, params)
    shares = shares_of_rows(*of(factors, "all", 2))
    for factor, name in enumerate(params.within):
        matrix = (values * shares[:, factor, None]).astype(np.float32)
        rank = list(factors.sets).index(name)
        assert factors.at("layer").norm[rank] == pytest.approx(np.square(matrix).sum(), rel=1e-4)
        H, W = of(factors, name, 1)
        loss = np.square(matrix - H @ W).sum()
        # rank 1 with H >= 0 is as good as it gets
        best = np.square(np.linalg.svd(matrix, compute_uv=False)[1:]).sum()
        assert best * (1 - 1e-5) <= loss <= 1.25 * best


def test_the_papers_updates_divide_as_well(tmp_path: Path) -> None:
    write(tmp_path, made())
    params = FactorizeParams(k=(1, 2), solver="mu", stability_runs=0, within=("all/2/1",))
    factors = factorized(tmp_path, params)
    share = shares_of_rows(*of(factors, "all", 2))[:, 1]
    norm = np.square(made() * share[:, None]).sum()
    assert factors.at("layer").norm[2] == pytest.approx(norm, rel=1e-5)


# -- what cannot be --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("within", "line"),
    [
        ("al/2/0", r"al/2/0: no image set 'al'; did you mean 'all'\?"),
        ("all/2/1/3/0/1/0", ""),
        ("all/2/4/3/0", r"all/2/4/3/0: all/2/4: k = 2 has the factors 0 to 1, no factor 4"),
        ("all/7/1/3/0", r"all/7/1/3/0: k = 7 is not among factorize.k \(1, 2, 3\)"),
    ],
)
def test_what_is_no_factor_of_a_set(within: str, line: str) -> None:
    if not line:
        assert list(resolved([within], ["all"], (1, 2, 3))) == ["all/2/1", "all/2/1/3/0", within]
        return
    with pytest.raises(StageError, match=f"^params.yaml: factorize.within: {line}"):
        resolved([within], ["all", "some"], (1, 2, 3))


def test_a_set_that_is_called_like_a_factor() -> None:
    with pytest.raises(StageError, match="all/2/1: an image set has this name itself"):
        resolved(["all/2/1"], ["all", "all/2/1"], (1, 2))
    deeper = Within("all/2/1", 3, 0)  # but its own factors are factors
    assert resolved(["all/2/1/3/0"], ["all", "all/2/1"], (3,)) == {"all/2/1/3/0": deeper}


@pytest.mark.parametrize(
    ("within", "line"),
    [
        ("all/2", "'all/2' is no factor; name a factor as SET/K/FACTOR"),
        ("all/2/2", "k = 2 has the factors 0 to 1, no factor 2"),
        ("all/02/1", "is no factor"),
        ("all/4/1", r"k = 4 is not among factorize.k \(1, 2, 3\); add it there"),
    ],
)
def test_params_that_name_no_factor(within: str, line: str) -> None:
    with pytest.raises(ValueError, match=f"^within: .*{line}"):
        FactorizeParams(k=(1, 2, 3), within=(within,))


def test_a_factor_that_explains_nothing(tmp_path: Path) -> None:
    values = np.zeros((IMAGES * GRID[0] * GRID[1], CHANNELS), np.float32)
    values[5:50, 3] = 2  # of rank 1: a second factor finds nothing
    write(tmp_path, values, {"set": list(range(IMAGES))})
    params = FactorizeParams(k=(1, 2), stability_runs=0, within=("set/2/1",))
    with pytest.raises(StageError, match=r"set/2/1: factor 1 of set, k = 2, explains nothing"):
        factorized(tmp_path, params)
    assert not (tmp_path / "artifacts/factors.zarr").exists()


def test_weights_must_be_those_of_the_rows(tmp_path: Path) -> None:
    from store import open_artifact

    write(tmp_path, made())
    rows = open_artifact(tmp_path / "artifacts/activations.zarr").rows("some", block_rows=50)
    weights = np.random.default_rng(0).random(rows.shape[0]).astype(np.float32)
    weights[:60] = 0
    expected = rows[0 : rows.shape[0]] * weights[:, None]
    np.testing.assert_array_equal(np.concatenate(list(weighted(rows, weights).blocks())), expected)
    compact = ResidentRows.of(replace(rows.compact(), narrow=False))
    before = [one.toarray() for one in compact.blocks()]
    sparse = list(weighted(compact, weights).blocks())
    np.testing.assert_array_equal(np.concatenate([one.toarray() for one in sparse]), expected)
    assert sparse[0].nnz == 0
    for kept, one in zip(before, compact.blocks(), strict=True):
        np.testing.assert_array_equal(one.toarray(), kept)  # the rows' own stay
    with pytest.raises(ValueError, match="144 rows cannot have weights"):
        weighted(rows, weights[1:])
