"""Locations: folders and URLs alike; every complaint of a service is one line."""

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from store import (
    ArtifactDamaged,
    ArtifactMissing,
    Layout,
    Location,
    RaggedWriter,
    StoreError,
    create_artifact,
    finish_artifact,
    open_artifact,
)
from store.artifact import layer_key


@pytest.fixture(params=["folder", "memory"])
def place(request, tmp_path):
    if request.param == "folder":
        yield str(tmp_path / "deep" / "down")
    else:
        yield "memory://bucket/prefix"
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]


def write(place):
    group = create_artifact(
        place,
        stage="extract",
        fingerprint="f",
        layers=["l"],
        images=["a", "b"],
        sets={"s": [0, 1]},
        in_place=True,
    )
    writer = RaggedWriter(
        group.require_group(f"{layer_key('l')}/maps"),
        np.array([[2, 2], [3, 2]]),
        np.arange(2),
        3,
        "f4",
        layout=Layout(2, 4),
    )
    writer.append(0, np.arange(30, dtype=np.float32).reshape(10, 3))
    writer.close()
    return group


def test_an_artifact_at_either_place(place):
    group = write(f"{place}/a.zarr")
    finish_artifact(group)
    artifact = open_artifact(f"{place}/a.zarr")
    assert str(artifact.location) == f"{place}/a.zarr"
    np.testing.assert_array_equal(artifact.map("s", "b").ravel(), np.arange(12, 30))
    assert artifact.ragged("l").rows(3, 9).tolist() == np.arange(9, 27).reshape(6, 3).tolist()
    assert artifact.ragged("l").values[:].sum() == np.arange(30).sum()


def test_an_unfinished_artifact_is_not_there_yet(place):
    group = write(f"{place}/b.zarr")
    with pytest.raises(ArtifactMissing, match=r"/b\.zarr: unfinished"):
        open_artifact(f"{place}/b.zarr")
    finish_artifact(group)
    assert open_artifact(f"{place}/b.zarr").fingerprint == "f"


def test_files(place):
    file = Location.of(place) / "x/y.bin"
    assert file.size() is None
    with pytest.raises(FileNotFoundError):
        file.read_end(4)
    with pytest.raises(FileNotFoundError):
        file.read_spans([(0, 1)])
    file.write([b"0123", b"456789"])
    assert file.size() == 10
    assert file.read_end(3) == b"789" and file.read_end(99) == b"0123456789"
    assert file.read_spans([(2, 5), (0, 1)]) == [b"234", b"0"]
    file.write([b"new"])
    assert file.read_end(9) == b"new"
    assert (Location.of(place) / "x").size() is None, "a folder is no file"


def test_damage_at_a_url_is_one_line():
    finish_artifact(write("memory://bucket/c.zarr"))
    fs = fsspec.filesystem("memory")
    shard = "/bucket/c.zarr/layers/l/maps/values/c/1/0"
    sound = fs.cat_file(shard)
    fs.pipe_file(shard, sound[:5] + bytes([sound[5] ^ 1]) + sound[6:])
    with pytest.raises(ArtifactDamaged, match="shard c/1/0: its checksum") as error:
        open_artifact("memory://bucket/c.zarr").map("s", "b")
    assert "/bucket/c.zarr/layers" in str(error.value) and " of b cannot" in str(error.value)
    fs.rm(shard)
    with pytest.raises(ArtifactDamaged, match="it is gone"):
        open_artifact("memory://bucket/c.zarr").map("s", "b")
    MemoryFileSystem.store.clear()


def test_places_that_cannot_be():
    with pytest.raises(StoreError, match="credentials") as error:
        Location.of("s3://key:secret@bucket/x")
    assert "secret" not in str(error.value)
    with pytest.raises(StoreError, match="cannot be reached"):
        open_artifact("nosuchprotocol://x/y")
    with pytest.raises(ArtifactMissing):
        open_artifact("memory://bucket/none.zarr")


def test_paths_and_urls():
    assert str(Location.of("memory://a/b/") / "c") == "memory://a/b/c"
    assert Location.of("file:///tmp/x").path is not None
    assert Location.of(Location("x")) == Location("x")
    assert str(Location.of("a/./b").absolute()).startswith("/")
