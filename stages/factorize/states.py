"""What is known of factorizations under way, in the scratch of the run."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store import replacing

SECONDS = (
    5.0  # of work that may be lost: to put a small set's state on disk takes as long as to find it
)

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
            return {key.removeprefix(mine): kept[key] for key in kept.files if key.startswith(mine)}

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
        named = {
            f"{rank}/{key}": one for rank, state in states.items() for key, one in state.items()
        }
        with replacing(path := self._path(min(states))) as file:
            np.savez(file, **named)  # type: ignore[arg-type]
        self._files |= dict.fromkeys(states, path)
