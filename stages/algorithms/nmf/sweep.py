"""Block-streaming NMF: every k and seed in the same passes over the rows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.algorithms.nmf.checks import check_request, refuse_bad
from stages.algorithms.nmf.initial import (
    draw_sample,
    nndsvd_factors,
    random_start,
    sums_loss,
    unit_rows,
    warm_factors,
)
from stages.algorithms.nmf.solvers import SOLVERS, fresh_coefficients
from stages.algorithms.nmf.state import Factorization, Problem, Sums, note_worst
from stages.algorithms.rows import RowBlocks, as_row_blocks, to_tensor

Array = NDArray[Any]


class Sweep:
    """Many factorizations of one matrix, advanced together: one reading of A serves all.

    Use `factorize_many` unless the run must survive being killed: then call `step` until `done`,
    keeping `state` after each pass, and hand the last one back as `resume`.

    Parameters
    ----------
    A : array, scipy CSR, torch tensor or RowBlocks, [rows, channels], non-negative
    ks, seeds : sequences of int
        Every pair is one factorization, in the order k outer, seed inner.
    solver : {"hals", "mu"}
    init : {"sample", "random", "nndsvd"}
    tol : float
        Stop one factorization when an update lowers its loss by less than this share.
    max_passes : int
        At most so many updates.
    device : str
    resume : mapping of arrays, optional
        What `state` returned.

    Raises
    ------
    ValueError
        Negative, NaN or infinite values (with the row, and its image where the rows know it),
        k < 1 or k > channels, no rows.
    """

    def __init__(
        self,
        A: Any,
        ks: Sequence[int],
        seeds: Sequence[int] = (0,),
        *,
        solver: str = "hals",
        init: str = "sample",
        tol: float = 1e-5,
        max_passes: int = 100,
        device: str = "cpu",
        resume: dict[str, Array] | None = None,
    ) -> None:
        self.rows: RowBlocks = as_row_blocks(A)
        total, channels = self.rows.shape
        check_request(total, channels, ks, seeds, solver, init, max_passes)
        self.tol, self.max_passes = tol, max_passes
        self.device = torch.device(device)
        self.dtype = torch.float64 if self.rows.dtype == np.float64 else torch.float32
        self.passes = 0
        self.norm: float | None = None
        self.problems = [
            Problem(k, seed, SOLVERS[solver](), torch.zeros((k, channels), dtype=torch.float64))
            for k in ks
            for seed in seeds
        ]
        if resume:
            self._restore(resume)
        else:
            self._start(init)

    # -- starting and resuming ---------------------------------------------------------------

    def _start(self, init: str) -> None:
        indices, drawn = draw_sample(self.rows)
        sample = to_tensor(drawn, self.device, self.dtype)
        refuse_bad(sample, self.rows, indices)
        self.passes += 1
        mean = float(sample.double().mean())
        for problem in self.problems:
            generator = np.random.default_rng([problem.seed, problem.k])
            if init == "sample":
                problem.W = warm_factors(sample, problem.k, generator)
            elif init == "nndsvd":
                problem.W = nndsvd_factors(sample, problem.k)
            else:
                shape = (problem.k, sample.shape[1])
                problem.W = random_start(shape, problem.k, mean, generator).to(self.device)
            if problem.solver.keeps_coefficients:
                shape = (self.rows.shape[0], problem.k)
                H = random_start(shape, problem.k, mean, generator)
                problem.H = H.to(self.device, self.dtype)

    def state(self) -> dict[str, Array]:
        """All that is needed to go on, as plain arrays (for ``np.savez``); copies, not views."""
        state: dict[str, Array] = {
            "passes": np.array(self.passes),
            "norm": np.array(np.nan if self.norm is None else self.norm),
        }
        for i, problem in enumerate(self.problems):
            state[f"{i}.W"] = problem.W.cpu().numpy().copy()
            state[f"{i}.loss"] = np.array(problem.loss, dtype=np.float64)
            flags = [problem.converged, problem.stopped, problem.reseeded]
            state[f"{i}.flags"] = np.array(flags, dtype=np.int64)
            if problem.H is not None:
                state[f"{i}.H"] = problem.H.cpu().numpy().copy()
        return state

    def _restore(self, state: dict[str, Array]) -> None:
        self.passes = int(state["passes"])
        self.norm = None if np.isnan(state["norm"]) else float(state["norm"])
        for i, problem in enumerate(self.problems):
            problem.W = torch.from_numpy(np.array(state[f"{i}.W"])).to(self.device)
            problem.loss = [float(value) for value in state[f"{i}.loss"]]
            converged, stopped, problem.reseeded = (int(flag) for flag in state[f"{i}.flags"])
            problem.converged, problem.stopped = bool(converged), bool(stopped)
            if f"{i}.H" in state:
                problem.H = torch.from_numpy(np.array(state[f"{i}.H"])).to(self.device)

    # -- one pass ----------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether every factorization has stopped."""
        return all(problem.stopped for problem in self.problems)

    @torch.inference_mode()
    def step(self) -> None:
        """One pass over the rows: update H and then W of every factorization still running."""
        running = [problem for problem in self.problems if not problem.stopped]
        all_sums = [Sums(torch.zeros_like(p.W), p.W.new_zeros((p.k, p.k))) for p in running]
        norm = 0.0
        for start, X in self._blocks():
            if self.norm is None:
                norm += square_sum(X)
            for (problem, H), sums in zip(self._solve(running, start, X), all_sums, strict=True):
                if problem.H is not None:
                    problem.H[start : start + len(H)] = H
                sums.HtA += (H.T @ X).double()
                sums.HtH += (H.T @ H).double()
                note_worst(sums, X, H, problem.W)
        self.passes += 1
        if self.norm is None:
            self.norm = norm
        for problem, sums in zip(running, all_sums, strict=True):
            self._update(problem, sums)

    def _update(self, problem: Problem, sums: Sums) -> None:
        assert self.norm is not None
        W = problem.solver.factors(problem.W, sums.HtA, sums.HtH)
        loss = sums_loss(self.norm, W, sums.HtA, sums.HtH)
        problem.loss.append(loss)
        scale = W.norm(dim=1)
        energy = sums.HtH.diagonal() * scale.square()
        order = torch.argsort(energy, descending=True, stable=True)
        if problem.H is None:
            W = unit_rows(W)  # H is solved afresh: its scale follows
        else:
            order = torch.arange(problem.k, device=W.device)  # H's columns stay where they are
        problem.W = W[order]
        revived = problem.H is None and self._reseed(problem, sums, energy[order])
        if not revived and (
            problem.solver.stop(problem.loss, self.tol) or loss <= 1e-12 * self.norm
        ):
            problem.converged = problem.stopped = True
        if len(problem.loss) >= self.max_passes:
            problem.stopped = True

    def _reseed(self, problem: Problem, sums: Sums, energy: Tensor) -> bool:
        """Start a dead factor again from the row that is explained worst; at most 3 k times."""
        dead = [j for j in range(problem.k) if not float(energy[j]) > 0]
        row = sums.worst_row
        if not dead or row is None or problem.reseeded >= 3 * problem.k:
            return False
        if sums.worst <= 1e-6 * float(row.double().square().sum()):
            return False  # the matrix has no more to explain: k is above its rank
        problem.W[dead[0]] = unit_rows(row.double()[None])[0]
        problem.reseeded += 1
        return True

    # -- the result --------------------------------------------------------------------------

    @torch.inference_mode()
    def finish(self, write: Callable[[int, Array], None] | None = None) -> list[Factorization]:
        """The last pass: H for the final W, and the results.

        Parameters
        ----------
        write : callable, optional
            Called with the first row and the coefficients ``[rows, sum of all k]`` of each block,
            the factorizations side by side; the results then carry no coefficients. What was
            written cannot be put in another order, so the factors then keep the order of the last
            update: where two explain nearly the same, `energy` may not quite descend.
        """
        for problem in self.problems:
            self._sort(problem)
        collected: list[Array] = []
        sums = [Sums(torch.zeros_like(p.W), p.W.new_zeros((p.k, p.k))) for p in self.problems]
        norm = 0.0
        for start, X in self._blocks():
            norm += square_sum(X)
            solved = [H for _, H in self._solve(self.problems, start, X, final=True)]
            for H, total in zip(solved, sums, strict=True):
                total.HtA += (H.T @ X).double()
                total.HtH += (H.T @ H).double()
            block = torch.cat(solved, dim=1).float().cpu().numpy()
            if write is None:
                collected.append(block)
            else:
                write(start, block)
        self.passes += 1
        coefficients = np.concatenate(collected) if collected else None
        results, first = [], 0
        for problem, total in zip(self.problems, sums, strict=True):
            loss = sums_loss(norm, problem.W, total.HtA, total.HtH)
            energy = total.HtH.diagonal()
            order = torch.arange(problem.k, device=energy.device)
            if write is None:
                order = torch.argsort(energy, descending=True, stable=True)
            columns = first + order.cpu().numpy()
            results.append(
                Factorization(
                    k=problem.k,
                    seed=problem.seed,
                    factors=problem.W[order].float().cpu().numpy(),
                    coefficients=None if coefficients is None else coefficients[:, columns],
                    loss=np.array([*problem.loss, loss], dtype=np.float64),
                    energy=energy[order].cpu().numpy(),
                    norm=norm,
                    passes=self.passes,
                    converged=problem.converged,
                    reseeded=problem.reseeded,
                )
            )
            first += problem.k
        return results

    def _sort(self, problem: Problem) -> None:
        """Unit rows and descending energy also where H was kept from pass to pass."""
        if problem.H is None:
            return
        norms = problem.W.norm(dim=1)
        problem.H = problem.H * norms.to(problem.H.dtype)
        order = torch.argsort(problem.H.double().square().sum(dim=0), descending=True, stable=True)
        problem.W = unit_rows(problem.W)[order]
        problem.H = problem.H[:, order]

    # -- the rows ----------------------------------------------------------------------------

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        """(first row, dense block on the device), checked."""
        start = 0
        for block in self.rows.blocks():
            X = to_tensor(block, self.device, self.dtype)
            refuse_bad(X, self.rows, start)
            yield start, X
            start += len(X)
        if start != self.rows.shape[0]:
            raise ValueError(f"A says it has {self.rows.shape[0]} rows, its blocks have {start}")

    def _solve(
        self, problems: Sequence[Problem], start: int, X: Tensor, final: bool = False
    ) -> Iterator[tuple[Problem, Tensor]]:
        """H of one block for each factorization, from one product with all W's stacked."""
        stacked = torch.cat([problem.W for problem in problems]).to(self.dtype)
        P = X @ stacked.T  # [rows, sum of k]
        first = 0
        for problem in problems:
            columns = slice(first, first + problem.k)
            W = stacked[columns]
            last = None if problem.H is None else problem.H[start : start + len(X)]
            if final:
                H = fresh_coefficients(P[:, columns], W @ W.T) if last is None else last
            else:
                H = problem.solver.coefficients(P[:, columns], W @ W.T, last)
            yield problem, H
            first += problem.k


def square_sum(X: Tensor) -> float:
    """``||X||_F^2`` in float64, without a float64 copy of the whole block."""
    return float(sum(part.double().square().sum() for part in torch.split(X, 1024)))
