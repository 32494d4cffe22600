"""PCA against numpy's SVD, k-means against scikit-learn."""

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from stages.algorithms.baselines import kmeans, pca
from stages.algorithms.rows import MatrixRows, ResidentRows


def in_blocks(a, size):
    return MatrixRows(a, size)


def squared_error(a, result):
    h, w = result.coefficients.astype(np.float64), result.factors.astype(np.float64)
    return ((a - h @ w) ** 2).sum()


def relu_like(rows=120, channels=9, seed=0):
    rng = np.random.default_rng(seed)
    return np.maximum(rng.normal(size=(rows, channels)) * np.arange(1, channels + 1), 0)


def clusters(seed=0, k=4, rows=50, channels=6):
    rng = np.random.default_rng(seed)
    centres = 10 * np.eye(k, channels) * np.arange(1, k + 1)[:, None]
    a = np.concatenate([c + 0.3 * rng.random((rows, channels)) for c in centres])
    return a[rng.permutation(len(a))]


@pytest.mark.parametrize("k", [1, 3, 9])
def test_pca_equals_the_svd(k):
    a = relu_like()
    result = pca(in_blocks(a, 32), k)
    _, singular, vt = np.linalg.svd(a, full_matrices=False)
    # Equal up to sign, and the sign is fixed: the largest entry is positive.
    np.testing.assert_allclose(np.abs(result.factors), np.abs(vt[:k]), atol=1e-5)
    assert (result.factors[np.arange(k), np.abs(result.factors).argmax(1)] > 0).all()
    np.testing.assert_allclose(result.coefficients, a @ result.factors.T, rtol=1e-4, atol=1e-3)
    scale = (a**2).sum()
    np.testing.assert_allclose(result.loss, [(singular[k:] ** 2).sum()], atol=1e-9 * scale)
    assert squared_error(a, result) == pytest.approx(result.loss[-1], abs=1e-6 * scale)
    assert result.passes == 1 and result.converged


