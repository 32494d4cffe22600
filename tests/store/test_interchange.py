"""What we write Zarr reads, and the other way round; dask and xarray open it as it is."""

import subprocess
import sys

import dask.array
import numpy as np
import pytest
import xarray
import zarr
from zarr.codecs import Crc32cCodec

from store import Layout, Ragged, RaggedWriter, create_artifact, open_artifact
from store.artifact import layer_key
from store.codec import RowsCodec
from store.shards import ShardReader

GRIDS = np.array([[2, 3], [1, 1], [5, 4], [3, 3], [0, 4], [2, 7]])  # 50 rows


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 3, (50, 7)) * (rng.random((50, 7)) < 0.2)
    values[20:30] = rng.gamma(2, 3, (10, 7))  # dense chunks among the sparse ones
    values[30:38] = 0
    return values.astype(np.float16).astype(np.float32)


@pytest.fixture
def artifact(tmp_path, values):
    group = create_artifact(
        tmp_path / "a.zarr",
        stage="extract",
        fingerprint="f",
        layers=["l"],
        images=[f"{i}.png" for i in range(6)],
        sets={"some": [0, 2, 5], "all": range(6)},
    )
    writer = RaggedWriter(
        group.require_group(f"{layer_key('l')}/maps"),
        GRIDS,
        np.arange(6),
        7,
        np.float32,
        layout=Layout(4, 12),
        narrow=True,
    )
    writer.append(0, values)
    writer.close()
    return open_artifact(tmp_path / "a.zarr")


def test_zarr_reads_our_shards(artifact, values):
    array = artifact.ragged("l").values
    np.testing.assert_array_equal(array[:], values)
    np.testing.assert_array_equal(array[13:37:5, 2:4], values[13:37:5, 2:4])


@pytest.mark.parametrize("narrow", [False, True])
def test_we_read_shards_that_zarr_wrote(tmp_path, values, narrow):
    array = zarr.create_array(
        tmp_path / "z",
        shape=values.shape,
        dtype=values.dtype,
        chunks=(4, 7),
        shards=(12, 7),
        serializer=RowsCodec(narrow=narrow),
        compressors=[Crc32cCodec()],
        fill_value=np.nan,
    )
    array[:] = values
    chunks = ShardReader(array, lambda first, last: "").chunks(range(13))
    found = np.concatenate([chunks[i].dense(np.float32) for i in range(13)])[:50]
    np.testing.assert_array_equal(found, values)


