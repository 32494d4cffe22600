"""Reading arrays so that damage is an error: flipped bits and lost files, as one line."""

from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from store.errors import ArtifactDamaged, StoreError

Array = NDArray[Any]

MEND = "delete the artifact and run the stage again, or restore it with `dvc checkout`"


def local_folder(array: "zarr.Array[Any]") -> Path | None:
    """The folder an array lies in, or None where the store is no file system."""
    root = getattr(array.store, "root", None)
    return Path(root) / array.path if root is not None else None


def member(group: zarr.Group, name: str) -> "zarr.Array[Any]":
    """An array of a group that is sure to have it, or `ArtifactDamaged`."""
    try:
        found = group[name]
    except (KeyError, ValueError, OSError) as error:
        raise ArtifactDamaged(f"{where(group)}/{name}: gone or unreadable; {MEND}") from error
    return cast("zarr.Array[Any]", found)


def read_whole(group: zarr.Group, name: str) -> Array:
    """A small array of a group, whole; damage is one line."""
    array = member(group, name)
    return read_span(array, 0, int(array.shape[0])) if array.ndim else np.asarray(array[...])


def read_span(array: "zarr.Array[Any]", start: int, stop: int) -> Array:
    """Entries ``start:stop`` of the first axis; a codec's complaint becomes one line."""
    refuse_missing(array, start, stop)
    try:
        return np.asarray(array[start:stop])
    except OSError as error:
        raise StoreError(
            f"{where(array)}: rows {start} to {stop} cannot be read ({error.strerror or error}); "
            "mend that and run it again"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise ArtifactDamaged(
            f"{where(array)}: rows {start} to {stop} cannot be read ({error}); the file is "
            f"damaged: {MEND}"
        ) from error


def refuse_missing(array: "zarr.Array[Any]", start: int, stop: int) -> None:
    """Every chunk is written, all-zero ones too: Zarr reads a lost or empty one as fill values."""
    folder = local_folder(array)
    if folder is None or stop <= start:
        return
    sides = array.shards or array.chunks
    along = [range(start // sides[0], -(-stop // sides[0]))]
    across = [
        range(-(-length // side)) for length, side in zip(array.shape[1:], sides[1:], strict=True)
    ]
    for position in product(*along, *across):
        file = folder / array.metadata.encode_chunk_key(position)
        if not file.is_file() or not file.stat().st_size:
            raise ArtifactDamaged(
                f"{where(array)}: rows {start} to {stop} cannot be read "
                f"({file} is gone or empty); {MEND}"
            )


def where(node: "zarr.Array[Any] | zarr.Group") -> str:
    """Path of an array or group, for messages."""
    return f"{node.store}/{node.path}".removeprefix("file://")
