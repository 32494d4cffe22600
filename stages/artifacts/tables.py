"""Tables between stages: Parquet files inside artifacts."""

from pathlib import Path
from typing import Any

import pandas as pd

from store import ArtifactDamaged


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """Read a table that a stage published.

    Raises
    ------
    ArtifactDamaged
        When it is gone or cannot be read.
    """
    try:
        return pd.read_parquet(path, **options)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ArtifactDamaged(
            f"{path}: cannot be read ({error}); run its stage again with `--no-reuse`, "
            "or restore it with `dvc checkout`"
        ) from error
