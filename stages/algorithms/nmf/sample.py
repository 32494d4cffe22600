"""Rows drawn over the whole set, that starts are tried on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.rows import MatrixRows, dense, float_type, is_sparse, is_tensor


@dataclass(frozen=True)
class Sample:
    """Rows drawn over the whole set, in memory.

    Attributes
    ----------
    matrix : CSR, array or tensor on a device [n, channels]
    mean : float
        Of all its values.
    """

    matrix: Any
    mean: float

    @classmethod
    def of(cls, parts: Sequence[Any]) -> "Sample":
        """The rows of several parts, in their order."""
        if len(parts) == 1 and is_sparse(parts[0]):
            matrix: Any = parts[0]
        elif all(is_sparse(part) for part in parts):
            import scipy.sparse

            matrix = scipy.sparse.vstack(parts, format="csr")
        else:
            matrix = np.concatenate([dense(part, float_type(part.dtype)) for part in parts])
        return cls(matrix, float(matrix.sum(dtype=np.float64) / np.prod(matrix.shape)))

    @property
    def density(self) -> float:
        """Share of its values that are not zero."""
        matrix = self.matrix
        if is_tensor(matrix):
            count = int(matrix.count_nonzero())
        else:
            count = int(np.count_nonzero(matrix.data if is_sparse(matrix) else matrix))
        return float(count / max(1, np.prod(matrix.shape)))

    @property
    def rows(self) -> MatrixRows:
        """The sample as row blocks."""
        return MatrixRows(self.matrix)

    def first(self, count: int) -> MatrixRows:
        """A subset: `count` of its rows, itself drawn at random; larger ones hold smaller ones."""
        return MatrixRows(self.matrix[_drawn(int(self.matrix.shape[0]), count)])


@lru_cache(maxsize=8)
def _drawn(rows: int, count: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(1).permutation(rows)[:count])
