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
        raise ArtifactDamaged(
            f"{path}: cannot be read ({error}); run its stage again with `--no-reuse`, "
            "or restore it with `dvc checkout`"
        ) from error
