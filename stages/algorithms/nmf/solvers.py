"""The two solvers: what each does to a block of H, and to W after a pass.

Both need only P = A W^T and G = W W^T to update H, and only H^T A and H^T H to update W, so one
pass over the rows feeds everything.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Solver(Protocol):
    """What `factorize` asks of a solver; one instance serves one factorization."""

    keeps_coefficients: bool
    """Whether H carries over from pass to pass, and so must be kept and checkpointed."""

    def coefficients(self, P: Tensor, G: Tensor, H: Tensor | None) -> Tensor:
        """H of a block ``[rows, k]`` from P ``[rows, k]``, G ``[k, k]`` and the block's last H."""

    def factors(self, W: Tensor, HtA: Tensor, HtH: Tensor) -> Tensor:
        """The next W ``[k, channels]``, float64, from the sums of a whole pass."""

    def stop(self, loss: Sequence[float], tol: float) -> bool:
        """Whether the loss history says that it has converged."""


def non_negative_least_squares(
    P: Tensor, G: Tensor, start: Tensor, *, sweeps: int, tol: float
) -> Tensor:
    """Minimise ``||A - X W||_F^2`` over X >= 0 by coordinate descent (HALS).

    Parameters
    ----------
    P : Tensor [n, k]
        ``A W^T``.
    G : Tensor [k, k]
        ``W W^T``.
    start : Tensor [n, k]
        Non-negative first guess; not changed.
    sweeps : int
        At most so many sweeps over the k coordinates.
    tol : float
        Stop when no entry moved by more than `tol` times the largest entry.

    Returns
    -------
    Tensor [n, k]
    """
    # [k, n]: one coordinate of all rows lies together; a copy even where the transpose is a view
    X = start.T.clone(memory_format=torch.contiguous_format)
    PT = P.T.contiguous()
    diagonal = G.diagonal()
    alive = [j for j in range(len(G)) if float(diagonal[j]) > 0]
    X[[j for j in range(len(G)) if j not in alive]] = 0.0
    if len(alive) <= 1:  # one coordinate: a single sweep is exact
        sweeps = min(sweeps, 1)
    for _ in range(sweeps):
        moved = torch.zeros((), dtype=X.dtype, device=X.device)
        for j in alive:
            updated = (X[j] + (PT[j] - G[j] @ X) / diagonal[j]).clamp_(min=0.0)
            moved = torch.maximum(moved, (updated - X[j]).abs().max()) if len(updated) else moved
            X[j] = updated
        if float(moved) <= tol * float(X.max() if X.numel() else 0.0):
            break
    return X.T


def fresh_coefficients(P: Tensor, G: Tensor, *, sweeps: int = 2000) -> Tensor:
    """H of a block from W alone; by default to convergence even for nearly equal factors."""
    # Without interactions the solution would be P / diag(G); a third of that is close to where
    # correlated factors end up, and from below the sweeps need fewer corrections.
    start = (P / G.diagonal().clamp(min=torch.finfo(P.dtype).tiny)).clamp_(min=0.0) / 3
    return non_negative_least_squares(P, G, start, sweeps=sweeps, tol=1e-6)


class Hals:
    """Alternating non-negative least squares, both halves solved by coordinate sweeps.

    H is solved afresh in every pass, so it depends on W alone and nothing as large as H is kept
    between passes. (Cichocki & Phan 2009 call the sweeps HALS.)
    """

    keeps_coefficients = False

    def coefficients(self, P: Tensor, G: Tensor, H: Tensor | None) -> Tensor:
        """Solve the rows' least squares problems; see `Solver.coefficients`."""
        return fresh_coefficients(P, G, sweeps=60)

    def factors(self, W: Tensor, HtA: Tensor, HtH: Tensor) -> Tensor:
        """Sweep over W with the sums of a pass; see `Solver.factors`."""
        return non_negative_least_squares(HtA.T, HtH, W.T, sweeps=20, tol=1e-9).T

    def stop(self, loss: Sequence[float], tol: float) -> bool:
        """Relative decrease of the loss in one pass below `tol`."""
        return len(loss) > 1 and loss[-2] - loss[-1] <= tol * loss[-2]


class MultiplicativeUpdates:
    """Lee & Seung's updates, as the paper uses them: H first, then W, one of each per pass."""

    keeps_coefficients = True

    def coefficients(self, P: Tensor, G: Tensor, H: Tensor | None) -> Tensor:
        """``H <- H * (A W^T) / (H W W^T)``."""
        if H is None:
            raise ValueError("multiplicative updates need the coefficients of the last pass")
        return H * P.clamp(min=0.0) / (H @ G).clamp(min=torch.finfo(P.dtype).tiny)

    def factors(self, W: Tensor, HtA: Tensor, HtH: Tensor) -> Tensor:
        """``W <- W * (H^T A) / (H^T H W)``."""
        return W * HtA / (HtH @ W).clamp(min=torch.finfo(W.dtype).tiny)

    def stop(self, loss: Sequence[float], tol: float) -> bool:
        """The original rule: every 10 updates, a decrease of the error below `tol` x the first."""
        passes = len(loss)
        if passes <= 10 or passes % 10:
            return False
        error = [max(value, 0.0) ** 0.5 for value in (loss[0], loss[-11], loss[-1])]
        return error[1] - error[2] < tol * error[0]


SOLVERS: Mapping[str, type[Solver]] = {"hals": Hals, "mu": MultiplicativeUpdates}
