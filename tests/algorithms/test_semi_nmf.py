"""Semi-NMF: H >= 0 alone; numbers from scipy's solvers, and from Ding's own updates."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import nnls

from loops import SETS, loops
from stages.algorithms.baselines import pca
from stages.algorithms.nmf import Sweep, factorize, factorize_many, transform
from stages.algorithms.nmf.stack import unit_rows
from stages.algorithms.rows import MatrixRows

Matrix = NDArray[np.float64]


@pytest.fixture(scope="module", autouse=True, params=SETS)
def every_set_of_kernels(request):
    with loops(request.param):
        yield


def signed_matrix(rows: int = 300, channels: int = 24, k: int = 4, seed: int = 0) -> Matrix:
    """Directions of any sign, amounts >= 0 of which half are zero, and noise."""
    rng = np.random.default_rng(seed)
    H = np.maximum(rng.standard_normal((rows, k)), 0)
    noise = 0.3 * rng.standard_normal((rows, channels))
    return np.asarray(H @ rng.standard_normal((k, channels)) + noise)


def alternated(A: Matrix, W: Matrix, updates: int) -> float:
    """The loss after exact updates of H (scipy's nnls, row by row) and W (numpy's lstsq)."""
    for _ in range(updates):
        H = np.array([nnls(W.T, row)[0] for row in A])
        W = np.linalg.lstsq(H, A, rcond=None)[0]
    return float(np.square(A - H @ W).sum())


def ding(A: Matrix, H: Matrix, updates: int) -> float:
    """The loss after Ding, Li & Jordan's updates (their eqs. 10 and 11) from H on."""

    def positive(x: Matrix) -> Matrix:
        return np.maximum(x, 0)

    for _ in range(updates):
        W = np.linalg.pinv(H.T @ H) @ H.T @ A
        P, G = A @ W.T, W @ W.T
        up, down = positive(P) + H @ positive(-G), positive(-P) + H @ positive(G)
        H = H * np.sqrt(up / np.maximum(down, 1e-300))
    W = np.linalg.pinv(H.T @ H) @ H.T @ A
    return float(np.square(A - H @ W).sum())


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_objective_within_a_thousandth_of_independent_solvers_best(k: int, seed: int) -> None:
    A = signed_matrix(seed=seed)
    rng = np.random.default_rng(seed)
    starts = [A[rng.choice(len(A), k, replace=False)] for _ in range(6)]
    best = min(alternated(A, W, 40) for W in starts)
    f = factorize(A, k, nonneg="H", tol=1e-7)
    assert f.loss[-1] <= 1.001 * best
    labels = np.abs(rng.standard_normal((len(A), k))) + 0.2
    assert f.loss[-1] <= 1.001 * ding(A, labels, 400)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_from_one_start_the_objective_equals_an_independent_ones_within_a_thousandth(
    k: int, seed: int
) -> None:
    """Update by update: scipy's nnls for H and numpy's lstsq for W."""
    A = signed_matrix(seed=seed)
    W = unit_rows(A[np.random.default_rng(seed).choice(len(A), k, replace=False)])
    f = factorize(A, k, nonneg="H", start={(k, 0): W}, tol=0.0, max_passes=12)
    for updates in (1, 4, 12):
        assert f.loss[updates - 1] == pytest.approx(alternated(A, W, updates), rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    more=st.integers(0, 12),
    channels=st.integers(1, 8),
    k=st.integers(1, 4),
    seed=st.integers(0, 99),
    init=st.sampled_from(["sample", "random"]),
    single=st.booleans(),
)
def test_of_few_rows_it_hardly_rises(
    more: int, channels: int, k: int, seed: int, init: str, single: bool
) -> None:
    """Two directions can become opposite, but for the eighth digit: amounts then take more sweeps
    than there are."""
    k = min(k, channels)
    A = signed_matrix(k + more, channels, 3, seed).astype(np.float32 if single else np.float64)
    f = factorize(A, k, seed, nonneg="H", init=init, max_passes=15)
    assert (np.diff(f.loss) <= 1e-3 * f.norm).all()
    direct = np.square(A - f.coefficients.astype(float) @ f.factors.astype(float)).sum()
    assert abs(f.loss[-1] - direct) <= 1e-4 * f.norm


