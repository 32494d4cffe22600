"""The compiled warm start against `accelerated`, pass by pass, which it replaces."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.algorithms.nmf import aside, cpu_starts, initial
from stages.algorithms.nmf.cpu import CpuEngine
from stages.algorithms.nmf.initial import _run_starts, accelerated, random_start
from stages.algorithms.rows import MatrixRows

ENGINE = CpuEngine(1)


def rows(count: int, channels: int, seed: int = 0) -> scipy.sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    A = rng.random((count, 3)) ** 3 @ rng.random((3, channels)) ** 3
    A[rng.random(A.shape) < 0.7] = 0
    return scipy.sparse.csr_matrix(A.astype(np.float32))


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 400),
    channels=st.integers(4, 90),
    ks=st.lists(st.integers(1, 4), min_size=1, max_size=9),
    updates=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_it_finds_what_single_passes_find(
    count: int, channels: int, ks: list[int], updates: int, seed: int
) -> None:
    A = rows(count, channels, seed)
    rng = np.random.default_rng(seed)
    mean = float(A.mean())
    starts = [random_start((k, channels), k, mean, rng) for k in ks]
    mine = _run_starts(MatrixRows(A), starts, updates, ENGINE, np.dtype(np.float32))
    theirs = accelerated(MatrixRows(A), starts, updates, ENGINE, np.dtype(np.float32))
    norm = float(np.square(A.data, dtype=np.float64).sum())
    for k, (loss, W), (expected, reference) in zip(ks, mine, theirs, strict=True):
        assert W.shape == (k, channels) and (W >= 0).all()
        # rounding alone: a start may rest one update sooner, which costs `SETTLED` of its loss
        assert loss == pytest.approx(expected, rel=1e-3, abs=1e-5 * norm)
        if updates < 4 and min(A.shape) > 40:
            np.testing.assert_allclose(W, reference, atol=2e-3)


def test_its_loss_is_that_of_the_factors_it_gives() -> None:
    """By SciPy's non-negative least squares; A is scaled so that nothing hides in the tolerance."""
    from scipy.optimize import nnls

    A = rows(60, 20)
    start = random_start((2, 20), 2, float(A.mean()), np.random.default_rng(0))
    ((loss, W),) = _run_starts(MatrixRows(A), [start], 200, ENGINE, np.dtype(np.float32))
    best = sum(nnls(W.T, row)[1] ** 2 for row in A.toarray().astype(np.float64))
    assert loss == pytest.approx(best, rel=1e-3)


def test_neither_threads_nor_neighbours_change_a_bit() -> None:
    A = MatrixRows(rows(900, 70))
    rng = np.random.default_rng(0)
    starts = [random_start((k, 70), k, 0.1, rng) for k in (4, 1, 3, 2) * 12]
    dtype = np.dtype(np.float32)
    together = _run_starts(A, starts, 9, CpuEngine(3), dtype)
    for (loss, W), start in zip(together, starts, strict=True):
        ((alone, same),) = _run_starts(A, [start], 9, ENGINE, dtype)
        assert loss == alone
        np.testing.assert_array_equal(W, same)


def test_where_it_does_not_compile_passes_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_starts, "accelerate", lambda *arguments: False)
    A, dtype = MatrixRows(rows(300, 40)), np.dtype(np.float32)
    start = random_start((3, 40), 3, 0.1, np.random.default_rng(0))
    ((loss, W),) = _run_starts(A, [start], 5, ENGINE, dtype)
    ((expected, reference),) = accelerated(A, [start], 5, ENGINE, dtype)
    assert loss == expected
    np.testing.assert_array_equal(W, reference)


def test_a_sample_is_not_held_more_often_than_there_is_room_for() -> None:
    assert aside.at_once(16, initial.SAMPLE_BYTES // 2) == 2
    assert aside.at_once(16, 10 * initial.SAMPLE_BYTES) == 1
    assert aside.at_once(4, 1000) == 4
