"""Reading small arrays so that damage is an error: flipped bits and lost files, as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from store.errors import ArtifactDamaged, StoreError
from store.location import Location

if TYPE_CHECKING:
    import zarr

Array = NDArray[Any]

MEND = "run its stage again with `--no-reuse`, or restore it with `dvc checkout`"


def member(group: zarr.Group, name: str) -> zarr.Array[Any]:
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
    with _readable(array):
        _refuse_missing(array)
        return np.asarray(array[...])


def read_blocks(group: zarr.Group, name: str) -> Iterator[Array]:
    """An array of a group, its chunks of rows one after the other; errors as `read_whole`."""
    array = member(group, name)
    with _readable(array):
        _refuse_missing(array)
    for start in range(0, array.shape[0], array.chunks[0]):
        with _readable(array):
            block = np.asarray(array[start : start + array.chunks[0]])
        yield block


@contextmanager
def _readable(array: zarr.Array[Any]) -> Iterator[None]:
    """Errors while an array is read, as one line."""
    try:
        with Location.of_node(array).answering():
            yield
    except OSError as error:
        raise StoreError(
            f"{where(array)}: cannot be read ({error.strerror or error}); mend that and run it "
            "again"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise ArtifactDamaged(
            f"{where(array)}: cannot be read ({error}); the file is damaged: {MEND}"
        ) from error


def _refuse_missing(array: zarr.Array[Any]) -> None:
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


def where(node: zarr.Array[Any] | zarr.Group) -> str:
    """Path or URL of an array or group, for messages."""
    return str(Location.of_node(node))
