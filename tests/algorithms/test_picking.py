"""Parts of a sample, against SciPy; and how few starts few rows take."""

import numpy as np
import pytest
import scipy.sparse

from stages.algorithms.nmf import Sweep
from stages.algorithms.nmf.initial import FEW_ROWS, STARTS, few_starts
from stages.algorithms.nmf.picking import part_of


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_a_part_is_that_of_scipy(seed: int, sparse: bool, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((13, 9)) < 0.3, rng.standard_normal((13, 9)), 0).astype(dtype)
    rows = np.flatnonzero(rng.random(13) < 0.5)
    columns = np.flatnonzero(rng.random(9) < 0.5)
    matrix = scipy.sparse.csr_array(dense) if sparse else dense
    for chosen in (None, columns):
        found = part_of(matrix, rows, chosen)
        wanted = matrix[rows] if chosen is None else matrix[rows][:, chosen]
        assert found.shape == wanted.shape
        assert found.dtype == dtype
        if not sparse:
            np.testing.assert_array_equal(found, wanted)
            continue
        np.testing.assert_array_equal(found.toarray(), wanted.toarray())
        np.testing.assert_array_equal(found.data, wanted.data)
        np.testing.assert_array_equal(found.indices, wanted.indices)
        np.testing.assert_array_equal(found.indptr, wanted.indptr)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_few_starts_find_what_is_there(rank: int) -> None:
    """Rows that are a product of so many factors: nothing is left over, as of many starts."""
    assert few_starts(rank) == min(STARTS, 2 * rank)
    rng = np.random.default_rng(rank)
    H = np.where(rng.random((600, rank)) < 0.5, rng.random((600, rank)), 0)
    W = np.where(rng.random((rank, 64)) < 0.2, rng.random((rank, 64)), 0)
    A = scipy.sparse.csr_array(H @ W)
    assert A.shape[0] <= FEW_ROWS
    sweep = Sweep(A, [rank], [0], threads=1, tol=1e-7)
    while not sweep.done:
        sweep.step()
    (found,) = sweep.finish(lambda *_: None)
    assert found.loss[-1] < 1e-4 * found.norm