@settings(max_examples=40, deadline=None)
@given(
    more=st.integers(0, 30),
    channels=st.integers(1, 8),
    k=st.integers(1, 4),
    seed=st.integers(0, 99),
    init=st.sampled_from(["sample", "random"]),
    single=st.booleans(),
)
def test_lawful(more: int, channels: int, k: int, seed: int, init: str, single: bool) -> None:
    k = min(k, channels)
    rows = 6 * k + more  # of as few rows as directions, amounts are not determined
    A = signed_matrix(rows, channels, 3, seed).astype(np.float32 if single else np.float64)
    f = factorize(A, k, seed, nonneg="H", init=init, max_passes=15)
    norm = float(np.square(A, dtype=np.float64).sum())
    H, W = f.coefficients.astype(float), f.factors.astype(float)
    assert (H >= 0).all()
    lengths = np.linalg.norm(W, axis=1)
    assert (np.isclose(lengths, 1, atol=1e-5) | (lengths == 0)).all()
    slack = 1e-5 * norm
    assert (np.diff(f.loss) <= slack).all(), "the loss rose"
    assert abs(f.loss[-1] - np.square(A - H @ W).sum()) <= slack
    assert (np.diff(f.energy) <= slack).all()
    # between what is best without bounds, and what is best with both
    assert pca(A, k).loss[-1] <= f.loss[-1] + slack


def test_of_a_matrix_above_zero_it_explains_more_than_nmf() -> None:
    A = np.abs(signed_matrix())
    both, free = factorize(A, 4), factorize(A, 4, nonneg="H")
    assert free.loss[-1] < both.loss[-1]
    assert free.factors.min() < 0 <= both.factors.min()


def test_one_factor_is_half_of_the_leading_singular_pair_or_better() -> None:
    A = np.outer(np.arange(1.0, 6), [3.0, -4.0])
    f = factorize(A, 1, nonneg="H")
    np.testing.assert_allclose(f.factors, [[0.6, -0.8]], atol=1e-6)
    np.testing.assert_allclose(f.coefficients.ravel(), 5 * np.arange(1.0, 6), rtol=1e-6)


def test_opposite_directions_need_two_factors() -> None:
    A = np.outer([1.0, -1, 2, -3], [3.0, 4.0])
    one, two = (factorize(A, k, nonneg="H") for k in (1, 2))
    assert one.loss[-1] == pytest.approx(25 * (1 + 4))  # the smaller half is left
    assert two.loss[-1] < 1e-9 * two.norm
    assert np.sort(two.factors @ [0.6, 0.8]) == pytest.approx([-1, 1])


def test_a_sweep_equals_separate_calls_and_goes_on_after_any_pass() -> None:
    A = MatrixRows(signed_matrix().astype(np.float32), 64)
    options = {"nonneg": "H", "max_passes": 6, "tol": 0.0}
    together = factorize_many(A, [2, 3], [0, 1], **options)
    for f in together:
        alone = factorize(A, f.k, f.seed, **options)
        np.testing.assert_allclose(alone.factors, f.factors, atol=1e-5)
    sweep = Sweep(A, [2, 3], [0, 1], **options)
    for _ in range(3):
        sweep.step()
    resumed = Sweep(A, [2, 3], [0, 1], **options, resume=copy.deepcopy(sweep.state()))
    while not resumed.done:
        resumed.step()
    for f, g in zip(together, resumed.finish(), strict=True):
        assert f.factors.tobytes() == g.factors.tobytes()
        assert f.coefficients.tobytes() == g.coefficients.tobytes()


def test_stability_and_a_start_of_any_sign() -> None:
    # each row is of one direction: another choice of three would explain less
    rng = np.random.default_rng(0)
    amounts = np.eye(3)[rng.integers(0, 3, 300)] * rng.uniform(1, 2, (300, 1))
    A = amounts @ rng.standard_normal((3, 24)) + 0.1 * rng.standard_normal((300, 24))
    sweep = Sweep(A, [3, 6], nonneg="H", stability_runs=3)
    assert sweep.stability[0].cosine > 0.98 > sweep.stability[1].cosine
    f = factorize(A, 3, nonneg="H")
    again = factorize(A, 3, nonneg="H", start={(3, 0): f.factors}, freeze=True)
    np.testing.assert_array_equal(again.factors, f.factors)
    np.testing.assert_allclose(again.coefficients, f.coefficients, rtol=1e-4, atol=1e-5)


def test_transform_is_least_squares_with_coefficients_above_zero() -> None:
    A = signed_matrix()
    W = factorize(A, 4, nonneg="H").factors.astype(float)
    expected = [nnls(W.T, row)[0] for row in A[:40]]
    np.testing.assert_allclose(transform(A[:40], W), expected, rtol=1e-4, atol=1e-4)


def test_what_is_refused() -> None:
    A = signed_matrix()
    with pytest.raises(ValueError, match=r"a negative value in row 0: NMF needs"):
        factorize(A, 2)
    A[17, 3] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in row 17: semi-NMF needs finite"):
        factorize(A, 2, nonneg="H")
    for options in ({"solver": "mu"}, {"init": "nndsvd"}):
        with pytest.raises(ValueError, match="solved by hals from init sample or random"):
            factorize(A, 2, nonneg="H", **options)
    with pytest.raises(ValueError, match="choose one of W and H, H"):
        factorize(A, 2, nonneg="W")
