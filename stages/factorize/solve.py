"""All factorizations of one image set, on whatever machine its rows are to be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.factorize.params import FactorizeParams
from stages.factorize.rows import SetOfLayer, rows_within_budget
from stages.factorize.states import State
from stages.frame.cluster import own_memory
from stages.frame.errors import StageError
from stages.frame.resources import Resources

if TYPE_CHECKING:
    from stages.algorithms.nmf import Factorization, Sweep
    from stages.algorithms.nmf.stack import Engine
    from stages.algorithms.rows import RowBlocks

Array = NDArray[Any]
Take = Callable[[int, NDArray[np.float32], Sequence[NDArray[np.float64]]], None]


@dataclass(frozen=True)
class Asked:
    """What is asked of one set besides its rows.

    Attributes
    ----------
    mean : float32 [channels] or None
        What is taken away from its rows, where that is known already.
    start : mapping of (k, seed) to W ``[k, channels]``
        Pinned factors to go on from.
    runs : int
        That say how stable each k is.
    saved : State or None
        What an earlier run left.
    """

    mean: NDArray[np.float32] | None
    start: Mapping[tuple[int, int], NDArray[np.float32]] | None
    runs: int
    saved: State | None


@dataclass(frozen=True)
class Solved:
    """What is known of a set when its last pass is over.

    Attributes
    ----------
    mean : float32 [channels] or None
        What was taken away from its rows.
    factor_stability : float64 [columns]
    """

    factorizations: Sequence[Factorization]
    stability: Sequence[tuple[float, float]]
    factor_stability: NDArray[np.float64]
    held_out: Sequence[float]
    mean: NDArray[np.float32] | None


@dataclass(frozen=True)
class Whole:
    """A set that one worker has solved, with all that is to be kept of it.

    Attributes
    ----------
    blocks : sequence of float32 [rows, columns]
        Coefficients, as they came.
    state : State or None
        To come back to it; None where an earlier run had found all, which is kept already.
    W : sequence of float64 [k, channels]
        Of each factorization, as the coefficients are of.
    """

    solved: Solved
    state: State | None
    blocks: Sequence[NDArray[np.float32]]
    W: Sequence[NDArray[np.float64]]


@contextmanager
def named(of: SetOfLayer) -> Iterator[None]:
    """Errors about values that cannot be factorized, or a full device, name the set."""
    try:
        yield
    except (ValueError, MemoryError) as error:
        raise StageError(f"image set {of.name!r}: {str(error) or 'out of memory'}") from error


def solve(
    rows: RowBlocks,
    asked: Asked,
    params: FactorizeParams,
    device: str | Engine,
    threads: int,
    keep: Callable[[Sweep], None],
    take: Take,
) -> Solved:
    """Factorize the rows of one set.

    Parameters
    ----------
    rows : RowBlocks [rows, channels]
    keep : callable
        Called after each pass.
    take : callable
        Called with the first row, coefficients ``[rows, columns]`` and W of each factorization, in
        order. The coefficients are valid during the call only.
    """
    from stages.algorithms.nmf import Sweep
    from stages.algorithms.nmf.choice import of_factors

    sweep = Sweep(
        rows,
        params.k,
        params.seeds,
        solver=params.solver,
        nonneg=params.nonneg,
        init=params.init,
        tol=params.tol,
        max_passes=params.max_passes,
        device=device,
        threads=threads,
        stability_runs=asked.runs,
        start=asked.start,
        freeze=params.freeze,
        resume=asked.saved,
    )
    while not sweep.done:
        sweep.step()
        keep(sweep)
    found = sweep.finish(
        lambda row, block: take(row, block, [problem.W for problem in sweep.problems])
    )
    runs = {k: one.runs for k, one in zip(params.k, sweep.stability, strict=False)}
    return Solved(
        found,
        [(one.cosine, one.silhouette) for one in sweep.stability],
        np.concatenate([of_factors(one.factors, runs.get(one.k, [])) for one in found]),
        sweep.held_out or [math.nan] * len(params.k),
        asked.mean,
    )


@dataclass(frozen=True)
class SetSolver:
    """Solves whole sets of a layer, side by side with others, here or on a worker.

    Attributes
    ----------
    resources : Resources
        Of one set.
    libraries : int
        See `stages.factorize.needs.set_needs`.
    layer_rows : int
        Rows of all sets together.
    on_worker : bool
        Whether it works on a cluster, where the memory is what the worker has.
    """

    params: FactorizeParams
    resources: Resources
    libraries: int
    layer_rows: int
    on_worker: bool = False

    def __call__(self, work: tuple[SetOfLayer, Asked]) -> Whole:
        """Solve one set."""
        of, asked = work
        blocks: list[NDArray[np.float32]] = []
        state: State | None = None
        W: Sequence[Array] | None = None

        def keep(sweep: Sweep) -> None:
            nonlocal state
            if sweep.done:
                # the coefficients that a solver keeps are changed when it finishes
                state = {key: np.copy(one) for key, one in sweep.state().items()}

        def take(row: int, block: NDArray[np.float32], now: Sequence[Array]) -> None:
            nonlocal W
            blocks.append(block.copy())
            W = now

        with named(of):
            by = self
            if self.on_worker:
                memory = own_memory() or self.resources.memory
                by = replace(self, resources=replace(self.resources, memory=memory))
            rows, asked = rows_of(of, asked, by)
            device = self.resources.torch_device()
            solved = solve(rows, asked, self.params, device, self.resources.workers, keep, take)
        return Whole(solved, with_mean(state, solved.mean), blocks, W or ())


def rows_of(of: SetOfLayer, asked: Asked, by: SetSolver) -> tuple[RowBlocks, Asked]:
    """The rows of a set to be solved here, and what is asked with their mean known."""
    mean = of.mean(by.params.normalise) if asked.mean is None else asked.mean
    rows = rows_within_budget(of, by.params, by.resources, by.libraries, by.layer_rows, mean)
    return rows, replace(asked, mean=mean)


def with_mean(state: State | None, mean: NDArray[np.float32] | None) -> State | None:
    """A state that says what the rows are without."""
    return state if mean is None or state is None else state | {"mean": mean}
