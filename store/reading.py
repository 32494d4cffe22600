"""Reading small arrays so that damage is an error: flipped bits and lost files, as one line."""

from itertools import product
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from store.errors import ArtifactDamaged, StoreError
from store.location import Location

Array = NDArray[Any]

MEND = "delete the artifact and run the stage again, or restore it with `dvc checkout`"


def member(group: zarr.Group, name: str) -> "zarr.Array[Any]":
    """An array of a group that is sure to have it, or `ArtifactDamaged`."""
    try:
        with Location.of_node(group).answering():
            found = group[name]
    except (KeyError, ValueError, OSError) as error:
        raise ArtifactDamaged(f"{where(group)}/{name}: gone or unreadable; {MEND}") from error
    return cast("zarr.Array[Any]", found)


def read_whole(group: zarr.Group, name: str) -> Array:
    """A small array of a group, whole; a codec's complaint becomes one line."""
    array = member(group, name)
    try:
        _refuse_missing(array)
        with Location.of_node(array).answering():
            return np.asarray(array[...])
    except OSError as error:
        raise StoreError(
            f"{where(array)}: cannot be read ({error.strerror or error}); mend that and run it "
            "again"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise ArtifactDamaged(
            f"{where(array)}: cannot be read ({error}); the file is damaged: {MEND}"
        ) from error


def _refuse_missing(array: "zarr.Array[Any]") -> None:
    """Every chunk is written, all-zero ones too: Zarr reads a lost or empty one as fill values."""
    sides = [
        range(-(-length // side)) for length, side in zip(array.shape, array.chunks, strict=True)
    ]
    for position in product(*sides):
        file = Location.of_node(array) / array.metadata.encode_chunk_key(position)
        if not file.size():
            raise ArtifactDamaged(
                f"{where(array)}: cannot be read ({file} is gone or empty); {MEND}"
            )


def where(node: "zarr.Array[Any] | zarr.Group") -> str:
    """Path or URL of an array or group, for messages."""
    return str(Location.of_node(node))
