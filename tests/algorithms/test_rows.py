"""Row blocks: the same matrix whatever it comes as."""

import dask.array
import numpy as np
import pytest
import scipy.sparse
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.algorithms.nmf import factorize
from stages.algorithms.nmf.initial import pick
from stages.algorithms.nmf.sample import Sample
from stages.algorithms.rows import (
    MatrixRows,
    ResidentRows,
    RowBlocks,
    as_row_blocks,
    dense,
    float_type,
)


def matrix(rows=23, channels=4, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 100, (rows, channels))
    return (values * (rng.random(values.shape) < 0.5)).astype(dtype)


class Blocks:
    """Row blocks as a store has them: of uneven sizes, empty ones too, read-only."""

    def __init__(self, values, sizes=(3, 0, 7)):
        self.values, self.sizes, self.passes = values, sizes, 0
        self.shape, self.dtype = values.shape, values.dtype

    def blocks(self):
        self.passes += 1
        start = turn = 0
        while start < len(self.values):
            stop = start + self.sizes[turn % len(self.sizes)]
            block = self.values[start:stop].copy()
            block.flags.writeable = False
            yield block
            start, turn = stop, turn + 1

    def locate(self, row):
        return f"image {1000 + row}"


def whole(rows):
    return np.concatenate([dense(block, np.float32) for block in rows.blocks()])


def sample(rows, indices):
    parts, start = [], 0
    for block in rows.blocks():
        parts.append(pick(block, start, np.array(indices, dtype=np.int64)))
        start += block.shape[0]
    return Sample.of(parts)


FORMS = {
    "numpy": lambda A: A,
    "fortran": np.asfortranarray,
    "reversed": lambda A: A[::-1][::-1],
    "list": lambda A: A.tolist(),
    "csr": scipy.sparse.csr_matrix,
    "csr_array": scipy.sparse.csr_array,
    "coo_array": scipy.sparse.coo_array,
    "torch": torch.from_numpy,
    "torch with gradient": lambda A: torch.from_numpy(A).requires_grad_(),
    "bfloat16": lambda A: torch.from_numpy(A).bfloat16(),
    "blocks": Blocks,
    "resident": lambda A: ResidentRows.of(Blocks(A)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_matrix(form):
    A = matrix()
    rows = as_row_blocks(FORMS[form](A), block_rows=5)
    assert isinstance(rows, RowBlocks)
    assert rows.shape == A.shape
    np.testing.assert_array_equal(whole(rows), A)
    np.testing.assert_array_equal(whole(rows), A)  # and again
    picked = sample(rows, [0, 2, 3, 9, 22])
    np.testing.assert_array_equal(dense(picked.matrix, np.float32), A[[0, 2, 3, 9, 22]])
    np.testing.assert_allclose(picked.mean, A[[0, 2, 3, 9, 22]].mean(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint16", "int64", "bool"])
def test_types_are_kept_until_they_become_tensors(dtype):
    A = matrix().astype(dtype)
    rows = as_row_blocks(A)
    assert rows.dtype == A.dtype
    np.testing.assert_array_equal(dense(next(iter(rows.blocks())), np.float64), A.astype(float))
    assert float_type(A.dtype) == (np.float64 if dtype == "float64" else np.float32)
    assert sample(rows, [1]).matrix.dtype == float_type(A.dtype)


def test_torch_types_as_numpy_names_them():
    for kept, named in ((torch.float64, "f8"), (torch.float32, "f4"), (torch.float16, "f4")):
        assert as_row_blocks(torch.zeros((2, 3), dtype=kept)).dtype == np.dtype(named)


@pytest.mark.parametrize(
    "A", [np.zeros(3), np.zeros((2, 2, 2)), torch.zeros(4), 5.0, scipy.sparse.coo_array([1, 0, 2])]
)
def test_anything_but_a_matrix_is_refused(A):
    with pytest.raises(ValueError, match="rows x channels"):
        as_row_blocks(A)


@given(rows=st.integers(0, 40), block_rows=st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_blocks_have_the_size_asked_for(rows, block_rows):
    A = matrix(rows)
    blocks = list(as_row_blocks(A, block_rows).blocks())
    assert all(len(block) == block_rows for block in blocks[:-1])
    np.testing.assert_array_equal(np.concatenate([A[:0], *blocks]), A)


@given(indices=st.sets(st.integers(0, 22), min_size=1), block_rows=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_samples_are_the_rows(indices, block_rows):
    A, wanted = matrix(), sorted(indices)
    for form in (A, scipy.sparse.csr_matrix(A), torch.from_numpy(A)):
        picked = sample(as_row_blocks(form, block_rows), wanted).matrix
        np.testing.assert_array_equal(dense(picked, np.float32), A[wanted])


def test_views_where_the_matrix_allows_it():
    A = matrix()
    assert all(np.shares_memory(A, block) for block in as_row_blocks(A, 5).blocks())
    csr = scipy.sparse.csr_array(A)
    assert all(np.shares_memory(csr.data, block.data) for block in as_row_blocks(csr, 5).blocks())


def test_entries_given_in_parts_are_added_up():
    parts = scipy.sparse.csr_array(
        (np.array([1.0, 2.0, 4.0], np.float32), np.array([1, 1, 0]), np.array([0, 2, 3])), (2, 2)
    )
    (block,) = as_row_blocks(parts).blocks()
    assert block.data.tolist() == [3, 4]
    assert parts.nnz == 3, "the caller's matrix is not changed"


def test_resident_rows_read_once_and_keep_the_type_and_the_owners():
    source = Blocks(matrix(dtype=np.float16))
    rows = ResidentRows.of(source)
    for _ in range(3):
        np.testing.assert_array_equal(whole(rows), source.values)
    assert source.passes == 1
    assert rows.dtype == np.float16 and rows.shape == (23, 4)
    assert rows.locate is not None and rows.locate(7) == "image 1007"
    assert ResidentRows.of(MatrixRows(matrix())).locate is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
def test_arrays_that_are_read_by_slices(tmp_path, dtype):
    """Of Zarr and dask, whose `blocks` is something else; whole chunks at a time."""
    A = matrix(100, 6, dtype)
    stored = zarr.create_array(tmp_path / "a.zarr", shape=A.shape, chunks=(7, 6), dtype=A.dtype)
    stored[:] = A
    for array in (stored, dask.array.from_zarr(stored)):
        rows = as_row_blocks(array, 20)
        assert [len(block) for block in rows.blocks()] == [14] * 7 + [2]
        assert rows.shape == A.shape and rows.dtype == A.dtype
        np.testing.assert_array_equal(np.concatenate(list(rows.blocks())), A)
        f, g = factorize(array, 2), factorize(A, 2)
        np.testing.assert_allclose(f.factors, g.factors, atol=1e-4)


def test_a_zarr_array_is_never_whole_in_memory(tmp_path):
    stored = zarr.create_array(tmp_path / "a.zarr", shape=(1000, 3), chunks=(10, 3), dtype="f4")
    stored[:] = 1
    assert as_row_blocks(stored).block_rows % 10 == 0
    assert max(len(block) for block in as_row_blocks(stored, 25).blocks()) == 20
