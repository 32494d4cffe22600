"""Tables between stages: Parquet files inside artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from store import ArtifactDamaged

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """Read a table that a stage published.

    Raises
    ------
    ArtifactDamaged
        When it is gone or cannot be read.
    """
    import pandas as pd  # here, as in all of this package: most that is asked of it is no table

    try:
        return pd.read_parquet(path, **options)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise _damaged(path, error) from error


def read_rows(path: Path, *columns: str) -> list[dict[str, Any]]:
    """Some columns of a table as plain rows, None where a value is missing; errors as `read_table`.

    For what reads a few of them and nothing else: pandas takes longer to load than that.
    """
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            table = file.read(columns=list(columns))
            rows: list[dict[str, Any]] = table.select(list(columns)).to_pylist()
    except (OSError, ValueError, KeyError) as error:  # a column that is not there is a KeyError
        raise _damaged(path, error) from error
    return [{name: None if one != one else one for name, one in row.items()} for row in rows]


def _damaged(path: Path, error: Exception) -> ArtifactDamaged:
    return ArtifactDamaged(
        f"{path}: cannot be read ({error}); run its stage again with `--no-reuse`, "
        "or restore it with `dvc checkout`"
    )
