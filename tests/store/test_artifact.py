"""Artifacts: made whole, opened by name, refused with one line when they cannot be read."""

import errno
import json
import os

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import (
    ArtifactDamaged,
    ArtifactMissing,
    RaggedWriter,
    SchemaMismatch,
    StoreError,
    create_artifact,
    open_artifact,
    write_array,
)
from store.artifact import Ragged, layer_key, read_attrs, write_record

GRIDS = np.array([[2, 3], [4, 1], [3, 3]])
HOSTILE = [
    "../x",
    "../../x",
    "/abs",
    "",
    ".",
    "..",
    "a/b",
    "a\\..\\..\\b",
    "a_b",
    "naïve 画像",
    "<script>alert(1)</script>",
    "%2E",
    "new\nline",
    "\udcff",
    "x" * 80,
]


def make(path, *, layers=("conv4", "conv5"), images=("a.png", "b.png", "c.png"), sets=None):
    """An artifact of three images of 1, 2, ... per layer; its values by layer."""
    path.mkdir(parents=True, exist_ok=True)
    sets = {"bird": [0, 2], "all": [0, 1, 2]} if sets is None else sets
    group = create_artifact(
        path,
        stage="extract",
        fingerprint="f" * 64,
        layers=layers,
        images=images,
        sets=sets,
        backbone="demo",
    )
    values = {}
    for number, layer in enumerate(layers):
        values[layer] = np.full((19, 2), number + 1, np.float16)
        maps = group.require_group(f"{layer_key(layer)}/maps")
        writer = RaggedWriter(maps, GRIDS, np.array([0, 1, 2]), 2, np.float16)
        writer.append(0, values[layer])
        writer.close()
        write_array(group, f"{layer_key(layer)}/scale", np.array([0.0, number]))
    return values


def test_sets_images_and_maps_by_name(tmp_path):
    values = make(tmp_path / "a.zarr")
    artifact = open_artifact(str(tmp_path / "a.zarr"))
    assert artifact.layers == ["conv4", "conv5"]
    assert artifact.images == ["a.png", "b.png", "c.png"]
    assert {name: entries.tolist() for name, entries in artifact.sets.items()} == {
        "bird": [0, 2],
        "all": [0, 1, 2],
    }
    assert artifact.fingerprint == "f" * 64 and artifact.attrs["backbone"] == "demo"
    assert artifact.entry("bird", "c.png") == 2
    assert artifact.map("bird", "c.png").shape == (3, 3, 2)
    assert (artifact.map("all", "b.png", "conv5") == 2).all()
    np.testing.assert_array_equal(artifact.ragged("conv5").rows(0, 19), values["conv5"])
    assert artifact.layer_array("conv5", "scale").tolist() == [0.0, 1.0]


def test_the_entry_of_an_image_in_several_sets_is_the_sets_own(tmp_path):
    # factors.zarr stores one entry per (set, image): image 0 is entry 0 of "x", entry 2 of "y"
    group = create_artifact(
        tmp_path,
        stage="factorize",
        fingerprint="0",
        layers=["l"],
        images=["a", "b"],
        sets={"x": [0, 1], "y": [2]},
    )
    maps = group.require_group(f"{layer_key('l')}/maps")
    writer = RaggedWriter(maps, np.ones((3, 2)), np.array([0, 1, 0]), 1, "f4")
    writer.append(0, np.array([[1.0], [2.0], [3.0]]))
    writer.close()
    artifact = open_artifact(tmp_path)
    assert artifact.entry("x", "a") == 0 and artifact.entry("y", "a") == 2
    assert artifact.map("y", "a").item() == 3.0
    with pytest.raises(StoreError, match="'b' is not in the set 'y'"):
        artifact.map("y", "b")


