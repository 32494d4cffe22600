"""Rows of unit length, or without their mean: as numpy has them, in every form of rows."""

import copy
import doctest
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.decomposition import NMF
from sklearn.preprocessing import normalize

from stages.algorithms import normalised as module
from stages.algorithms.nmf import Sweep, factorize, transform
from stages.algorithms.nmf.estimator import DeepFeatureFactorization
from stages.algorithms.normalised import normalised
from stages.algorithms.rows import MatrixRows, ResidentRows, is_sparse


def matrix(rows: int = 240, channels: int = 12, dtype: Any = np.float32) -> np.ndarray:
    """Mostly zeros, one row of nothing."""
    rng = np.random.default_rng(0)
    A = rng.gamma(0.5, 2.0, (rows, channels)) * (rng.random((rows, channels)) < 0.4)
    A[5] = 0
    return A.astype(dtype)


FORMS = {
    "array": np.asarray,
    "blocks": lambda A: MatrixRows(A, 50),
    "csr": scipy.sparse.csr_array,
    "sparse blocks": lambda A: MatrixRows(scipy.sparse.csr_matrix(A), 70),
    "resident": lambda A: ResidentRows.of(MatrixRows(scipy.sparse.csr_array(A), 64)),
    "tensor": torch.from_numpy,
    "float16": lambda A: A.astype(np.float16),
    "whole numbers": lambda A: np.ceil(A).astype(np.int32),
    "sparse whole numbers": lambda A: scipy.sparse.csr_array(np.ceil(A).astype(np.uint8)),
}


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("how", ["l2", "centre"])
def test_every_form_of_rows_as_scikit_learn_and_numpy_have_them(form: str, how: str) -> None:
    A = matrix()
    given = FORMS[form](A)
    if "whole" in form:
        A = np.ceil(A)
    if form == "float16":
        A = A.astype(np.float16).astype(np.float32)
    rows = normalised(given, how)
    blocks = list(rows.blocks())
    assert all(is_sparse(block) == (how == "l2" and is_sparse_form(form)) for block in blocks)
    found = np.concatenate([one.toarray() if is_sparse(one) else one for one in blocks])
    expected = normalize(A) if how == "l2" else A - A.mean(axis=0, dtype=np.float64)
    assert found.dtype == rows.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)
    if form == "array":
        np.testing.assert_array_equal(given, A)  # it stays what it was


def is_sparse_form(form: str) -> bool:
    return "sparse" in form or form in ("csr", "resident")


@pytest.mark.parametrize("how", ["l2", "centre"])
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
def test_a_factorization_of_them_is_that_of_rows_normalised_by_hand(how: str, form: Any) -> None:
    A = matrix(dtype=np.float64)
    options: dict[str, Any] = {"nonneg": "H"} if how == "centre" else {}
    hand = normalize(A) if how == "l2" else A - A.mean(axis=0)
    if how == "l2" and form is scipy.sparse.csr_array:
        hand = form(hand)
    expected = factorize(hand, 3, **options)
    rows = normalised(form(A), how)
    f = factorize(rows, 3, **options)
    np.testing.assert_allclose(f.factors, expected.factors, atol=1e-6)
    np.testing.assert_allclose(f.coefficients, expected.coefficients, atol=1e-5)
    np.testing.assert_allclose(f.loss, expected.loss, rtol=1e-9)
    mean = getattr(rows, "mean", None)
    new = transform(normalised(A[:20], how, mean), f.factors, **options)
    np.testing.assert_allclose(new, f.coefficients[:20], atol=1e-5)


def test_each_row_is_of_unit_length_whatever_the_blocks_are() -> None:
    A = scipy.sparse.csr_array(matrix())
    whole, cut = (
        scipy.sparse.vstack(list(normalised(MatrixRows(A, size), "l2").blocks()), format="csr")
        for size in (1000, 7)
    )
    assert (whole != cut).nnz == 0
    assert whole.indices.tolist() == A.indices.tolist()


