"""Which factorizations there are, and how their factors lie side by side as columns."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from store import Artifact


@dataclass(frozen=True)
class Factorizations:
    """The factorizations of every image set.

    Attributes
    ----------
    problems : tuple of (k, seed)
        One factorization of each image set each, in the order of the columns.
    """

    problems: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, artifact: Artifact) -> "Factorizations":
        """Those that an artifact of factors or maps has."""
        return cls(tuple((int(k), int(seed)) for k, seed in artifact.attrs["problems"]))

    @classmethod
    def every(cls, ks: Iterable[int], seeds: Iterable[int]) -> "Factorizations":
        """Each k with each seed."""
        seeds = list(seeds)
        return cls(tuple((k, seed) for k in ks for seed in seeds))

    @property
    def attrs(self) -> dict[str, Any]:
        """What an artifact records of them."""
        return {"problems": self.problems, "columns": self.columns}

    @cached_property
    def columns(self) -> list[tuple[int, int, int]]:
        """(k, seed, factor) of each column."""
        return [(k, seed, factor) for k, seed in self.problems for factor in range(k)]

    @cached_property
    def ks(self) -> list[int]:
        """Numbers of factors, in the order of the params."""
        return list(dict.fromkeys(k for k, _ in self.problems))

    @cached_property
    def seeds(self) -> list[int]:
        """Seeds, in the order of the params."""
        return list(dict.fromkeys(seed for _, seed in self.problems))

    @property
    def shown_seed(self) -> int:
        """The seed whose factors are shown, named and used on new photographs: the first."""
        return self.seeds[0]

    def columns_of(self, k: int, seed: int | None = None) -> list[int]:
        """Columns of one factorization, strongest factor first; by default of the shown seed."""
        wanted = k, self.shown_seed if seed is None else seed
        return [i for i, column in enumerate(self.columns) if column[:2] == wanted]
