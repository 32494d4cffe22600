"""The solvers: how each finds H in a pass, and W after it.

Both need only P = A W^T and G = W W^T to update H, and only H^T A and H^T H to update W, so one
pass over the rows feeds everything.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from stages.algorithms.nmf.cpu import least_squares, sweep_factors
from stages.algorithms.nmf.stack import EXACT, Matrix, Rule


class Solver(Protocol):
    """What `Sweep` asks of a solver."""

    keeps_coefficients: bool
    """Whether H carries over from pass to pass, and so must be kept and checkpointed."""

    rule: Rule
    """How a pass finds H."""

    def factors(self, W: Matrix, HtA: Matrix, HtH: Matrix) -> Matrix:
        """The next W ``[k, channels]`` from the sums of a whole pass."""

    signed: bool
    """Whether A and W may be below zero."""

    def stop(self, loss: Sequence[float], before: float, tol: float) -> bool:
        """Whether it has converged, by the losses after each update, and `before` W's half of the
        last one."""


class Hals:
    """Alternating non-negative least squares, both halves solved by coordinate sweeps.

    H is solved afresh in every pass, so it depends on W alone and nothing as large as H is kept
    between passes. (Cichocki & Phan 2009 call the sweeps HALS.)
    """

    keeps_coefficients = False
    signed = False
    rule = Rule()

    def factors(self, W: Matrix, HtA: Matrix, HtH: Matrix) -> Matrix:
        """Sweep over W with the sums of a pass; see `Solver.factors`."""
        return sweep_factors(W, HtA, HtH, sweeps=20, tol=1e-9)

    def stop(self, loss: Sequence[float], before: float, tol: float) -> bool:
        """An update lowers the loss by a share below `tol`, judged by its second half, that of W.

        Both halves lower it about alike, and this one is known from the first pass on.
        """
        return before - loss[-1] <= tol / 2 * before


class SemiNmf(Hals):
    """Semi-NMF (Ding, Li & Jordan 2010): H >= 0 alone, W and A may be of any sign.

    H as in `Hals`; W is the least squares solution without bounds, ``(H^T H)^+ H^T A``.
    """

    signed = True
    rule = EXACT  # directions that are nearly opposite take more sweeps

    def factors(self, W: Matrix, HtA: Matrix, HtH: Matrix) -> Matrix:
        """The best W for the sums of a pass; see `Solver.factors`."""
        return least_squares(HtA, HtH)


class MultiplicativeUpdates:
    """Lee & Seung's updates, as the paper uses them: H first, then W, one of each per pass."""

    keeps_coefficients = True
    signed = False
    rule = Rule(multiplicative=True)

    def factors(self, W: Matrix, HtA: Matrix, HtH: Matrix) -> Matrix:
        """``W <- W * (H^T A) / (H^T H W)``."""
        return W * HtA / np.maximum(HtH @ W, np.finfo(np.float64).tiny)

    def stop(self, loss: Sequence[float], before: float, tol: float) -> bool:
        """The original rule: every 10 updates, a decrease of the error below `tol` x the first."""
        passes = len(loss)
        if passes <= 10 or passes % 10:
            return False
        error = [max(value, 0.0) ** 0.5 for value in (loss[0], loss[-11], loss[-1])]
        return error[1] - error[2] < tol * error[0]


HALS, BOTH = "hals", "W and H"
SOLVERS: Mapping[str, type[Solver]] = {HALS: Hals, "mu": MultiplicativeUpdates}
NONNEG = (BOTH, "H")  # what of a factorization is >= 0


def make_solver(solver: str, nonneg: str) -> Solver:
    """The solver of that name, for factors that are >= 0 or not."""
    return SOLVERS[solver]() if nonneg == BOTH else SemiNmf()
