"""Dense arrays that passes see as CSR where they are mostly zeros: nothing but the time changes."""

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.optimize import nnls

from loops import SETS, loops
from stages.algorithms.nmf import factorize, transform
from stages.algorithms.nmf.compacting import compacted
from stages.algorithms.nmf.cpu import CpuEngine
from stages.algorithms.nmf.gpu import TorchEngine
from stages.algorithms.rows import as_row_blocks, is_sparse

every_set_of_kernels = pytest.mark.parametrize("kernels", SETS)


def matrix(density, rows=20_000, channels=67, dtype=np.float32):
    """Of rank 3 and noise, at random places; channels that fill no whole vector."""
    rng = np.random.default_rng(0)
    A = rng.gamma(0.5, 1.0, (rows, 3)) @ rng.gamma(0.5, 1.0, (3, channels)) + 0.1
    return (A * (rng.random(A.shape) < density)).astype(dtype)


def dense_of(rows):
    return np.concatenate([b.toarray() if is_sparse(b) else np.asarray(b) for b in rows.blocks()])


@every_set_of_kernels
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4"])
@pytest.mark.parametrize("channels", [67, 64, 7])
def test_the_same_values_in_less_room(kernels, dtype, channels):
    A = matrix(0.1, 2**20 // channels + 1, channels, dtype)
    A[3:5, 2] = -1
    with loops(kernels):
        runs = [compacted(as_row_blocks(A), CpuEngine(threads)) for threads in (1, 3)]
    for rows in runs:
        blocks = list(rows.blocks())
        assert rows.shape == A.shape and rows.dtype == A.dtype and all(map(is_sparse, blocks))
        assert all(b.has_canonical_format and (b.data != 0).all() for b in blocks)
        assert {b.dtype for b in blocks} == {np.dtype("f8" if dtype == "f8" else "f4")}
        np.testing.assert_array_equal(dense_of(rows), A)


def test_blocks_with_many_non_zeros_stay_views_of_the_array():
    A = matrix(0.1)
    A[8000:14000] = 1
    rows = compacted(as_row_blocks(A), CpuEngine(2))
    blocks = list(rows.blocks())
    assert 0 < sum(map(is_sparse, blocks)) < len(blocks)
    assert all(np.shares_memory(block, A) for block in blocks if not is_sparse(block))
    np.testing.assert_array_equal(dense_of(rows), A)
    f, g = factorize(A, 3), factorize(scipy.sparse.csr_array(A), 3)
    np.testing.assert_allclose(f.loss[-1], g.loss[-1], rtol=1e-4)


@pytest.mark.parametrize("density", [0.05, 0.24, 0.28, 0.5, 1.0])
def test_what_it_is_given_decides(density):
    A = matrix(1.0, channels=100)
    A[:, round(density * 100) :] = 0  # so many non-zeros in every row
    found = compacted(as_row_blocks(A), CpuEngine(2))
    assert all(map(is_sparse, found.blocks())) == (density <= 0.25)


def test_files_tensors_elsewhere_and_other_engines_are_left_as_they_are(tmp_path):
    A = matrix(0.05)
    np.save(tmp_path / "A.npy", A)
    mapped = np.load(tmp_path / "A.npy", mmap_mode="r")
    few = A[:300]
    given = [mapped, np.asarray(mapped)[5:], few, scipy.sparse.csr_array(A)]
    given += [torch.from_numpy(A).bfloat16(), torch.empty(A.shape, device="meta")]
    for form in given:
        rows = as_row_blocks(form)
        assert compacted(rows, CpuEngine(2)) is rows
    rows = as_row_blocks(A)
    assert compacted(rows, TorchEngine("cpu")) is rows
    from_torch = compacted(as_row_blocks(torch.from_numpy(A)), CpuEngine(2))
    np.testing.assert_array_equal(dense_of(from_torch), A)


@pytest.mark.parametrize("form", [np.asfortranarray, lambda A: np.repeat(A, 2, axis=1)[:, ::2]])
def test_any_order_in_memory(form):
    A = matrix(0.1)
    np.testing.assert_array_equal(dense_of(compacted(as_row_blocks(form(A)), CpuEngine(2))), A)


@pytest.mark.parametrize("nonneg", ["W and H", "H"])
def test_factors_and_coefficients_are_those_of_dense_rows(nonneg):
    A = matrix(0.2)
    sign = np.where(np.arange(67) % 5, 1, -1) if nonneg == "H" else 1
    A = (A * sign).astype(np.float32)
    f = factorize(A, 3, nonneg=nonneg)
    norm = np.square(A, dtype=float).sum()
    loss = np.square(A - f.coefficients @ f.factors, dtype=float).sum()
    np.testing.assert_allclose([f.norm, f.loss[-1]], [norm, loss], rtol=1e-5)
    some = [nnls(f.factors.T.astype(float), row.astype(float))[0] for row in A[:50]]
    np.testing.assert_allclose(f.coefficients[:50], some, atol=1e-3)
    np.testing.assert_allclose(transform(A, f.factors), f.coefficients, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_bad_values_name_the_row_of_the_array(bad):
    A = matrix(0.1)
    A[12_345, 66] = bad
    with pytest.raises(ValueError, match="row 12345"):
        factorize(A, 2)


def test_no_threads_change_a_bit():
    A = matrix(0.1)
    f, g = (factorize(A, 3, threads=threads) for threads in (1, 3))
    assert f.factors.tobytes() == g.factors.tobytes()
    assert f.coefficients.tobytes() == g.coefficients.tobytes() and f.norm == g.norm
