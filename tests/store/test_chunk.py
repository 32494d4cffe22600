"""Chunks: every bit comes back, in the form that is smaller; damage is a ChunkError."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import blosc

from store.chunk import DENSE, HEADER, LINES, SPARSE, Chunk, ChunkError, assemble, encode

ODD = [-0.0, np.nan, np.inf, -np.inf, 1e-45, 65504.0, 65536.0]
dtypes = st.sampled_from(["float16", "float32", "float64", "uint8", "uint16", "int64"])


def rows_of(rows, channels, density, dtype, seed, odd=0):
    rng = np.random.default_rng(seed)
    values = np.where(
        rng.random((rows, channels)) < density, rng.integers(1, 250, (rows, channels)), 0
    ).astype(dtype)
    if np.dtype(dtype).kind == "f" and values.size:
        with np.errstate(over="ignore"):
            values.reshape(-1)[:odd] = np.array(ODD[:odd])[: values.size].astype(dtype)
    return values


def same_bits(found, expected):
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


@settings(max_examples=80, deadline=None)
@given(
    rows=st.integers(1, 40),
    channels=st.integers(1, 50),
    density=st.sampled_from([0, 0.05, 0.3, 0.5, 0.9, 1]),
    dtype=dtypes,
    odd=st.integers(0, len(ODD)),
    seed=st.integers(0, 99),
)
def test_every_bit_comes_back(rows, channels, density, dtype, odd, seed):
    values = rows_of(rows, channels, density, dtype, seed, odd)
    content = encode(values)
    chunk = Chunk.parse(content, channels)
    assert chunk.nonzeros == np.count_nonzero(values.view(f"u{values.itemsize}"))
    same_bits(chunk.dense(), values)
    pointers, columns, kept = chunk.parts
    assert pointers[-1] == len(columns) == len(kept)
    if chunk.form == SPARSE:
        for row in range(rows):
            found = columns[pointers[row] : pointers[row + 1]]
            assert (np.diff(found.astype(int)) > 0).all(), "columns ascend"
            same_bits(kept[pointers[row] : pointers[row + 1]], values[row, found])
    assert encode(values) == content, "the same bytes every time"


def test_the_form_that_pays_is_taken():
    def form(density):
        return Chunk.parse(encode(rows_of(200, 100, density, "float16", 1)), 100).form

    assert [form(d) for d in (0, 0.06, 0.3)] == [SPARSE] * 3
    assert [form(d) for d in (0.4, 0.55, 1)] == [DENSE] * 3


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 30)), min_size=1, max_size=4),
    flat=st.booleans(),
    channels=st.integers(1, 9),
    dtype=st.sampled_from(["uint8", "uint16"]),
    slope=st.sampled_from([0, 3, None]),
    seed=st.integers(0, 99),
)
def test_pixels_of_maps_come_back(pieces, flat, channels, dtype, slope, seed):
    rows = sum(n for n, _ in pieces)
    pieces = [] if flat else pieces
    if slope is None:  # whatever there may be
        values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (rows, channels))
    else:
        values = slope * np.add.outer(np.arange(rows), np.arange(channels))
    values = values.astype(dtype)
    before = values.copy()
    content = encode(values, pieces=pieces)
    chunk = Chunk.parse(content, channels)
    assert chunk.form == LINES and chunk.nonzeros == np.count_nonzero(values)
    same_bits(chunk.dense(), values)
    same_bits(values, before)
    pointers, columns, kept = chunk.parts
    assert pointers[-1] == len(columns) == len(kept) == chunk.nonzeros
    assert encode(values, pieces=pieces) == content, "the same bytes every time"
    with pytest.raises(ValueError, match="pieces"):
        encode(values, pieces=[(rows + 1, 1)])


def test_pieces_that_are_not_those_of_the_rows():
    content = encode(np.zeros((12, 2), np.uint16), pieces=[(8, 4), (4, 4)])
    one = encode(np.zeros((11, 2), np.uint16), pieces=[(8, 4), (3, 4)])
    size = len(encode(np.zeros((0, 2), np.uint8)))
    first = HEADER.unpack_from(one)[6]
    mixed = content[:size] + one[size : size + first] + content[size + first :]
    with pytest.raises(ChunkError, match="pieces"):
        Chunk.parse(mixed, 2).dense()


def test_lines_of_maps_take_a_third():
    y, x = np.mgrid[:200, :300] / 40
    maps = [np.interp(x % 8, np.arange(9), row) * (1 + y) for row in rows_of(5, 9, 1, "float64", 0)]
    levels = np.rint(np.stack(maps, -1) / np.max(maps) * 65535).astype(np.uint16).reshape(-1, 5)
    assert 3 * len(encode(levels, pieces=[(60_000, 300)])) < len(encode(levels))


def test_real_sparsity_is_stored_as_small_as_promised():
    """6.4 % non-zero, as at SqueezeNet's fire9: at most 0.15 of the dense float16 bytes."""
    rng = np.random.default_rng(0)
    values = np.where(rng.random((1024, 512)) < 0.064, rng.gamma(2, 3, (1024, 512)), 0)
    content = encode(values.astype(np.float32), narrow=True)
    assert len(content) <= 0.15 * values.size * 2


