"""Block-streaming NMF: every k and seed in the same passes over the rows."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.cores import cores
from stages.algorithms.nmf.checks import (
    check_range,
    check_request,
    check_start,
)
from stages.algorithms.nmf.choice import Stability, restored, sample_stability, saved
from stages.algorithms.nmf.compacting import compacted
from stages.algorithms.nmf.engines import make_engine
from stages.algorithms.nmf.held_out import held_out_errors
from stages.algorithms.nmf.initial import (
    clustered_factors,
    drawn_rows,
    nndsvd_factors,
    random_start,
    sample_indices,
    warm_factors,
)
from stages.algorithms.nmf.sample import Sample
from stages.algorithms.nmf.solvers import BOTH, make_solver
from stages.algorithms.nmf.stack import (
    EXACT,
    DeviceEngine,
    Engine,
    Matrix,
    Stack,
    Sums,
    loss_of,
    loss_of_pass,
    numbered_blocks,
    unit_rows,
)
from stages.algorithms.nmf.state import Factorization, Problem
from stages.algorithms.nmf.survey import surveyed
from stages.algorithms.rows import RowBlocks, as_row_blocks, dense, float_type

Array = NDArray[Any]
CHUNK_ROWS = 65536  # of H, where it is worked on as a whole
MANY = 16  # factorizations from which on threads pay


class Sweep:
    """Many factorizations of one matrix, advanced together: one reading of A serves all.

    Use `factorize_many` unless the run must survive being killed: then call `step` until `done`,
    keeping `state` after each pass, and hand the last one back as `resume`.

    Parameters
    ----------
    A : array, scipy CSR, torch tensor or RowBlocks, [rows, channels]
        Non-negative unless only H is to be.
    ks, seeds : sequences of int
        Every pair is one factorization, in the order k outer, seed inner.
    solver : {"hals", "mu"}
    init : {"sample", "random", "nndsvd"}
    tol : float
        Stop one factorization when an update lowers its loss by less than this share.
    max_passes : int
        At most so many updates.
    nonneg : {"W and H", "H"}
        What is >= 0. "H": semi-NMF (Ding, Li & Jordan 2010), for a matrix with values below zero,
        by "hals" from "sample" or "random".
    device : str or Engine
        ``cpu``, or a CUDA device by its name in torch; or who makes the passes.
    threads : int, optional
        Of the CPU; by default one per core. Results do not depend on it.
    stability_runs : int
        Runs on halves of the row sample that say how reproducible each k is, where there are
        several; 0 for none, and no held-out errors.
    start : mapping of (k, seed) to array [k, channels], optional
        Factors to go on from, with unit rows, of some or all factorizations; of "hals" only. They
        keep their order; and they stay what they are where the first update would be the last.
    freeze : bool
        Never change the factors of `start`: only H is found.
    resume : mapping of arrays, optional
        What `state` returned, for the same `start`. It takes over ``H``, where there is one.

    Attributes
    ----------
    stability : list of Stability
        One per k, where it was asked for.
    held_out : list of float
        See `held_out_errors`; with it.

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
        tol: float = 1e-4,
        max_passes: int = 100,
        nonneg: str = BOTH,
        device: str | Engine = "cpu",
        threads: int | None = None,
        stability_runs: int = 0,
        start: Mapping[tuple[int, int], Array] | None = None,
        freeze: bool = False,
        resume: Mapping[str, Array] | None = None,
    ) -> None:
        self.rows: RowBlocks = as_row_blocks(A)
        check_request(self.rows.shape, ks, seeds, solver, init, max_passes, nonneg)
        start = dict(start or {})
        check_start(start, self.rows.shape[1], ks, seeds, solver, nonneg)
        self.tol, self.max_passes = tol, max_passes
        self.signed = make_solver(solver, nonneg).signed
        self.engine: Engine = (
            make_engine(device, threads, signed=self.signed) if isinstance(device, str) else device
        )
        self.rows = compacted(self.rows, self.engine)
        self.threads = threads or cores()
        self.dtype = float_type(self.rows.dtype)
        self.passes = 0
        self.norm = 0.0
        self.H: Array | None = None  # [rows, columns], only where the solver keeps it
        self._sample: Sample | None = None
        self.stability: list[Stability] = []
        self.held_out: list[float] = []
        self.problems: list[Problem] = []
        for k in ks:
            for seed in seeds:
                first = sum(problem.k for problem in self.problems)
                given = start.get((k, seed))
                W = np.zeros((k, self.rows.shape[1]))
                if given is not None:
                    W[:] = given
                problem = Problem(k, seed, make_solver(solver, nonneg), first, W, given is not None)
                problem.converged = problem.stopped = freeze and problem.started
                self.problems.append(problem)
        if resume:
            self._restore(resume)
        else:
            self._start(init)
            if stability_runs and len(ks) > 1 and self._sample is not None:
                of = self._sample, ks
                how = self.engine, self.dtype
                self.stability = sample_stability(*of, stability_runs, *how, signed=self.signed)
                self.held_out = held_out_errors(*of, *how, signed=self.signed)

    # -- starting and resuming ---------------------------------------------------------------

    def _start(self, init: str) -> None:
        self._sample = sample = self._survey()
        self.passes += 1
        fresh = [problem for problem in self.problems if not problem.started]
        drawn = [(p.k, np.random.default_rng([p.seed, p.k])) for p in fresh]
        if not fresh:
            found = []
        elif init == "sample":
            warm = clustered_factors if self.signed else warm_factors
            found = warm(sample, drawn, self.engine, self.dtype)
        elif self.signed:
            found = [drawn_rows(sample, k, rng) for k, rng in drawn]
        elif init == "nndsvd":
            found = [nndsvd_factors(sample, k) for k, _ in drawn]
        else:
            channels = self.rows.shape[1]
            found = [random_start((k, channels), k, sample.mean, rng) for k, rng in drawn]
        for problem, W in zip(fresh, found, strict=True):
            problem.W = W
        if self.problems[0].solver.keeps_coefficients:
            self.H = self.engine.room((self.rows.shape[0], self.columns), self.dtype)
            for problem, (k, rng) in zip(self.problems, drawn, strict=True):
                for start in range(0, len(self.H), CHUNK_ROWS):
                    part = self.H[start : start + CHUNK_ROWS, problem.first : problem.first + k]
                    part[:] = random_start(part.shape, k, sample.mean, rng)

    def _survey(self) -> Sample:
        """The first pass: check every value, ``||A||_F^2``, and the row sample."""
        indices = sample_indices(self.rows.shape)
        found = None
        if isinstance(self.engine, DeviceEngine):
            found = self.engine.read(self.rows, indices)
        if found is None:
            blocks = numbered_blocks(self.rows)
            norm, parts = surveyed(blocks, self.rows, indices, self.engine, signed=self.signed)
            found = norm, Sample.of(parts)
        self.norm, sample = found
        check_range(self.norm, self.rows.shape[0], self.dtype)
        return sample

    @property
    def columns(self) -> int:
        """Factors of all factorizations together."""
        return sum(problem.k for problem in self.problems)

    def state(self) -> dict[str, Array]:
        """All that is needed to go on, as plain arrays (for ``np.savez``).

        Copies, except for ``H`` of solvers that keep it, which the next `step` changes in place.
        """
        state: dict[str, Array] = {"passes": np.array(self.passes), "norm": np.array(self.norm)}
        if self.H is not None:
            state["H"] = self.H
        if self.stability:
            state |= saved(self.stability)
            state["held_out"] = np.array(self.held_out)
        for i, problem in enumerate(self.problems):
            state[f"{i}.W"] = problem.W.copy()
            state[f"{i}.loss"] = np.array(problem.loss, dtype=np.float64)
            flags = [problem.converged, problem.stopped, problem.reseeded]
            state[f"{i}.flags"] = np.array(flags, dtype=np.int64)
        return state

    def _restore(self, state: Mapping[str, Array]) -> None:
        self.passes, self.norm = int(state["passes"]), float(state["norm"])
        if "H" in state:
            self.H = state["H"] if state["H"].flags.writeable else state["H"].copy()
        self.stability = restored(state)
        self.held_out = [float(error) for error in state.get("held_out", ())]
        for i, problem in enumerate(self.problems):
            problem.W = np.array(state[f"{i}.W"])
            problem.loss = [float(value) for value in state[f"{i}.loss"]]
            converged, stopped, problem.reseeded = (int(flag) for flag in state[f"{i}.flags"])
            problem.converged, problem.stopped = bool(converged), bool(stopped)

    # -- one pass ----------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether every factorization has stopped."""
        return all(problem.stopped for problem in self.problems)

    def step(self) -> None:
        """One pass over the rows: update H and then W of every factorization still running."""
        running = [problem for problem in self.problems if not problem.stopped]
        rule = running[0].solver.rule
        all_sums = self.engine.run_pass(self.rows, self._stack(running), rule, H=self.H)
        self.passes += 1
        for problem, sums, W in zip(
            running, all_sums, _factors(running, all_sums, self.threads), strict=True
        ):
            self._update(problem, sums, W)

    def _stack(self, problems: Sequence[Problem]) -> Stack:
        into = None if self.H is None else [problem.first for problem in problems]
        return Stack([problem.W for problem in problems], self.dtype, into)

    def _update(self, problem: Problem, sums: Sums, W: Matrix) -> None:
        before = loss_of_pass(self.norm, problem.W, sums)
        loss = loss_of(self.norm, W, sums)
        problem.loss.append(loss)
        enough = problem.solver.stop(problem.loss, before, self.tol) or loss <= 1e-12 * self.norm
        revived = False
        if problem.started and len(problem.loss) == 1 and enough:
            problem.loss[0] = before  # still what they converged to: they stay what they are
        elif problem.solver.keeps_coefficients:
            problem.W = W  # its scale and its order are those of H
        else:
            energy = sums.HtH.diagonal() * np.square(W).sum(axis=1)
            order = problem.order(energy)
            problem.W = unit_rows(W)[order]  # H is solved afresh: its scale follows
            revived = self._reseed(problem, energy[order])
        if enough and not revived:
            problem.converged = problem.stopped = True
        if len(problem.loss) >= self.max_passes:
            problem.stopped = True

    def _reseed(self, problem: Problem, energy: Array) -> bool:
        """Start a dead factor again from the sampled row that is explained worst.

        At most 3 k times; not when the sample has no more to explain (k is above its rank).
        """
        dead = np.flatnonzero(~(energy > 0))
        if not len(dead) or problem.reseeded >= 3 * problem.k:
            return False
        if self._sample is None:  # resumed: the survey is made again
            self._sample = self._survey()
        matrix = self._sample.matrix
        H = np.zeros((matrix.shape[0], problem.k), self.dtype)
        self.engine.run_pass(self._sample.rows, Stack([problem.W], self.dtype), EXACT, H=H)
        worst, worst_residual, row = 0.0, 0.0, None
        for start in range(0, len(H), 4096):
            part = dense(matrix[start : start + 4096], np.float64)
            residual = np.square(part - H[start : start + 4096] @ problem.W).sum(axis=1)
            at = int(residual.argmax())
            if residual[at] > worst_residual:
                worst, worst_residual = float(np.square(part[at]).sum()), float(residual[at])
                row = part[at]
        if row is None or worst_residual <= 1e-6 * worst:
            return False
        problem.W[dead[0]] = unit_rows(row[None])[0]
        problem.reseeded += 1
        return True

    # -- the result --------------------------------------------------------------------------

    def finish(self, write: Callable[[int, Array], None] | None = None) -> list[Factorization]:
        """The last pass: H for the final W, and the results.

        Parameters
        ----------
        write : callable, optional
            Called with the first row and the coefficients ``[rows, sum of all k]`` of each block,
            the factorizations side by side; the results then carry no coefficients. The array is
            valid during the call only. What was written cannot be put in another order, so the
            factors then keep the order of the last update: where two explain nearly the same,
            `energy` may not quite descend.
        """
        if self.H is not None:
            return self._finish_kept(self.H, write)
        stack = self._stack(self.problems)
        H = None if write else self.engine.room((self.rows.shape[0], self.columns), self.dtype)
        all_sums = self.engine.run_pass(
            self.rows, stack, EXACT, H=H, write=_float32(write), with_HtA=False
        )
        self.passes += 1
        results = []
        for problem, sums in zip(self.problems, all_sums, strict=True):
            loss = [*problem.loss, loss_of_pass(self.norm, problem.W, sums)]
            results.append(self._result(problem, H, loss, sums.HtH.diagonal()))
        return results

    def _finish_kept(
        self, H: Array, write: Callable[[int, Array], None] | None
    ) -> list[Factorization]:
        """The same where H is there: its scale and order put right, and no pass."""
        results = []
        for problem in self.problems:
            columns = slice(problem.first, problem.first + problem.k)
            norms = np.linalg.norm(problem.W, axis=1)
            energy = np.zeros(problem.k)
            for start in range(0, len(H), CHUNK_ROWS):
                part = H[start : start + CHUNK_ROWS, columns]
                part *= norms.astype(H.dtype)
                energy += np.square(part, dtype=np.float64).sum(axis=0)
            order = np.argsort(-energy, kind="stable")
            for start in range(0, len(H), CHUNK_ROWS):
                part = H[start : start + CHUNK_ROWS, columns]
                part[:] = part[:, order]
            problem.W = unit_rows(problem.W)[order]
            kept = None if write else H
            results.append(self._result(problem, kept, problem.loss, energy[order]))
        if write:
            for start in range(0, len(H), CHUNK_ROWS):
                write(start, H[start : start + CHUNK_ROWS].astype(np.float32, copy=False))
        return results

    def _result(
        self, problem: Problem, H: Array | None, loss: Sequence[float], energy: Array
    ) -> Factorization:
        order = np.arange(problem.k)
        coefficients = None
        if H is not None:
            order = problem.order(energy)
            coefficients = H[:, problem.first : problem.first + problem.k]
            if (np.diff(order) != 1).any():
                coefficients = coefficients[:, order]
            coefficients = coefficients.astype(np.float32, copy=False)
        return Factorization(
            k=problem.k,
            seed=problem.seed,
            factors=problem.W[order].astype(np.float32),
            coefficients=coefficients,
            loss=np.array(loss, dtype=np.float64),
            energy=energy[order],
            norm=self.norm,
            passes=self.passes,
            converged=problem.converged,
            reseeded=problem.reseeded,
            updates=len(problem.loss),
        )


def _factors(problems: Sequence[Problem], all_sums: Sequence[Sums], threads: int) -> list[Matrix]:
    """The next W of each factorization; many are shared out among the cores."""

    def one(problem: Problem, sums: Sums) -> Matrix:
        assert sums.HtA is not None
        return problem.solver.factors(problem.W, sums.HtA, sums.HtH)

    if len(problems) < MANY:
        return [one(*pair) for pair in zip(problems, all_sums, strict=True)]
    with ThreadPoolExecutor(min(MANY, threads)) as pool:
        return list(pool.map(one, problems, all_sums))


def _float32(write: Callable[[int, Array], None] | None) -> Callable[[int, Array], None] | None:
    if write is None:
        return None
    return lambda start, H: write(start, H.astype(np.float32, copy=False))
