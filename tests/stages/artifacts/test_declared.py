"""What is declared of an artifact holds for its writer and its reader."""

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.artifacts.declared import Kind, Table
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.factorizations import Factorizations
from stages.artifacts.factors import LayerFactors
from store import ArtifactDamaged, create_artifact, open_artifact, write_array
from store.artifact import layer_key


def of_layer(path: Path) -> zarr.Group:
    group = create_artifact(
        path, stage="factorize", fingerprint="0", layers=["a/b"], images=["x"], sets={"s": [0]}
    )
    return group.require_group(layer_key("a/b"))


def test_an_array_has_its_axes_and_type_and_is_read_once(tmp_path: Path) -> None:
    group = of_layer(tmp_path / "f.zarr")
    LayerFactors.W.write(group, np.ones((1, 2, 3)))
    assert group["factors"].metadata.dimension_names == ("sets", "columns", "channels")
    assert group["factors"].dtype == np.float32
    factors = LayerFactors(open_artifact(tmp_path / "f.zarr"), "a/b")
    assert factors.W is factors.W and factors.W.shape == (1, 2, 3)


def test_what_would_lose_something_is_not_written(tmp_path: Path) -> None:
    group = of_layer(tmp_path / "f.zarr")
    with pytest.raises(ValueError, match=r"norm: \(1, 2\) is not \[sets\]"):
        LayerFactors.norm.write(group, np.ones((1, 2)))
    with pytest.raises(TypeError, match="same_kind"):
        LayerFactors.parent.write(group, np.ones((1, 2)))
    assert list(group.array_keys()) == []


def test_another_version_of_an_array_is_one_line(tmp_path: Path) -> None:
    group = of_layer(tmp_path / "f.zarr")
    write_array(group, "norm", np.ones(1, np.float32))
    factors = LayerFactors(open_artifact(tmp_path / "f.zarr"), "a/b")
    with pytest.raises(ArtifactDamaged, match=r"norm of a/b is float32 with 1 axes, not float64"):
        _ = factors.norm


COLUMNS: dict[str, Kind] = {
    "layer": "text", "k": "whole", "iou": "number", "best": "flag", "q": "share",
}  # fmt: skip


class Tables:
    """Two forms of one table."""

    csv = Table("table.csv", **COLUMNS)
    parquet = Table("table.parquet", **COLUMNS)

    def __init__(self, folder: Path) -> None:
        self.folder = folder


ROWS = [
    ("NA", 1, np.nan, True, 0.5),
    ("007", 2, 0.1 + 0.2, False, 0.25),
    ("", 3, 1e-300, True, 1.0),
    ('a,"b"\n', 4, -0.0, False, 0.0),
    ("a\rb", 5, 2.0, False, 0.0),
]


@pytest.mark.parametrize("rows", [ROWS, []], ids=["rows", "none"])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_comes_back_as_it_was(tmp_path: Path, form: str, rows: list) -> None:  # type: ignore[type-arg]
    table: Table = getattr(Tables, form)
    made = table.frame(rows)
    table.write(tmp_path, made.assign(besides=1))
    found = getattr(Tables(tmp_path), form)
    assert list(found) == list(COLUMNS)
    assert found["layer"].tolist() == [row[0] for row in rows]
    for name, kind in (("k", np.int64), ("iou", np.float64), ("best", np.bool_)):
        assert found[name].dtype == kind, name
        np.testing.assert_array_equal(found[name], made[name])
    np.testing.assert_array_equal(found["q"], made["q"])


def test_a_table_that_lacks_a_column_is_damaged(tmp_path: Path) -> None:
    for form in (Tables.csv, Tables.parquet):
        frame = form.frame(ROWS).drop(columns="iou")
        frame.to_parquet(tmp_path / "table.parquet")
        with pytest.raises(ArtifactDamaged, match="cannot be read"):
            form.read(tmp_path)
        with pytest.raises(KeyError, match="iou"):
            form.write(tmp_path, frame)


def test_a_table_that_grows_is_the_table_written_at_once(tmp_path: Path) -> None:
    frame = Tables.parquet.frame(ROWS)
    with Tables.parquet.growing(tmp_path) as add:
        add(frame[:1])
        add(frame[1:1])
        add(frame[1:])
    found = Tables.parquet.read(tmp_path)
    Tables.parquet.write(tmp_path, frame)
    pd.testing.assert_frame_equal(found, Tables.parquet.read(tmp_path))


EVALUATED = [one for one in vars(Evaluation).values() if isinstance(one, Table)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(), max_size=4))
@example(
    ["NA", "nan", "null", "None", "", "010", "1e3", "true", "1_000", "\r", "a\r\nb", " a", "#"]
)
def test_a_name_of_any_text_comes_back_from_every_table(names: list[str]) -> None:
    """Also as programs read the files: Parquet with nothing said, CSV with all read as text."""
    with TemporaryDirectory() as folder:
        for table in EVALUATED:
            texts = [name for name, kind in table.columns.items() if kind == "text"]
            plain = {"whole": 1, "number": 0.5, "share": 0.5, "flag": True}
            rows = [
                {column: name if column in texts else plain[kind]
                 for column, kind in table.columns.items()}
                for name in names
            ]  # fmt: skip
            table.write(Path(folder), table.frame(rows))
            for found in (
                table.read(Path(folder)),
                pd.read_parquet((Path(folder) / table.file).with_suffix(".parquet")),
            ):
                assert all(found[column].tolist() == names for column in texts)
            if table.file.endswith(".csv"):
                with (Path(folder) / table.file).open(encoding="utf-8", newline="") as file:
                    written = list(csv.DictReader(file))
                assert all([row[column] for row in written] == names for column in texts)


def test_every_table_of_an_evaluation_is_a_file_of_its_own() -> None:
    assert len({one.file.partition(".")[0] for one in EVALUATED}) == len(EVALUATED) == 14
    assert all(one.columns.get("layer", "text") == "text" for one in EVALUATED)


def test_factorizations_lie_side_by_side() -> None:
    of = Factorizations.every((2, 1), (7, 0))
    assert of.problems == ((2, 7), (2, 0), (1, 7), (1, 0))
    assert of.columns == [(2, 7, 0), (2, 7, 1), (2, 0, 0), (2, 0, 1), (1, 7, 0), (1, 0, 0)]
    assert (of.ks, of.seeds, of.shown_seed) == ([2, 1], [7, 0], 7)
    assert of.columns_of(2) == [0, 1] and of.columns_of(2, 0) == [2, 3]
    assert of.columns_of(3) == [] and of.columns_of(1, 5) == []
