"""What is known of factorizations under way, in the scratch of the run."""

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store import replacing

SECONDS = (
    5.0  # of work that may be lost: to put a small set's state on disk takes as long as to find it
)

PACKED = "small"  # the entry that holds a set's small arrays
SMALL = 2**20  # bytes of those: an entry each takes longer to write than to find the numbers
HEAD = np.dtype("<i8")

State = dict[str, NDArray[Any]]


class States:
    """The states of one layer's image sets: those of sets that are done, and of the one in work.

    A file holds one state, or those of neighbouring sets that were done in `SECONDS`. As a context
    it leaves nothing behind that is done, whatever ends it but a kill.

    Parameters
    ----------
    folder : Path
    layer : int
        The files are named after it.
    """

    def __init__(self, folder: Path, layer: int) -> None:
        self.folder, self.layer = folder, layer
        self._waiting: dict[int, State] = {}  # of sets that are done
        self._last = time.monotonic()
        self._files: dict[int, Path] = {}
        # the newest of a set is in the file that begins with the latest set
        for first in sorted(int(path.stem.split("-")[1]) for path in folder.glob(f"{layer}-*.npz")):
            path = self._path(first)
            with np.load(path, allow_pickle=False) as kept:
                self._files |= {int(key.split("/", 1)[0]): path for key in kept.files}

    def __enter__(self) -> "States":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def _path(self, first: int) -> Path:
        return self.folder / f"{self.layer}-{first}.npz"

    def saved(self, rank: int) -> State | None:
        """The last state of the set with this rank that is on disk."""
        if rank not in self._files:
            return None
        mine = f"{rank}/"
        with np.load(self._files[rank], allow_pickle=False) as kept:
            large = {
                key.removeprefix(mine): kept[key] for key in kept.files if key.startswith(mine)
            }
        return _unpacked(large.pop(PACKED)) | large

    def keep(self, rank: int, state: State, *, done: bool) -> None:
        """Take in a newer state, and put it on disk with what else waits when it is time."""
        if done:
            self._waiting[rank] = state
        if time.monotonic() - self._last >= SECONDS:
            self.flush()
            if not done:
                self._write({rank: state})

    def flush(self) -> None:
        """Put the states of all sets that are done on disk."""
        if self._waiting:
            self._write(self._waiting)
        self._waiting = {}
        self._last = time.monotonic()

    def _write(self, states: dict[int, State]) -> None:
        named: State = {}
        for rank, state in states.items():
            small = {key: one for key, one in state.items() if one.nbytes < SMALL}
            named[f"{rank}/{PACKED}"] = _packed(small)
            named |= {f"{rank}/{key}": one for key, one in state.items() if key not in small}
        with replacing(path := self._path(min(states))) as file:
            np.savez(file, **named)  # type: ignore[arg-type]
        self._files |= dict.fromkeys(states, path)


def _packed(state: State) -> NDArray[np.uint8]:
    """Arrays as one: the length of a table of their names, types and shapes, the table, numbers."""
    table = {key: (one.dtype.str, one.shape) for key, one in state.items()}
    head = json.dumps(table).encode()
    parts = [np.array(len(head), HEAD).tobytes(), head, *(one.tobytes() for one in state.values())]
    return np.frombuffer(b"".join(parts), np.uint8)


def _unpacked(packed: NDArray[np.uint8]) -> State:
    """What was `_packed`."""
    raw = packed.tobytes()
    at = HEAD.itemsize + int(np.frombuffer(raw, HEAD, 1)[0])
    found: State = {}
    for key, (dtype, shape) in json.loads(raw[HEAD.itemsize : at]).items():
        count = math.prod(shape)
        found[key] = np.frombuffer(raw, dtype, count, at).reshape(shape).copy()
        at += found[key].nbytes
    return found
