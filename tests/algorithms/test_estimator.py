"""scikit-learn's own checks of an estimator, and what it must share with `factorize`."""

import doctest
import importlib
import pickle

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.decomposition import NMF
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from stages.algorithms.nmf import factorize, transform
from stages.algorithms.nmf.estimator import DeepFeatureFactorization
from stages.algorithms.rows import MatrixRows


def matrix(rows=80, channels=9, dtype=np.float64):
    rng = np.random.default_rng(0)
    W = rng.gamma(0.5, 1.0, (3, channels))
    return (rng.gamma(0.5, 1.0, (rows, 3)) @ W + 0.05 * rng.random((rows, channels))).astype(dtype)


@pytest.mark.filterwarnings("default")  # scikit-learn's checks make warnings of their own
@parametrize_with_checks(
    [
        DeepFeatureFactorization(2, random_state=0),
        DeepFeatureFactorization(2, random_state=0, nonneg="H", normalise="centre"),
        DeepFeatureFactorization(2, random_state=0, normalise="l2"),
    ]
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.csr_array])
def test_the_same_as_the_function(form):
    A = matrix()
    model = DeepFeatureFactorization(3, random_state=np.random.RandomState(5))
    H = model.fit_transform(form(A))
    seed = int(np.random.RandomState(5).randint(2**31 - 1))
    f = factorize(A, 3, seed)
    np.testing.assert_allclose(model.components_, f.factors, atol=1e-6)
    np.testing.assert_allclose(H, f.coefficients, atol=1e-5)
    np.testing.assert_allclose(model.reconstruction_err_, np.linalg.norm(A - H @ model.components_))
    assert model.n_iter_ == f.updates == len(f.loss) - 1
    np.testing.assert_allclose(model.transform(form(A[:7])), transform(A[:7], f.factors), atol=1e-5)
    np.testing.assert_allclose(model.inverse_transform(H), H @ model.components_)


def test_as_good_as_scikit_learns():
    A = matrix()
    theirs = NMF(3, init="nndsvda", tol=1e-4, max_iter=2000).fit(A)
    ours = DeepFeatureFactorization(3, random_state=0, tol=1e-7).fit(A)
    assert ours.reconstruction_err_ <= 1.001 * theirs.reconstruction_err_


def test_row_blocks_are_taken_as_they_are():
    A = matrix(dtype=np.float32)
    model = DeepFeatureFactorization(2, random_state=0).fit(MatrixRows(A, 11))
    assert model.n_features_in_ == 9
    np.testing.assert_allclose(
        model.components_, DeepFeatureFactorization(2, random_state=0).fit(A).components_, atol=1e-4
    )
    assert model.transform(MatrixRows(A, 11)).shape == (80, 2)


def test_in_a_pipeline_and_a_search():
    pipeline = make_pipeline(MaxAbsScaler(), DeepFeatureFactorization(2, random_state=0))
    assert pipeline.fit_transform(matrix()).shape == (80, 2)
    assert list(pipeline.get_feature_names_out()) == [
        "deepfeaturefactorization0",
        "deepfeaturefactorization1",
    ]

    def score(model, X, y=None):
        return -np.linalg.norm(X - model.transform(X) @ model.components_)

    search = GridSearchCV(
        DeepFeatureFactorization(random_state=0), {"n_components": [1, 3]}, scoring=score, cv=3
    )
    assert search.fit(matrix()).best_params_ == {"n_components": 3}


def test_copies_are_equal():
    model = DeepFeatureFactorization(2, random_state=0, tol=1e-3)
    assert clone(model).get_params() == model.get_params()
    fitted = pickle.loads(pickle.dumps(model.fit(matrix())))
    np.testing.assert_array_equal(fitted.components_, model.components_)


def test_the_callers_matrix_is_not_changed():
    X = scipy.sparse.csr_matrix(
        (np.array([1.0, 2.0, 3.0, 4.0]), np.array([2, 0, 1, 1]), np.array([0, 2, 4])), (2, 3)
    )
    before = X.copy()
    DeepFeatureFactorization(1, random_state=0).fit(X)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(X, name), getattr(before, name))
        getattr(X, name).flags.writeable = False
    DeepFeatureFactorization(1, random_state=0).fit(X).transform(X)


def test_negative_values_are_refused():
    with pytest.raises(ValueError, match="Negative values"):
        DeepFeatureFactorization(1).fit([[1.0, -1.0]])


def test_the_example_runs():
    found = doctest.testmod(importlib.import_module("stages.algorithms.nmf.estimator"))
    assert found.failed == 0 and found.attempted >= 5
