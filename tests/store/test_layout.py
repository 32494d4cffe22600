"""Chunks and shards from byte budgets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import Layout, plan_layout

budgets = st.integers(1, 2**27)


@given(rows=st.integers(0, 10**9), row_bytes=st.integers(1, 10**6), chunk=budgets, shard=budgets)
def test_whole_chunks_within_the_budgets(rows, row_bytes, chunk, shard):
    layout = plan_layout(rows, row_bytes, chunk_bytes=chunk, shard_bytes=shard)
    assert layout.shard_rows % layout.chunk_rows == 0
    # Over budget only where a single row, or a single chunk, is larger than the budget.
    assert layout.chunk_rows == 1 or layout.chunk_rows * row_bytes <= chunk
    one_chunk = layout.shard_rows == layout.chunk_rows
    assert one_chunk or layout.shard_rows * row_bytes <= shard
    # No chunk and no shard lies wholly behind the last row.
    assert layout.chunk_rows <= max(rows, 1)
    assert layout.shard_rows - layout.chunk_rows < max(rows, 1)
    assert (layout.shards(rows) - 1) * layout.shard_rows < max(rows, 1)
    assert layout.shards(rows) * layout.shard_rows >= rows


@given(rows=st.integers(1, 10**5), row_bytes=st.integers(1, 300))
def test_a_small_array_is_one_shard(rows, row_bytes):
    layout = plan_layout(rows, row_bytes)
    if rows * row_bytes <= 2**25:
        assert layout.shards(rows) == 1


def test_by_hand():
    # 1 MiB chunks of 1 KiB rows: 1024 rows; 64 of them in a 64 MiB shard.
    assert plan_layout(10**6, 1024) == Layout(chunk_rows=1024, shard_rows=65536)
    assert plan_layout(10, 1024) == Layout(chunk_rows=10, shard_rows=10)
    assert plan_layout(1500, 1024) == Layout(chunk_rows=1024, shard_rows=2048)
    assert Layout(4, 8).shards(17) == 3
    # 2-byte rows: not half a million of them, but as many as are read alone; 2 MiB of them a shard
    short = plan_layout(10**7, 2, shard_bytes=2**21, most_rows=40_000)
    assert short == Layout(chunk_rows=40_000, shard_rows=26 * 40_000)
    assert plan_layout(10**6, 1024, most_rows=10**5).chunk_rows == 1024, "bytes count as well"


@pytest.mark.parametrize("chunk, shard", [(0, 0), (-1, 4), (4, 0), (4, -4), (4, 6), (8, 4)])
def test_impossible_layouts_are_refused(chunk, shard):
    with pytest.raises(ValueError, match="rows"):
        Layout(chunk, shard)


def test_rows_without_bytes_are_refused():
    with pytest.raises(ValueError, match="row_bytes is 0"):
        plan_layout(5, 0)
