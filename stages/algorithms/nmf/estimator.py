"""The factorization in scikit-learn's spelling, for pipelines, grid searches and notebooks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from stages.algorithms.nmf.factorization import factorize, transform
from stages.algorithms.nmf.solvers import BOTH
from stages.algorithms.nmf.state import Factorization
from stages.algorithms.normalised import CENTRE, Normalised, normalised
from stages.algorithms.rows import RowBlocks, as_row_blocks, float_type

Array = NDArray[Any]


class DeepFeatureFactorization(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Non-negative matrix factorization ``X ~ H W`` of arrays, CSR matrices or a store's rows.

    scikit-learn names the two factors the other way round: what `transform` returns is the
    paper's H, `components_` its W. W has unit rows, strongest first; the scale is in H.

    Parameters
    ----------
    n_components : int
        k. At most the number of features.
    solver : {"hals", "mu"}
    init : {"sample", "random", "nndsvd"}
    nonneg : {"W and H", "H"}
        What is >= 0. "H": semi-NMF, for X with values below zero; by "hals" alone.
    normalise : {"none", "l2", "centre"}
        What is done to rows first, see `stages.algorithms.normalised`. "centre" needs "H".
    tol : float
        Stop when an update lowers the loss by less than this share.
    max_iter : int
        At most so many updates; one each per pass over the rows.
    random_state : int, RandomState or None
    device : str
        ``cpu``, or a CUDA device by its name in torch.

    Attributes
    ----------
    components_ : array [n_components, n_features]
    reconstruction_err_ : float
        ``||X - HW||_F``, X normalised.
    mean_ : array [n_features]
        What is taken away from rows; with "centre" alone.
    n_iter_ : int
        Updates made.
    n_components_, n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from stages.algorithms.nmf.estimator import DeepFeatureFactorization
    >>> X = np.outer([1.0, 2.0, 0.0], [3.0, 0.0, 4.0])
    >>> model = DeepFeatureFactorization(1, random_state=0)
    >>> model.fit_transform(X).round(3).ravel()
    array([ 5., 10.,  0.])
    >>> model.components_.round(3)
    array([[0.6, 0. , 0.8]])
    """

    mean_: Array

    def __init__(
        self,
        n_components: int = 2,
        *,
        solver: Literal["hals", "mu"] = "hals",
        init: Literal["sample", "random", "nndsvd"] = "sample",
        nonneg: Literal["W and H", "H"] = "W and H",
        normalise: Literal["none", "l2", "centre"] = "none",
        tol: float = 1e-4,
        max_iter: int = 200,
        random_state: Any = None,
        device: str = "cpu",
    ) -> None:
        self.n_components = n_components
        self.solver = solver
        self.init = init
        self.nonneg = nonneg
        self.normalise = normalise
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: None = None) -> "DeepFeatureFactorization":
        """Learn W from the rows of X; see `fit_transform`."""
        self._fit(X)
        return self

    def fit_transform(self, X: Any, y: None = None) -> Array:
        """Learn W and return H.

        Parameters
        ----------
        X : array or CSR [n_samples, n_features], or RowBlocks (an image set of the store)
            Finite, and >= 0 unless `nonneg` is "H".
        y : None
            Ignored.

        Returns
        -------
        array [n_samples, n_components], float64 for float64 X and float32 for others
        """
        f = self._fit(X)
        assert f.coefficients is not None
        return f.coefficients.astype(self.components_.dtype, copy=False)

    def transform(self, X: Any) -> Array:
        """Coefficients of other rows for the learned W: least squares with H >= 0."""
        check_is_fitted(self)
        rows = normalised(
            self._checked(X, reset=False), self.normalise, getattr(self, "mean_", None)
        )
        with _as_scikit_learn_says():
            found = transform(rows, self.components_, nonneg=self.nonneg, device=self.device)
        return found.astype(float_type(rows.dtype), copy=False)

    def inverse_transform(self, X: Any) -> Array:
        """``H W`` for coefficients ``[n_samples, n_components]``.

        With the mean that was taken away; of unit length, where rows were brought to it.
        """
        check_is_fitted(self)
        return np.asarray(X) @ self.components_ + getattr(self, "mean_", 0)

    def _fit(self, X: Any) -> Factorization:
        if self.normalise == CENTRE and self.nonneg == BOTH:
            raise ValueError("normalise='centre' leaves values below zero: it needs nonneg='H'")
        rows = normalised(self._checked(X, reset=True), self.normalise)
        if hasattr(self, "mean_"):  # of another fit
            del self.mean_
        if isinstance(rows, Normalised) and rows.mean is not None:
            self.mean_ = rows.mean
        # one number out of whatever kind of state it is; the same state gives the same number
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with _as_scikit_learn_says():
            f = factorize(
                rows,
                self.n_components,
                seed,
                solver=self.solver,
                init=self.init,
                nonneg=self.nonneg,
                tol=self.tol,
                max_passes=self.max_iter,
                device=self.device,
            )
        self.components_ = f.factors.astype(float_type(rows.dtype), copy=False)
        self.n_components_ = f.k
        self.reconstruction_err_ = float(np.sqrt(f.loss[-1]))
        self.n_iter_ = f.updates
        return f

    def _checked(self, X: Any, reset: bool) -> RowBlocks:
        if isinstance(X, RowBlocks):
            if reset:
                self.n_features_in_ = X.shape[1]
            return X
        # what is not finite or below zero is found as the rows are read
        found = validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_all_finite=False,
        )
        return as_row_blocks(found)

    @property
    def _n_features_out(self) -> int:
        return int(self.components_.shape[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = self.nonneg == BOTH
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@contextmanager
def _as_scikit_learn_says() -> Iterator[None]:
    """Values below zero are refused in the words that scikit-learn's own estimators have."""
    try:
        yield
    except ValueError as error:
        if "a negative value" not in str(error):
            raise
        name = DeepFeatureFactorization.__name__
        raise ValueError(f"Negative values in data passed to {name}: {error}") from error