@settings(max_examples=60, deadline=None)
@given(density=st.sampled_from([0.1, 0.9]), seed=st.integers(0, 99), odd=st.integers(0, len(ODD)))
def test_narrow_keeps_float16_unless_a_value_would_become_infinite(density, seed, odd):
    values = rows_of(20, 30, density, "float32", seed, odd)
    chunk = Chunk.parse(encode(values, narrow=True), 30)
    fits = odd < len(ODD)  # the last one is 65536, which float16 does not hold
    assert chunk.dtype == (np.float16 if fits else np.float32)
    expected = values.astype(np.float16).astype(np.float32) if fits else values
    same_bits(chunk.dense(np.float32), expected)


def test_what_underflows_is_no_entry():
    values = np.array([[1e-9, 0, 3.0, 0, 0]], np.float32)
    chunk = Chunk.parse(encode(values, narrow=True), 5)
    assert chunk.nonzeros == 1 and chunk.dense(np.float32).tolist() == [[0, 0, 3, 0, 0]]


def test_more_columns_than_16_bits_count():
    values = rows_of(3, 70_000, 0.01, "float32", 0)
    same_bits(Chunk.parse(encode(values), 70_000).dense(), values)


@settings(max_examples=40, deadline=None)
@given(
    pieces=st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.9]), st.integers(0, 8), st.integers(0, 8)),
        max_size=5,
    ),
    dtype=st.sampled_from(["float16", "float32", "uint16"]),
)
def test_pieces_of_chunks_make_one_sparse_matrix(pieces, dtype):
    expected, chosen = [np.empty((0, 6), dtype)], []
    for seed, (density, one, two) in enumerate(pieces):
        values = rows_of(8, 6, density, dtype, seed)
        first, stop = sorted((one, two))
        chosen.append((Chunk.parse(encode(values), 6), first, stop))
        expected.append(values[first:stop])
    matrix = assemble(chosen, 6, np.dtype(dtype))
    matrix.check_format(full_check=True)
    assert matrix.has_sorted_indices
    assert matrix.dtype == (np.float32 if dtype == "float16" else dtype)
    np.testing.assert_array_equal(matrix.toarray(), np.concatenate(expected))


def test_dense_rows_with_little_to_find_are_kept_as_they_are():
    """Features of any sign: a copy reads them. What Zstandard was taken for is still read."""
    values = np.random.default_rng(0).standard_normal((300, 64)).astype(np.float16)
    content = encode(values)
    assert values.tobytes() in content and len(content) < values.nbytes + 64
    same_bits(Chunk.parse(content, 64).dense(), values)
    frame = blosc.compress(values, b"zstd", 1, blosc.SHUFFLE)
    header = HEADER.pack(1, DENSE, b"<f2", 0, 300, values.size, 0, 0)
    assert len(header + frame) < len(content)
    same_bits(Chunk.parse(header + frame, 64).dense(), values)
    part = np.empty((7, 64), np.float32)
    Chunk.parse(content, 64).fill(part, 5, 12)
    same_bits(part, values[5:12].astype(np.float32))


@pytest.mark.parametrize("density", [0.1, 0.9])
def test_bytes_that_are_no_chunk(density):
    content = encode(rows_of(20, 30, density, "float16", 0))
    for wrong in (b"", content[:10], b"\x09" + content[1:], content[:1] + b"X" + content[2:]):
        with pytest.raises(ChunkError):
            Chunk.parse(wrong, 30)
    for cut in (HEADER.size, HEADER.size + 5, len(content) - 3):
        with pytest.raises(ChunkError):
            Chunk.parse(content[:cut], 30).dense()


def test_counts_that_do_not_add_up():
    content = bytearray(encode(rows_of(20, 30, 0.1, "float16", 0)))
    fields = list(HEADER.unpack_from(content))
    fields[5] += 1
    HEADER.pack_into(content, 0, *fields)
    with pytest.raises(ChunkError, match="announced"):
        _ = Chunk.parse(bytes(content), 30).parts
