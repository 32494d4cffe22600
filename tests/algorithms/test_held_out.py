"""Held-out errors, and what a dictionary is like: planted answers, sums by hand."""

import doctest

import numpy as np
import pytest
import scipy.sparse

from stages.algorithms.nmf import Sweep, held_out, usage
from stages.algorithms.nmf.cpu import CpuEngine
from stages.algorithms.nmf.held_out import held_out_errors
from stages.algorithms.nmf.sample import Sample
from stages.algorithms.nmf.usage import Usage, apart

FLOAT = np.dtype(np.float32)
KS = [1, 2, 3, 4, 5, 6]


def planted(k: int, noise: float, seed: int, signed: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    H = rng.gamma(1, 1, (2000, k)) * (rng.random((2000, k)) < 0.5)
    W = rng.standard_normal((k, 60))
    if not signed:
        W = np.abs(W) * (rng.random((k, 60)) < 0.4)
    A = H @ W + noise * rng.standard_normal((2000, 60))
    return A if signed else np.maximum(A, 0)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("signed", [False, True])
def test_the_error_falls_until_the_planted_k_and_no_further(k: int, signed: bool) -> None:
    A = planted(k, 0.2, 0, signed)
    errors = np.array(held_out_errors(Sample.of([A]), KS, CpuEngine(2), FLOAT, signed=signed))
    assert (errors[: k - 1] > 1.5 * errors[k - 1]).all()
    assert (errors[k:] > 0.9 * errors[k - 1]).all()


def test_noise_alone_is_foretold_by_nothing_but_its_mean() -> None:
    A = np.random.default_rng(0).gamma(1, 1, (1500, 60))
    errors = held_out_errors(Sample.of([A]), [1, 4, 12], CpuEngine(2), FLOAT)
    assert errors[0] < errors[1] < errors[2]


def test_one_factor_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """k = 1 has a closed form: leading pairs of each kept quarter, and two projections."""
    A = planted(3, 0.3, 1)[:400]
    found = held_out_errors(Sample.of([A]), [1], CpuEngine(1), np.dtype(np.float64))[0]
    rng = np.random.default_rng(list(A.shape))
    stretch = np.arange(400) * held_out.STRETCHES // 400
    rows = np.isin(stretch, rng.permutation(held_out.STRETCHES)[: held_out.STRETCHES // 2])
    columns = np.isin(np.arange(60), rng.permutation(60)[:30])
    wrong = 0.0
    for i in (rows, ~rows):
        for j in (columns, ~columns):
            w = np.abs(np.linalg.svd(A[~i][:, ~j])[2][0])
            kept = A[~i][:, ~j] @ w
            held = A[i][:, ~j] @ w
            foretelling = kept @ A[~i][:, j] / (kept @ kept)
            wrong += np.square(A[i][:, j] - np.outer(held, foretelling)).sum()
    assert found == pytest.approx(wrong / np.square(A).sum(), rel=1e-4)


def test_sparse_rows_give_the_same() -> None:
    A = planted(3, 0.2, 2)
    dense, sparse = (
        held_out_errors(Sample.of([form(A)]), [2, 3], CpuEngine(1), np.dtype(np.float64))
        for form in (np.asarray, scipy.sparse.csr_array)
    )
    np.testing.assert_allclose(dense, sparse, rtol=1e-8)


def test_too_many_factors_and_too_few_rows_have_none() -> None:
    A = planted(2, 0.1, 3)[:, :8]
    errors = held_out_errors(Sample.of([A]), [2, 5], CpuEngine(1), FLOAT)
    assert np.isfinite(errors[0]) and np.isnan(errors[1])
    assert np.isnan(held_out_errors(Sample.of([A[:1]]), [1], CpuEngine(1), FLOAT)).all()


def test_a_sweep_tells_and_keeps_them() -> None:
    A = planted(3, 0.2, 4).astype(np.float32)
    sweep = Sweep(A, KS[:4], stability_runs=2)
    assert int(np.argmin(np.array(sweep.held_out)[:3])) == 2
    again = Sweep(A, KS[:4], stability_runs=2, resume=sweep.state())
    assert again.held_out == sweep.held_out
    assert Sweep(A, KS[:4]).held_out == []


def test_usage_block_by_block() -> None:
    rng = np.random.default_rng(0)
    H = rng.gamma(1, 1, (101, 3)) * (rng.random((101, 3)) < [0.1, 0.5, 1])
    H[:, 2] = 2.5
    found = Usage(3)
    for start in range(0, 101, 40):
        found.add(H[start : start + 40].astype(np.float32))
    np.testing.assert_allclose(found.nonzero, (H > 0).mean(axis=0))
    lengths = np.linalg.norm(H, 1, axis=0) / np.linalg.norm(H, axis=0)
    np.testing.assert_allclose(found.hoyer, (101**0.5 - lengths) / (101**0.5 - 1), atol=1e-6)
    assert found.hoyer[2] == pytest.approx(0, abs=1e-6)
    nothing = Usage(1)
    nothing.add(np.zeros((5, 1)))
    assert nothing.nonzero == [0] and np.isnan(nothing.hoyer).all()


def test_apart_by_hand() -> None:
    W = [[1, 0, 0], [2, 0.1, 0], [0, 1, 1], [0, 0, 0], [-1, 0, 0]]
    found = apart(np.array(W, float))
    assert (found.dead, found.duplicates) == (1, 1)
    assert found.coherence == pytest.approx(2 / np.hypot(2, 0.1))
    assert apart(np.zeros((2, 3))) == (2, 0, 0.0)


def test_the_example_runs() -> None:
    assert doctest.testmod(usage).failed == 0
