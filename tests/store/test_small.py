"""Small arrays that are written as they come, and read block by block."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from store import ArrayWriter, ArtifactDamaged
from store.reading import read_blocks, read_whole


@given(st.lists(st.integers(0, 12), max_size=8), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_what_is_appended_is_read_whatever_the_chunks(sizes: list[int], chunk: int) -> None:
    rows = np.arange(3 * sum(sizes)).reshape(-1, 3)
    group = zarr.open_group(zarr.storage.MemoryStore(), mode="w")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("store.small.CHUNK_ROWS", chunk)
        writer = ArrayWriter(group, "rows", (3,), np.int64, ("n", "of_each"))
        start = 0
        for size in sizes:
            writer.append(rows[start : start + size])
            start += size
        writer.close()
    stored = group["rows"]
    assert stored.shape == (len(rows), 3) and stored.chunks == (chunk, 3)
    np.testing.assert_array_equal(stored[...], rows)


def test_blocks_are_the_chunks_and_a_lost_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.small.CHUNK_ROWS", 10)
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    writer = ArrayWriter(group, "scores", (), np.float32)
    writer.append(np.arange(4, dtype=np.float32))
    writer.append(np.arange(4, 23, dtype=np.float32))
    writer.close()
    blocks = list(read_blocks(group, "scores"))
    assert [len(block) for block in blocks] == [10, 10, 3]
    np.testing.assert_array_equal(np.concatenate(blocks), np.arange(23))
    np.testing.assert_array_equal(read_whole(group, "scores"), np.arange(23))
    (tmp_path / "a.zarr/scores/c/1").unlink()
    with pytest.raises(ArtifactDamaged, match="gone or empty"):
        next(read_blocks(group, "scores"))


def test_nothing_is_no_block(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    ArrayWriter(group, "scores", (), np.float32).close()
    assert list(read_blocks(group, "scores")) == []
    assert read_whole(group, "scores").shape == (0,)