@pytest.mark.parametrize(
    "ask, named",
    [
        (lambda a: a.ragged("conv9"), "no layer 'conv9'; there are conv4, conv5"),
        (lambda a: a.layer_array("conv9", "scale"), "no layer 'conv9'"),
        (lambda a: a.layer_array("../..", "scale"), "no layer"),
        (lambda a: a.entry("dog", "a.png"), "no image set 'dog'"),
        (lambda a: a.map("bird", "z.png"), "no image 'z.png'"),
        (lambda a: a.map("bird", "b.png"), "'b.png' is not in the set 'bird'"),
        (lambda a: a.map("bird", "a.png", "conv9"), "no layer 'conv9'"),
        (lambda a: a.array("nothing"), "nothing: gone"),
        (lambda a: a.ragged("conv4", "nothing"), "nothing: gone"),
    ],
)
def test_unknown_names_are_one_line(tmp_path, ask, named):
    make(tmp_path / "a.zarr")
    with pytest.raises(StoreError, match=named) as error:
        ask(open_artifact(tmp_path / "a.zarr"))
    assert str(tmp_path / "a.zarr") in str(error.value) and "\n" not in str(error.value)


def test_missing_artifacts(tmp_path):
    with pytest.raises(ArtifactMissing, match="not there yet"):
        open_artifact(tmp_path / "none.zarr")
    assert read_attrs(tmp_path / "none.zarr") is None
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactMissing):
        open_artifact(tmp_path / "empty")
    assert read_attrs(tmp_path / "empty") is None


def test_another_schema_is_refused(tmp_path):
    make(tmp_path / "a.zarr")
    zarr.open_group(tmp_path / "a.zarr", mode="r+").attrs["schema"] = 99
    with pytest.raises(SchemaMismatch, match="schema 99"):
        open_artifact(tmp_path / "a.zarr")
    with pytest.raises(SchemaMismatch, match="schema 99"):
        read_attrs(tmp_path / "a.zarr")
    zarr.open_group(tmp_path / "foreign.zarr", mode="w", zarr_format=3)
    with pytest.raises(ArtifactMissing, match="unfinished"):
        open_artifact(tmp_path / "foreign.zarr")
    zarr.open_group(tmp_path / "foreign.zarr", mode="r+").attrs["by"] = "others"
    with pytest.raises(SchemaMismatch, match="schema None"):
        open_artifact(tmp_path / "foreign.zarr")


def test_a_folder_artifact_has_a_record(tmp_path):
    write_record(tmp_path, stage="report", fingerprint="abc", pages=3)
    assert read_attrs(tmp_path) == {
        "schema": 1,
        "stage": "report",
        "fingerprint": "abc",
        "pages": 3,
    }
    record = json.loads((tmp_path / "artifact.json").read_text())
    (tmp_path / "artifact.json").write_text(json.dumps({**record, "schema": 0}))
    with pytest.raises(SchemaMismatch):
        read_attrs(tmp_path)
    for content in ("", "[1, 2]", '{"schema": 1,'):
        (tmp_path / "artifact.json").write_text(content)
        with pytest.raises(ArtifactDamaged, match="unreadable"):
            read_attrs(tmp_path)


def test_damaged_metadata_of_the_artifact_itself(tmp_path):
    make(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/zarr.json").write_text('{"zarr_fo')
    for read in (open_artifact, read_attrs):
        with pytest.raises(ArtifactDamaged, match="unreadable"):
            read(tmp_path / "a.zarr")


def test_metadata_that_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    make(tmp_path / "a.zarr")

    def refused(*args, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "zarr.json")

    monkeypatch.setattr("zarr.open_group", refused)
    with pytest.raises(StoreError, match="Permission denied") as error:
        open_artifact(tmp_path / "a.zarr")
    assert "\n" not in str(error.value) and "a.zarr" in str(error.value)


def test_an_array_is_opened_once(tmp_path, monkeypatch):
    make(tmp_path / "a.zarr")
    artifact, opened = open_artifact(tmp_path / "a.zarr"), []
    read = Ragged.open
    monkeypatch.setattr(
        "store.artifact.Ragged.open", lambda *args: opened.append(args) or read(*args)
    )
    layer = artifact.layers[0]
    assert artifact.ragged(layer) is artifact.ragged(layer) and len(opened) == 1


def test_damaged_sets_are_one_line(tmp_path):
    make(tmp_path / "a.zarr")
    file = tmp_path / "a.zarr/sets/entries/c/0"
    flipped = bytearray(file.read_bytes())
    flipped[3] ^= 1
    file.write_bytes(flipped)
    with pytest.raises(ArtifactDamaged, match="sets/entries"):
        _ = open_artifact(tmp_path / "a.zarr").sets
    file.unlink()
    with pytest.raises(ArtifactDamaged, match="gone"):
        _ = open_artifact(tmp_path / "a.zarr").sets


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    dtype=st.sampled_from(["float32", "float64", "int64", "uint8"]),
    zero=st.booleans(),
)
def test_small_arrays_survive_all_zero_ones_too(tmp_path_factory, shape, dtype, zero):
    path = tmp_path_factory.mktemp("a")
    make(path, sets={})
    values = np.zeros(shape, dtype) if zero else np.ones(shape, dtype)
    group = zarr.open_group(path, mode="r+")
    write_array(group, "some", values + 1)
    write_array(group, "some", values)  # a resumed stage writes it again
    found = open_artifact(path).array("some")
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype
    assert open_artifact(path).sets == {}


