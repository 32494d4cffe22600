"""What a factorization is made of: its result, and its state between passes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.nmf.solvers import Solver
from stages.algorithms.nmf.stack import Matrix

Array = NDArray[Any]


@dataclass(frozen=True)
class Factorization:
    """One factorization A ~ H W.

    Attributes
    ----------
    k, seed : int
    factors : float32 array [k, channels]
        W: unit L2 rows, the factor that explains most energy first. A factor that explains nothing
        (k above the rank of A) is all zero and comes last.
    coefficients : float32 array [rows, k] or None
        H, in the order of the factors; None when the caller takes it block by block.
    loss : float64 array [updates]
        ``||A - HW||_F^2`` after each update of H and W; the last entry is of the returned pair.
    energy : float64 array [k]
        ``||H_j||^2``: what each factor explains.
    norm : float
        ``||A||_F^2``.
    passes : int
        Times the rows were read, sampling and the last reading for H included.
    converged : bool
        Stopped by `tol` rather than by `max_passes`.
    reseeded : int
        Factors that died and were started again from a badly explained row.
    updates : int
        Updates of H and W.
    """

    k: int
    seed: int
    factors: Array
    coefficients: Array | None
    loss: NDArray[np.float64]
    energy: NDArray[np.float64]
    norm: float
    passes: int
    converged: bool
    reseeded: int
    updates: int


@dataclass
class Problem:
    """The state of one factorization in a sweep."""

    k: int
    seed: int
    solver: Solver
    first: int  # column in H, where H is kept
    W: Matrix  # [k, channels]
    started: bool = False  # from factors that somebody gave, whose order stays
    loss: list[float] = field(default_factory=list)
    converged: bool = False
    stopped: bool = False
    reseeded: int = 0

    def order(self, energy: Array) -> NDArray[np.int64]:
        """Strongest factor first; of given factors as they were."""
        if self.started:
            return np.arange(self.k)
        return np.argsort(-energy, kind="stable")
