"""What a dictionary of factors is like: how sparsely it is used, how far its factors are apart."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.nmf.stack import Matrix, unit_rows

Array = NDArray[Any]
SAME = 0.95  # cosine from which on two factors are taken for one


class Usage:
    """Sparsity of coefficients that come block by block.

    Parameters
    ----------
    columns : int

    Examples
    --------
    >>> usage = Usage(2)
    >>> usage.add(np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]))
    >>> usage.nonzero.tolist(), usage.hoyer.tolist()
    ([0.25, 1.0], [1.0, 0.0])
    """

    def __init__(self, columns: int) -> None:
        self.rows = 0
        self._above = np.zeros(columns, np.int64)
        self._sums, self._squares = np.zeros(columns), np.zeros(columns)

    def add(self, H: Array) -> None:
        """Take in the coefficients ``[rows, columns]``, all >= 0, of some rows."""
        self.rows += len(H)
        self._above += np.count_nonzero(H, axis=0)
        self._sums += H.sum(axis=0, dtype=np.float64)
        self._squares += np.einsum("rc,rc->c", H, H, dtype=np.float64)

    @property
    def nonzero(self) -> Matrix:
        """The share of the rows in which each coefficient is above 0 ``[columns]``."""
        return self._above / max(1, self.rows)

    @property
    def hoyer(self) -> Matrix:
        """Hoyer's (2004) sparsity of each column, ``(sqrt(n) - l1 / l2) / (sqrt(n) - 1)``.

        ``[columns]``: 1 where a single row has it all, 0 where all have the same; NaN for zeros
        alone, and for a single row.
        """
        root = np.sqrt(self.rows)
        length = np.sqrt(self._squares)
        ratio = np.divide(self._sums, length, out=np.full(len(length), np.nan), where=length > 0)
        return (root - ratio) / (root - 1) if self.rows > 1 else np.full(len(length), np.nan)


class Apart(NamedTuple):
    """How far the factors of one dictionary are apart.

    Attributes
    ----------
    dead : int
        Factors that explain nothing: all zero.
    duplicates : int
        Factors with a cosine of `SAME` or more to one before them.
    coherence : float
        The largest cosine of two factors that are not dead; 0 where there are no two.
    """

    dead: int
    duplicates: int
    coherence: float


def apart(W: Array) -> Apart:
    """Compare the factors ``[k, channels]`` with each other."""
    units = unit_rows(np.asarray(W, dtype=np.float64))
    alive = units[np.linalg.norm(units, axis=1) > 0]
    below = np.tril(alive @ alive.T, -1)
    rows, columns = np.tril_indices(len(alive), -1)
    cosines = below[rows, columns]
    duplicates = int((below >= SAME).any(axis=1).sum())
    return Apart(len(units) - len(alive), duplicates, float(cosines.max(initial=0.0)))
