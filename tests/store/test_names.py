"""Image names as arrays: what was put in comes out, one by one or all together."""

import json

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from store import create_artifact, names, open_artifact
from store.artifact import read_attrs
from store.names import Names

ANY = st.lists(st.text(st.characters(), max_size=6), max_size=12)  # lone surrogates, too


@given(ANY, st.integers(1, 5))
def test_names_are_what_they_were(strings, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "BLOCK", block)
        found = Names.of(strings)
        assert list(found) == strings and len(found) == len(strings)
        assert [found[i] for i in range(len(strings))] == strings
        assert [found[-1 - i] for i in range(len(strings))] == strings[::-1]
        assert found[1:3] == strings[1:3]
        assert found == strings and found == Names.of(strings) and strings == found
        assert found != [*strings, "x"] and found != Names.of([*strings, "x"])
    with pytest.raises(IndexError):
        found[len(strings)]


def artifact(path, images):
    create_artifact(
        path, stage="s", fingerprint="f", layers=["l"], images=images, sets={"all": [0, 1]}
    )
    return path


def test_names_are_no_attribute(tmp_path):
    """The JSON that whoever opens an artifact parses does not grow with its images."""
    few = artifact(tmp_path / "few.zarr", ["a.png", "b.png"])
    many = artifact(tmp_path / "many.zarr", [f"{i:09d}.png" for i in range(5000)])
    sizes = [(path / "zarr.json").stat().st_size for path in (few, many)]
    assert sizes[1] - sizes[0] == len("5000") - len("2")
    assert open_artifact(many).images[4999] == "000004999.png"
    assert read_attrs(many)["images"] == 5000


def test_an_artifact_of_the_earlier_schema_is_read(tmp_path):
    path = artifact(tmp_path / "a.zarr", ["a.png", "b.png"])
    group = zarr.open_group(path, mode="r+")
    del group["images"]
    group.update_attributes({"schema": 2, "images": ["x.png", "y.png"]})
    assert open_artifact(path).images == ["x.png", "y.png"]


def test_an_artifact_that_was_begun_of_other_names_is_begun_anew(tmp_path):
    path = artifact(tmp_path / "a.zarr", ["a.png", "b.png"])
    group = zarr.open_group(path, mode="r+")
    group.create_array("mine", data=np.zeros(1))
    assert "mine" in zarr.open_group(artifact(path, ["a.png", "b.png"]))
    assert "mine" not in zarr.open_group(artifact(path, ["a.png", "c.png"]))
    assert list(open_artifact(path).images) == ["a.png", "c.png"]
    assert json.loads((path / "zarr.json").read_bytes())["attributes"]["images"] == 2