def test_a_resumed_sweep_equals_the_uninterrupted_one_bit_for_bit() -> None:
    rows = normalised(MatrixRows(scipy.sparse.csr_array(matrix()), 64), "centre")
    options: dict[str, Any] = {"nonneg": "H", "tol": 0.0, "max_passes": 5}
    whole, first = Sweep(rows, [2, 3], **options), Sweep(rows, [2, 3], **options)
    first.step()
    rest = Sweep(rows, [2, 3], **options, resume=copy.deepcopy(first.state()))
    for sweep in (whole, rest):
        while not sweep.done:
            sweep.step()
    for one, other in zip(whole.finish(), rest.finish(), strict=True):
        assert one.factors.tobytes() == other.factors.tobytes()
        assert one.coefficients.tobytes() == other.coefficients.tobytes()


@pytest.mark.parametrize("how", ["l2", "centre"])
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize(("bad", "named"), [(np.nan, "NaN"), (np.inf, "NaN"), (-1, "negative")])
def test_bad_values_are_refused_by_the_row_they_are_in(
    how: str, form: Any, bad: float, named: str
) -> None:
    A = matrix()
    A[17, 3] = bad
    options: dict[str, Any] = {"nonneg": "H"} if how == "centre" else {}
    if how == "centre" and bad == -1:
        pytest.skip("allowed")
    with pytest.raises(ValueError, match=rf"A has (a )?{named}.* in row 17"):
        factorize(normalised(form(A), how), 2, **options)


def test_squares_beyond_float64_are_no_row_of_zeros() -> None:
    A = matrix(dtype=np.float64)
    A[9] = 1e200
    with pytest.raises(ValueError, match="NaN or infinity in row 9"):
        factorize(normalised(A, "l2"), 2)


def test_centred_rows_may_have_factors_above_zero_alone() -> None:
    """What is below zero is not told by the factors."""
    A = np.outer([-1.0, 1.0, 2.0, -2.0], [3.0, 4.0])
    found = transform(A, np.array([[0.6, 0.8]]), nonneg="H")
    np.testing.assert_allclose(found.ravel(), [0, 5, 10, 0], rtol=1e-6)
    with pytest.raises(ValueError, match="negative value"):
        transform(A, np.array([[0.6, 0.8]]))


def test_what_is_refused() -> None:
    A = matrix()
    with pytest.raises(ValueError, match="normalise 'L2': choose one of none, l2, centre"):
        normalised(A, "L2")
    with pytest.raises(ValueError, match=r"the mean is \(3,\): channels differ"):
        normalised(A, "centre", np.zeros(3))
    with pytest.raises(ValueError, match="negative value"):
        factorize(normalised(A, "centre"), 2)
    rows = MatrixRows(A)
    assert normalised(rows, "none") is rows


def test_the_estimator_is_as_good_as_scikit_learns_on_rows_of_unit_length() -> None:
    A = matrix(dtype=np.float64)
    theirs = NMF(3, init="nndsvda", tol=1e-5, max_iter=4000).fit(normalize(A))
    model = DeepFeatureFactorization(3, random_state=0, tol=1e-8, normalise="l2").fit(A)
    assert model.reconstruction_err_ <= 1.002 * theirs.reconstruction_err_
    H = model.transform(scipy.sparse.csr_array(A))
    error = np.linalg.norm(normalize(A) - model.inverse_transform(H))
    np.testing.assert_allclose(error, model.reconstruction_err_, rtol=1e-5)


def test_the_estimator_adds_the_mean_again() -> None:
    A = matrix(dtype=np.float64) - 0.5
    model = DeepFeatureFactorization(6, random_state=0, nonneg="H", normalise="centre")
    H = model.fit_transform(A)
    np.testing.assert_allclose(model.mean_, A.mean(axis=0), rtol=1e-12)
    error = np.linalg.norm(A - model.inverse_transform(H))
    np.testing.assert_allclose(error, model.reconstruction_err_, rtol=1e-6)
    assert error < 0.8 * np.linalg.norm(A - A.mean(axis=0))
    assert not hasattr(model.set_params(normalise="none").fit(A), "mean_")
    with pytest.raises(ValueError, match="needs nonneg='H'"):
        DeepFeatureFactorization(2, normalise="centre").fit(A)


def test_examples() -> None:
    assert doctest.testmod(module).failed == 0
