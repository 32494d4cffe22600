"""What an artifact holds, declared once for its writer and its reader.

A reader's class has the small arrays of a layer, or the tables of a folder, as its attributes::

    class LayerFactors:
        loss = LayerArray(np.float64, "sets", "problems", "updates")

    LayerFactors.loss.write(group, values)     # the stage that makes the artifact
    factors.at(layer).loss                     # whoever reads it
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.tables import read_rows, read_table
from store import Artifact, ArtifactDamaged, write_array
from store.reading import read_whole

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import zarr

Array = NDArray[Any]
Kind = Literal["text", "whole", "number", "share", "flag"]
# How values of each kind lie in a table: pandas' type, and Parquet's.
PANDAS: Mapping[Kind, Any] = {
    "text": object,
    "whole": np.int64,
    "number": np.float64,
    "share": np.float32,
    "flag": np.bool_,
}
PARQUET: Mapping[Kind, str] = {
    "text": "string",
    "whole": "int64",
    "number": "float64",
    "share": "float32",
    "flag": "bool",
}


class OfLayer(Protocol):
    """What reads arrays of one layer."""

    @property
    def artifact(self) -> Artifact:
        """Where they lie."""

    @property
    def layer(self) -> str:
        """Whose they are."""


class LayerArray:
    """A small array that every layer of an artifact has; read once, as an attribute.

    Parameters
    ----------
    dtype : numpy dtype
    *axes : str
        What each axis counts.
    name : str, optional
        On disk, where that is not the attribute's name.
    """

    def __init__(self, dtype: Any, *axes: str, name: str = "") -> None:
        self.dtype, self.axes, self.name = np.dtype(dtype), axes, name

    def __set_name__(self, owner: type, attribute: str) -> None:
        self.attribute, self.name = attribute, self.name or attribute

    @overload
    def __get__(self, reader: None, owner: type) -> LayerArray: ...
    @overload
    def __get__(self, reader: OfLayer, owner: type) -> Array: ...
    def __get__(self, reader: OfLayer | None, owner: type) -> LayerArray | Array:
        if reader is None:
            return self
        # found there the next time, as with functools.cached_property
        found = vars(reader)[self.attribute] = self._read(reader)
        return found

    def _read(self, reader: OfLayer) -> Array:
        found = reader.artifact.layer_array(reader.layer, self.name)
        if found.ndim != len(self.axes) or found.dtype != self.dtype:
            raise ArtifactDamaged(
                f"{reader.artifact.location}: {self.name} of {reader.layer} is {found.dtype} with "
                f"{found.ndim} axes, not {self.dtype} [{', '.join(self.axes)}]; run its stage again"
            )
        return found

    def write(self, group: zarr.Group, values: Any) -> None:
        """Store it in a layer's group.

        Raises
        ------
        ValueError, TypeError
            When the values have other axes, or a type that would lose something.
        """
        values = np.asarray(values)
        if values.ndim != len(self.axes):
            raise ValueError(f"{self.name}: {values.shape} is not [{', '.join(self.axes)}]")
        write_array(group, self.name, values.astype(self.dtype, casting="same_kind"), self.axes)

    def written(self, group: zarr.Group) -> Array:
        """What an earlier run has stored in a layer's group."""
        return read_whole(group, self.name)


class OfFolder(Protocol):
    """What reads tables from a folder."""

    @property
    def folder(self) -> Path:
        """Where they lie."""


class Table:
    """A table in an artifact that is a folder of files; read once, as an attribute.

    Parameters
    ----------
    file : str
        Its suffix says whether it is Parquet or CSV. Beside a CSV file, which is for people and
        for `dvc plots`, lies the same as Parquet: programs take a set called ``NA`` in a CSV file
        for a missing value, and ``010`` for 10.
    **columns : Kind
        What each column holds, in order. Of numbers and shares some may be missing (NaN).
    """

    def __init__(self, file: str, **columns: Kind) -> None:
        self.file, self.columns = file, columns

    def __set_name__(self, owner: type, attribute: str) -> None:
        self.attribute = attribute

    @overload
    def __get__(self, reader: None, owner: type) -> Table: ...
    @overload
    def __get__(self, reader: OfFolder, owner: type) -> pd.DataFrame: ...
    def __get__(self, reader: OfFolder | None, owner: type) -> Table | pd.DataFrame:
        if reader is None:
            return self
        found = vars(reader)[self.attribute] = self.read(reader.folder)
        return found

    def frame(self, rows: Any) -> pd.DataFrame:
        """Rows (mappings, or sequences in the order of the columns) as a table of this form."""
        import pandas as pd

        return self._typed(pd.DataFrame(rows, columns=list(self.columns)))

    def write(self, folder: Path, frame: pd.DataFrame) -> None:
        """Store it; the frame has these columns."""
        typed = self._typed(frame)
        if self.file.endswith(".csv"):
            # text in quotes: else a name that ends a line (\\r) would be one, to some programs
            typed.to_csv(folder / self.file, index=False, quoting=csv.QUOTE_NONNUMERIC)
        typed.to_parquet(self._parquet(folder), schema=self.schema)

    @contextmanager
    def growing(self, folder: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
        """Store a Parquet file bit by bit: yields what adds rows, a row group each time."""
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        with ParquetWriter(self._parquet(folder), self.schema) as writer:

            def add(frame: pd.DataFrame) -> None:
                rows = pa.Table.from_pandas(self._typed(frame), self.schema, preserve_index=False)
                writer.write_table(rows)

            yield add

    def read(self, folder: Path) -> pd.DataFrame:
        """Read it whole.

        Raises
        ------
        ArtifactDamaged
            When it is gone, cannot be read, or has other columns.
        """
        return read_table(self._parquet(folder), columns=list(self.columns))

    def rows(self, folder: Path, *columns: str) -> list[dict[str, Any]]:
        """Some of its columns as plain rows, None where a value is missing; errors as `read`."""
        return read_rows(self._parquet(folder), *columns)

    def _parquet(self, folder: Path) -> Path:
        return (folder / self.file).with_suffix(".parquet")

    @property
    def schema(self) -> pa.Schema:
        """In Parquet's words."""
        import pyarrow as pa

        kinds = self.columns.items()
        return pa.schema([(name, pa.type_for_alias(PARQUET[kind])) for name, kind in kinds])

    def _typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        chosen = frame[list(self.columns)]
        plain = {name: PANDAS[kind] for name, kind in self.columns.items() if kind != "text"}
        return chosen.astype(plain)
