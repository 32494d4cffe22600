"""From a set's coefficients to the weights of what lies within its factors: files in the scratch.

A set's last pass comes before those within its factors are begun, in every run, resumed or not; so
the weights need not survive a crash, only not fit into memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.factorizations import Factorizations
from stages.artifacts.within import Within
from stages.frame.errors import StageError


@dataclass(frozen=True)
class Shares:
    """Writes the shares of some factors of a set as its coefficients come.

    Attributes
    ----------
    files : mapping of (k, factor) to file
        float32, one value per row.
    weights : float32 [rows], optional
        Of the set's own rows, where it lies within a factor itself.
    """

    factorizations: Factorizations
    files: Mapping[tuple[int, int], BinaryIO]
    weights: NDArray[np.float32] | None

    def add(self, row: int, H: NDArray[np.float32], W: Sequence[NDArray[np.float64]]) -> None:
        """Take the coefficients ``[rows, columns]`` of rows from `row` on, and W of each problem.

        All rows must come, in order.
        """
        from stages.algorithms.nmf.shares import shares_of_rows

        of = self.factorizations
        for k in dict.fromkeys(k for k, _ in self.files):
            # as they are published, so that these say the same
            published = W[of.problems.index((k, of.shown_seed))].astype(np.float32)
            found = shares_of_rows(H[:, of.columns_of(k)], published)
            if self.weights is not None:
                found *= self.weights[row : row + len(H), None]
            for (mine, factor), file in self.files.items():
                if mine == k:
                    file.write(np.ascontiguousarray(found[:, factor]).data)


@dataclass(frozen=True)
class Sharing:
    """The weights of all that lies within factors, at one layer.

    Attributes
    ----------
    within : mapping of image set to Within
    scratch : Path
    number : int
        Of the layer.
    """

    within: Mapping[str, Within]
    factorizations: Factorizations
    scratch: Path
    number: int
    _ranks: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._ranks.update((name, rank) for rank, name in enumerate(self.within))

    @contextmanager
    def of(self, parent: str, weights: NDArray[np.float32] | None) -> Iterator[Shares]:
        """What takes the coefficients of a set whose rows have these weights."""
        with ExitStack() as opened:
            files = {
                (one.k, one.factor): opened.enter_context(self._path(name).open("wb"))
                for name, one in self.within.items()
                if one.parent == parent
            }
            yield Shares(self.factorizations, files, weights)

    def file(self, name: str, rows: int) -> Path | None:
        """Of the weights of a set's rows, float32 ``[rows]``; None of one within no factor.

        Raises
        ------
        StageError
            When the factor explains nothing.
        """
        if name not in self.within:
            return None
        path = self._path(name).absolute()
        found = np.memmap(path, np.float32, "r", shape=(rows,))
        if not any(found[at : at + 2**20].any() for at in range(0, rows, 2**20)):
            one = self.within[name]
            raise StageError(
                f"params.yaml: factorize.within: {name}: factor {one.factor} of {one.parent}, k = "
                f"{one.k}, explains nothing, so nothing lies within it; take it out"
            )
        return path

    def _path(self, name: str) -> Path:
        return self.scratch / f"shares {self.number} {self._ranks[name]}"
