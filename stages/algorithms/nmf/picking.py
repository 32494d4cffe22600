"""Rows and columns of a sample, which stability and held-out errors take parts of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.nmf.cpu import as_compiled
from stages.algorithms.nmf.kernels import pick
from stages.algorithms.rows import csr_of, is_sparse

Indices = NDArray[np.int64]


def part_of(matrix: Any, rows: Indices, columns: Indices | None = None) -> Any:
    """Some rows of a matrix, and of them some columns; a copy, as ``matrix[rows][:, columns]``.

    Parameters
    ----------
    matrix : CSR, array or tensor [rows, channels]
    rows, columns : int64
        Ascending.
    """
    if not is_sparse(matrix):
        part = matrix[rows]
        return part if columns is None else part[:, columns]
    values, of_values, starts = as_compiled(matrix, matrix.dtype)
    channels = matrix.shape[1]
    if columns is None:
        columns = np.arange(channels)
    places = np.full(channels, -1, np.int32)
    places[columns] = np.arange(len(columns), dtype=np.int32)
    most = int((starts[rows + 1] - starts[rows]).sum())
    numbers, into = np.empty(most, values.dtype), np.empty(most, np.int32)
    ends = np.zeros(len(rows) + 1, np.int64)
    found = pick(values, of_values, starts, rows, places, numbers, into, ends)
    shape = len(rows), len(columns)
    return csr_of(type(matrix), numbers[:found], into[:found], ends, shape)