def test_no_import_of_ours_is_needed(artifact, values, tmp_path):
    program = (
        f"import zarr; a = zarr.open_array({str(artifact.location)!r} + '/layers/l/maps/values');"
        "print(float(a[:].sum()))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert float(said.stdout) == pytest.approx(float(values.sum()), rel=1e-6)


def test_dask_takes_a_set_and_a_layer(artifact, values):
    rows = artifact.rows("some")
    array = dask.array.from_array(rows, chunks=(9, -1))
    expected = np.concatenate([values[0:6], values[7:27], values[36:50]])
    np.testing.assert_array_equal(array.compute(), expected)
    np.testing.assert_allclose(array.mean(axis=0).compute(), expected.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(array[5:11, 2].compute(), expected[5:11, 2])
    whole = dask.array.from_zarr(artifact.ragged("l").values)
    np.testing.assert_array_equal(whole.compute(), values)


def test_xarray_opens_a_layer(artifact, values):
    opened = xarray.open_zarr(
        str(artifact.location), group="layers/l/maps", consolidated=False, chunks=None
    )
    assert opened["values"].dims == ("row", "channel")
    np.testing.assert_array_equal(opened["values"].values, values)
    assert opened["offsets"].dims == ("edge",) and opened["grid_hw"].dims == ("entry", "side")


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_torch_wraps_blocks_without_a_copy(artifact, values):
    import torch

    (block,) = artifact.rows("all").blocks()
    tensor = torch.from_numpy(block)
    tensor[0, 0] = 77
    assert block[0, 0] == 77, "one memory, and the caller's own"
    np.testing.assert_array_equal(artifact.rows("all")[:1], values[:1])
    (sparse,) = artifact.rows("all", form="sparse").blocks()
    wrapped = torch.sparse_csr_tensor(
        *map(torch.from_numpy, (sparse.indptr, sparse.indices, sparse.data)),
        size=sparse.shape,
        check_invariants=True,
    )
    np.testing.assert_array_equal(wrapped.to_dense().numpy(), values)


def test_sets_in_either_form_and_any_slice(artifact, values):
    rows = artifact.rows("some", block_rows=7)
    expected = np.concatenate([values[0:6], values[7:27], values[36:50]])
    assert rows.shape == expected.shape and rows.ndim == 2
    for form in ("dense", "sparse"):
        blocks = list(artifact.rows("some", form=form, block_rows=7).blocks())
        assert [block.shape[0] for block in blocks] == [7, 7, 7, 7, 7, 5]
        whole = np.concatenate([b if form == "dense" else b.toarray() for b in blocks])
        np.testing.assert_array_equal(whole, expected)
    for start in range(0, 41, 3):
        for stop in range(0, 44, 5):
            np.testing.assert_array_equal(rows[start:stop], expected[start:stop])
    np.testing.assert_array_equal(rows[-3:], expected[-3:])
    with pytest.raises(TypeError):
        rows[3]
    with pytest.raises(TypeError):
        rows[::2]
    assert artifact.images_of("some") == ["0.png", "2.png", "5.png"]


def test_density_and_types_are_recorded(artifact, values):
    ragged = artifact.ragged("l")
    assert ragged.density == pytest.approx(np.count_nonzero(values) / values.size)
    assert ragged.stored_dtypes == {"float16": 13}
    rows = artifact.rows("all")
    assert rows.nbytes == values.nbytes
    assert rows.compact().form == ("sparse" if ragged.density < 1 / 3 else "dense")


def test_one_image_costs_its_own_chunks_only(tmp_path, monkeypatch):
    """Not its neighbours' shards: the index once, then the chunks the image touches."""
    from store.location import Location

    rng = np.random.default_rng(0)
    values = (rng.gamma(2, 3, (40 * 100, 64)) * (rng.random((4000, 64)) < 0.1)).astype(np.float32)
    group = zarr.open_group(tmp_path / "g", mode="w", zarr_format=3)
    grid = np.full((40, 2), 10)
    writer = RaggedWriter(group, grid, np.arange(40), 64, "f4", layout=Layout(50, 2000))
    writer.append(0, values)
    writer.close()
    ragged = Ragged.open(group)
    read: list[int] = []
    each, end = Location.each_span, Location.read_end
    monkeypatch.setattr(
        Location,
        "each_span",
        lambda self, s: read.extend(b - a for a, b in s) or each(self, s),
    )
    monkeypatch.setattr(Location, "read_end", lambda self, n: read.append(n) or end(self, n))
    np.testing.assert_array_equal(ragged.map(7).reshape(100, 64), values[700:800])
    shard = (tmp_path / "g/values/c/0/0").stat().st_size
    assert len(read) == 2 and sum(read) < 0.1 * shard
    read.clear()
    ragged.map(9)
    assert len(read) == 1 and sum(read) < 0.06 * shard
    # a set that is scattered over a shard is one read for all that lies close together
    read.clear()
    list(ragged.select([0, 3, 6, 9, 12]).blocks())
    assert len(read) == 1


@pytest.mark.parametrize("shape", [(8,), (8, 4, 2)])
def test_arrays_of_other_dimensions_are_refused_when_they_are_made(shape):
    with pytest.raises(ValueError, match="rows, channels"):
        zarr.create_array(
            zarr.storage.MemoryStore(),
            shape=shape, chunks=shape, dtype="f4", serializer=RowsCodec(), compressors=None,
        )  # fmt: skip