def test_an_empty_artifact(tmp_path):
    create_artifact(
        tmp_path, stage="s", fingerprint="f", layers=["l"], images=[], sets={"none": []}
    )
    artifact = open_artifact(tmp_path)
    assert artifact.images == [] and artifact.sets["none"].tolist() == []


@pytest.mark.parametrize("after", ["group", "offsets", "entries"])
def test_killed_before_the_attributes_were_written(tmp_path, after, monkeypatch):
    make(tmp_path / "whole")
    folder = tmp_path / "killed"
    folder.mkdir()
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    if after != "group":
        write_array(group, "sets/offsets", np.array([0]))
    if after == "entries":
        write_array(group, "sets/entries", np.array([], dtype=np.int64))
    (folder / f"zarr.{'0' * 32}.partial").write_bytes(b"half")
    make(folder)

    def files(path):
        return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}

    assert files(folder) == files(tmp_path / "whole")


def test_going_on_keeps_what_is_there(tmp_path):
    make(tmp_path)
    facts = {
        "stage": "extract",
        "fingerprint": "f" * 64,
        "layers": ["conv4", "conv5"],
        "images": ["a.png", "b.png", "c.png"],
        "sets": {"bird": [0, 2], "all": [0, 1, 2]},
        "backbone": "demo",
    }
    assert "layers/conv4" in create_artifact(tmp_path, **facts)
    for other in ({"backbone": "vgg19"}, {"sets": {"bird": [0, 1], "all": [0, 1, 2]}}):
        make(tmp_path)
        assert "layers/conv4" not in create_artifact(tmp_path, **{**facts, **other}), other


# -- hostile names -------------------------------------------------------------------------------


def test_hostile_names_stay_inside_and_are_found_again(tmp_path):
    home = tmp_path / "deep" / "er" / "a.zarr"
    values = make(home, layers=HOSTILE, images=HOSTILE[:3], sets={n: [0, 1, 2] for n in HOSTILE})
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_relative_to(home)]
    assert outside == []
    assert {p.name for p in home.iterdir()} == {"zarr.json", "images", "sets", "layers"}
    folders = [p for p in (home / "layers").iterdir() if p.is_dir()]
    assert len(folders) == len(HOSTILE)
    artifact = open_artifact(home)
    assert list(artifact.sets) == HOSTILE and artifact.layers == HOSTILE
    for layer in HOSTILE:
        np.testing.assert_array_equal(artifact.ragged(layer).rows(0, 19), values[layer])
        assert artifact.map(layer, HOSTILE[0], layer).shape == (2, 3, 2)


@given(st.text(max_size=20), st.text(max_size=20))
def test_layer_keys_are_one_plain_folder_each(first, second):
    for name in (first, second):
        head, tail = layer_key(name).split("/")
        assert head == "layers" and tail.strip(".") and tail.isascii() and "\\" not in tail
    assert (layer_key(first) == layer_key(second)) == (first == second)


def test_ordinary_layer_names_are_kept():
    assert layer_key("conv4_2") == "layers/conv4_2"
    assert layer_key("features.35") == "layers/features.35"
