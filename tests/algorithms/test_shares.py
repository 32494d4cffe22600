"""Shares of rows: what makes the parts of the factors of one factorization sum to the whole."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.algorithms.nmf.shares import shares_of_rows

ROWS, K, CHANNELS = 6, 3, 5
ENTRIES = st.one_of(st.just(0.0), st.floats(2.0**-100, 2.0**100, width=32))


@given(
    arrays(np.float32, (ROWS, K), elements=ENTRIES),
    arrays(np.float32, (K, CHANNELS), elements=st.floats(0, 1, width=32)),
)
def test_shares_are_shares(H: np.ndarray, W: np.ndarray) -> None:
    found = shares_of_rows(H, W)
    assert found.dtype == np.float32 and found.shape == H.shape
    assert (found >= 0).all() and (found <= 1).all()
    assert (found[H == 0] == 0).all()  # a factor that is not there carries nothing
    sums = found.sum(axis=1)
    for row, total in zip(H.astype(np.float64), sums, strict=True):
        # relative to the row: squares of tiny ones are no numbers
        there = np.linalg.norm((row / max(row.max(), 1e-300)) @ W.astype(np.float64))
        if there > 1e-12:
            assert total == pytest.approx(1, abs=1e-6)
        elif there == 0:
            assert total == 0


@given(
    arrays(np.float64, (ROWS, K), elements=st.floats(0, 10)),
    arrays(np.float64, (K, CHANNELS), elements=st.floats(-1, 1)),
)
def test_of_signed_factors_too(H: np.ndarray, W: np.ndarray) -> None:
    found = shares_of_rows(H, W)
    assert (found >= 0).all() and (found <= 1).all()
    sums = found.sum(axis=1)
    assert np.all((abs(sums - 1) < 1e-6) | (sums == 0))
    energy = np.square(H @ W).sum(axis=1)
    assert (sums[energy > 1e-9] > 0).all()


def test_of_least_squares_it_is_the_share_of_what_is_explained() -> None:
    """With scipy's H: <w_j, a_i> instead of <w_j, r_i>, and energies that add up."""
    rng = np.random.default_rng(0)
    W = rng.random((4, 12))
    A = rng.random((50, 12)) * (rng.random((50, 12)) < 0.4)
    H = np.array([scipy.optimize.nnls(W.T, row)[0] for row in A])
    found = shares_of_rows(H, W)
    by_rows = H * (A @ W.T)
    explained = np.square(A).sum(axis=1) - np.square(A - H @ W).sum(axis=1)
    np.testing.assert_allclose(by_rows.sum(axis=1), explained, rtol=1e-10)
    np.testing.assert_allclose(found, by_rows / explained[:, None], atol=1e-6)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"H \(2, 3\) and W \(2, 4\)"):
        shares_of_rows(np.ones((2, 3)), np.ones((2, 4)))