def test_pca_is_not_centred():
    # Rows all alike: one component explains everything, which centring would have removed.
    a = np.tile([3.0, 4.0], (5, 1))
    result = pca(in_blocks(a, 2), 1)
    np.testing.assert_allclose(result.factors, [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(result.coefficients, np.full((5, 1), 5.0), rtol=1e-6)
    assert result.loss[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_kmeans_equals_sklearn_on_clusters(seed):
    a = clusters(seed)
    result = kmeans(in_blocks(a, 64), 4, seed)
    theirs = KMeans(4, n_init=10, random_state=0).fit(a)
    assert result.loss[-1] == pytest.approx(theirs.inertia_, rel=1e-9)
    order = np.argsort(theirs.cluster_centers_.sum(1))
    np.testing.assert_allclose(
        result.factors[np.argsort(result.factors.sum(1))],
        theirs.cluster_centers_[order],
        rtol=1e-5,
        atol=1e-6,
    )
    assert result.converged


@pytest.mark.parametrize("seed", range(3))
def test_kmeans_is_about_as_good_as_sklearn_without_clusters(seed):
    a = relu_like(600, seed=seed)
    theirs = KMeans(5, n_init=10, random_state=0).fit(a).inertia_
    assert kmeans(in_blocks(a, 100), 5, seed, sample_rows=200).loss[-1] < 1.05 * theirs


def test_kmeans_coefficients_are_one_hot_of_the_nearest_mean():
    a = clusters()
    result = kmeans(in_blocks(a, 30), 4, 0)
    assert set(np.unique(result.coefficients)) == {0.0, 1.0}
    assert (result.coefficients.sum(1) == 1).all()
    distance = ((a[:, None] - result.factors[None]) ** 2).sum(-1)
    np.testing.assert_array_equal(result.coefficients.argmax(1), distance.argmin(1))
    for j in range(4):
        members = a[result.coefficients[:, j] == 1]
        np.testing.assert_allclose(result.factors[j], members.mean(0), rtol=1e-5, atol=1e-6)
    energy = result.coefficients.sum(0) * (result.factors**2).sum(1)
    assert (np.diff(energy) <= 0).all()


@given(seed=st.integers(0, 99), k=st.integers(1, 6), sample=st.integers(1, 80))
@settings(max_examples=25, deadline=None)
def test_kmeans_loss_is_the_error_and_never_rises(seed, k, sample):
    a = relu_like(60, 5, seed)
    result = kmeans(in_blocks(a, 17), k, seed, sample_rows=sample)
    assert squared_error(a, result) == pytest.approx(result.loss[-1], rel=1e-5)
    assert (np.diff(result.loss) <= 1e-9 * result.loss[0]).all()


@given(size=st.integers(1, 130), dtype=st.sampled_from([np.float32, np.float64]))
@settings(max_examples=20, deadline=None)
def test_result_does_not_depend_on_the_blocks(size, dtype):
    a = relu_like().astype(dtype)
    for result, whole in (
        (pca(in_blocks(a, size), 3), pca(in_blocks(a, 120), 3)),
        (
            kmeans(in_blocks(a, size), 3, 0, sample_rows=50),
            kmeans(in_blocks(a, 120), 3, 0, sample_rows=50),
        ),
    ):
        np.testing.assert_allclose(result.factors, whole.factors, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(result.coefficients, whole.coefficients, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(result.loss, whole.loss, rtol=1e-9)
        assert result.factors.dtype == result.coefficients.dtype == np.float32


def test_the_same_seed_gives_the_same_result():
    a = relu_like()
    first, second = (kmeans(in_blocks(a, 50), 4, 7, sample_rows=60) for _ in range(2))
    np.testing.assert_array_equal(first.factors, second.factors)
    np.testing.assert_array_equal(first.coefficients, second.coefficients)


@pytest.mark.parametrize("a", [np.zeros((6, 3)), np.tile([1.0, 2.0, 0.1], (6, 1))])
def test_fewer_distinct_rows_than_clusters(a):
    result = kmeans(in_blocks(a, 4), 3, 0)
    assert np.isfinite(result.factors).all() and result.converged
    assert result.loss[-1] == pytest.approx(0, abs=1e-12)
    assert result.coefficients.sum() == 6


@pytest.mark.parametrize("seed", range(5))
def test_empty_clusters_move_to_the_rows_worst_explained(seed):
    # The sample of three holds copies of one row, so all centres start there and two stay empty.
    a = np.tile([1.0, 2.0, 0.0], (1000, 1))
    a[500], a[501] = [9.0, 0.0, 0.0], [0.0, 0.0, 7.0]
    result = kmeans(in_blocks(a, 64), 3, seed, sample_rows=3)
    assert result.converged and result.loss[-1] == pytest.approx(0, abs=1e-9)
    assert sorted(result.coefficients.sum(0)) == [1, 1, 998]


@pytest.mark.parametrize("seed", range(5))
def test_a_cluster_missing_from_the_sample_is_found(seed):
    # Three rows far from the rest, most likely not among the twelve sampled.
    a = np.concatenate([clusters(k=2), np.full((3, 6), 500.0)])
    result = kmeans(in_blocks(a, 40), 3, seed, sample_rows=12)
    assert result.loss[-1] == pytest.approx(KMeans(3, n_init=10, random_state=0).fit(a).inertia_)


def test_stops_at_its_limit_of_passes():
    result = kmeans(in_blocks(relu_like(), 50), 5, 0, max_passes=1)
    assert result.passes == 1 and not result.converged


def test_empty_blocks_are_left_out():
    a = relu_like()
    blocks = ResidentRows((a[:0], a[:50], a[50:50], a[50:]), a.shape, a.dtype)
    np.testing.assert_allclose(pca(blocks, 2).factors, pca(in_blocks(a, 120), 2).factors, atol=1e-6)


@pytest.mark.parametrize(
    "form", [scipy.sparse.csr_array, scipy.sparse.csr_matrix, torch.from_numpy]
)
def test_every_form_is_the_same_matrix(form):
    a = relu_like()
    for one, other in (
        (pca(form(a), 3), pca(a, 3)),
        (kmeans(form(a), 3, 0, sample_rows=40), kmeans(a, 3, 0, sample_rows=40)),
    ):
        np.testing.assert_allclose(one.factors, other.factors, atol=1e-5)
        np.testing.assert_allclose(one.coefficients, other.coefficients, atol=1e-4)
        np.testing.assert_allclose(one.loss, other.loss, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pca(in_blocks(relu_like(), 50), 10), "k must be in 1..9"),
        (lambda: pca(in_blocks(relu_like(), 50), 0), "k must be in 1..9"),
        (lambda: pca(np.ones((0, 3)), 1), "no rows"),
        (lambda: pca(np.ones(3), 1), r"\(3,\)"),
        (lambda: kmeans(in_blocks(np.ones((3, 2)), 2), 4, 0), "got 3"),
        (lambda: kmeans(in_blocks(np.ones((3, 2)), 2), 0, 0), ">= 1"),
        (lambda: kmeans(in_blocks(np.ones((3, 2)), 2), 1, 0, max_passes=0), ">= 1"),
    ],
)
def test_refuses_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
