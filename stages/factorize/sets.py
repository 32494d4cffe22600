"""The image sets of a layer one after the other: each by all threads, or many small side by side.

A set within a factor has its weights by the coefficients of its parent, so it is begun when these
have been taken in; and the sets come out in their order, whoever solved them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from stages.algorithms import unit_sums
from stages.algorithms.normalised import CENTRE
from stages.artifacts.activations import Activations
from stages.artifacts.pinned import Pinned
from stages.artifacts.within import Within, root_of
from stages.factorize.held import Held, held_by
from stages.factorize.params import FactorizeParams
from stages.factorize.results import SetResult
from stages.factorize.rows import SetOfLayer, Source, needs_of
from stages.factorize.sharing import Sharing
from stages.factorize.solve import Asked, SetSolver, named, rows_of, solve, with_mean
from stages.factorize.states import States
from stages.factorize.taking import Taking, taking
from stages.frame.memory import resources_within
from stages.frame.parallel import ordered_map
from stages.frame.progress import note
from stages.frame.resources import Resources
from store import RaggedWriter, Staging

if TYPE_CHECKING:
    from stages.algorithms.nmf import Sweep
    from stages.algorithms.rows import RowBlocks
    from stages.factorize.spread import SpreadEngine

WAITING = 256 * 2**20  # bytes of coefficients of sets that others are waited for


class Place(NamedTuple):
    """One set among those of a layer."""

    rank: int
    name: str
    first_row: int  # of all sets' coefficients
    rows: int


@dataclass(frozen=True)
class Job:
    """What every set's factorization needs."""

    params: FactorizeParams
    work: Staging
    resources: Resources
    libraries: int  # bytes of the process before any rows: what one set leaves is none of the next
    pinned: Pinned | None
    members: dict[str, NDArray[np.int64]]  # entries of each image set; those within factors last
    within: dict[str, Within]
    path: Path  # of the activations


@dataclass(frozen=True)
class OfLayer:
    """What the sets of one layer share."""

    job: Job
    activations: Activations
    layer: str
    grids: NDArray[np.int64]  # [images, sizes, 2]
    writer: RaggedWriter
    states: States
    sharing: Sharing
    source: Source = field(init=False)
    means: dict[str, NDArray[np.float32] | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        source = Source.of(self.activations, self.job.path, self.layer)
        object.__setattr__(self, "source", source)

    def set_of(self, place: Place) -> SetOfLayer:
        """A set whose parent, if it lies within a factor, is done."""
        rank, name, first_row, rows = place
        members = self.job.members[name]
        cells = self.grids[members].prod(axis=2)
        finest = 0
        if self.activations.several:
            finest = int(self.grids[members, -1].prod(axis=1).max(initial=0))
        shares = self.sharing.file(name, rows)
        mean = self.means.get(root_of(name, self.job.within))
        return SetOfLayer(name, self.source, members, cells, first_row, rank, finest, shares, mean)

    def held(self, of: SetOfLayer) -> Held | None:
        """What the set takes over from pinned factors."""
        job = self.job
        if not job.pinned:
            return None
        whose = of.name, of.members, job.within.get(of.name)
        factorizations = job.params.factorizations
        return held_by(job.pinned, self.activations, self.layer, whose, factorizations)

    def taking(self, of: SetOfLayer, held: Held | None) -> AbstractContextManager[Taking]:
        """What takes the coefficients of the set."""
        return taking(of, self.job.params, held, self.sharing, self.writer.append)

    def solver(self, resources: Resources, *, on_worker: bool = False) -> SetSolver:
        """What solves a set with these resources."""
        job = self.job
        return SetSolver(job.params, resources, job.libraries, self.writer.total_rows, on_worker)

    def asked(self, of: SetOfLayer, held: Held | None) -> Asked:
        """What is asked of a set, and what an earlier run has left of it."""
        saved = self.states.saved(of.rank)
        mean = held.mean if held else None
        if mean is None and saved:
            mean = saved.get("mean")
        runs = 0 if held and held.stability else self.job.params.stability_runs
        return Asked(mean, held.start if held else None, runs, saved)


def solved_sets(layer: OfLayer) -> Iterator[SetResult]:
    """What is known of each set, in order; its coefficients have been written."""
    for wave in _waves(layer):
        side_by_side = _side_by_side(layer, wave)
        if side_by_side is None:
            for one in wave:
                yield _by_all(layer, layer.set_of(one))
        else:
            yield from _together(layer, wave, *side_by_side)


def _waves(layer: OfLayer) -> Iterator[list[Place]]:
    """Neighbouring sets of which none waits for another; large ones are alone."""
    within, wave, first_row = layer.job.within, list[Place](), 0
    for rank, (name, members) in enumerate(layer.job.members.items()):
        rows = int(layer.grids[members].prod(axis=2).sum())
        large = rows >= 2 * unit_sums.UNIT_ROWS
        waits = name in within and within[name].parent in {one.name for one in wave}
        if wave and (large or waits):
            yield wave
            wave = []
        wave.append(Place(rank, name, first_row, rows))
        first_row += rows
        if large:
            yield wave
            wave = []
    if wave:
        yield wave


def _side_by_side(layer: OfLayer, wave: Sequence[Place]) -> tuple[int, SetSolver] | None:
    """How many sets are solved at once, and by what; None where one after the other is as good."""
    job, resources = layer.job, layer.job.resources
    if max(one.rows for one in wave) >= 2 * unit_sums.UNIT_ROWS:
        return None
    if resources.spread:
        device = resources.device if resources.device.startswith("cuda") else "cpu"
        of_task = replace(resources.of_task, device=device)
        return resources.spread.slots, layer.solver(of_task, on_worker=True)
    if len(wave) < 2 or resources.workers < 2 or resources.torch_device() != "cpu":
        return None
    alone = replace(resources, workers=1)
    of = layer.set_of(max(wave, key=lambda one: one.rows))
    needs = needs_of(of, job.params, alone, job.libraries, layer.writer.total_rows)
    each = needs.least - job.libraries + of.stored(job.params.normalise).nbytes
    spare = resources.memory - job.libraries
    at_once = min(resources.workers, len(wave), spare // max(1, each))
    if at_once < 2:
        return None
    memory = job.libraries + spare // at_once
    of_one = replace(resources, workers=resources.workers // at_once, memory=memory)
    return at_once, layer.solver(of_one)


def _together(
    layer: OfLayer, wave: Sequence[Place], at_once: int, solver: SetSolver
) -> Iterator[SetResult]:
    """The sets of a wave, some at a time."""
    under_way: deque[tuple[SetOfLayer, Held | None]] = deque()

    def work() -> Iterator[tuple[SetOfLayer, Asked]]:
        for place in wave:
            of = layer.set_of(place)
            held = layer.held(of)
            under_way.append((of, held))
            yield of, layer.asked(of, held)

    row_bytes = 4 * len(layer.job.params.factorizations.columns)
    limit = WAITING // max(1, row_bytes * max(place.rows for place in wave))
    cluster = layer.job.resources.spread
    found = ordered_map(
        solver,
        work(),
        workers=at_once,
        cluster=cluster,
        label=f"factorize: {layer.layer}",
        limit=max(at_once, limit) if cluster else None,
    )
    for whole in found:
        of, held = under_way.popleft()
        with named(of), layer.taking(of, held) as taken:
            if whole.state is not None:
                layer.states.keep(of.rank, whole.state, done=True)
            row = 0
            for block in whole.blocks:
                taken.take(row, block, whole.W)
                row += len(block)
            result = taken.result(whole.solved)
        layer.means[of.name] = result.mean
        yield result


def _by_all(layer: OfLayer, of: SetOfLayer) -> SetResult:
    """All factorizations of one set, checkpointed between the passes.

    A set that was finished before a crash is not solved again: its last state is there, and one
    pass gives the coefficients that were not on disk yet.
    """
    job, states, held = layer.job, layer.states, layer.held(of)
    with named(of), layer.taking(of, held) as taken:
        asked = layer.asked(of, held)
        rows, asked, device = _rows_of_all(layer, of, asked)

        def keep(sweep: Sweep) -> None:
            state = with_mean(sweep.state(), asked.mean)
            assert state is not None
            states.keep(of.rank, state, done=sweep.done)
            if sweep.done and "H" in state:
                states.flush()  # before it is changed in place, when the sweep finishes

        solved = solve(rows, asked, job.params, device, job.resources.workers, keep, taken.take)
        result = taken.result(solved)
        if not isinstance(device, str):
            for line in device.told():
                note(line)
    layer.means[of.name] = result.mean
    return result


def _rows_of_all(
    layer: OfLayer, of: SetOfLayer, asked: Asked
) -> tuple[RowBlocks, Asked, str | SpreadEngine]:
    """The rows of a set that everybody works on, what is asked with their mean known, and who."""
    from stages.algorithms.nmf.solvers import SOLVERS
    from stages.factorize.spread import SpreadEngine, spread_mean
    from stages.factorize.units import Units

    job, cluster = layer.job, layer.job.resources.spread
    params, resources = job.params, job.resources
    if cluster is None or SOLVERS[params.solver].keeps_coefficients:
        if cluster:
            note(
                f"factorize: {of.name}: {params.solver} keeps H, so this machine alone works on it"
            )
        rows, asked = rows_of(of, asked, layer.solver(resources))
        return rows, asked, resources.torch_device()
    needs = needs_of(of, params, resources, job.libraries, layer.writer.total_rows)
    resources_within("factorize", needs, resources)
    how, mean = params.normalise, asked.mean if asked.mean is not None else of.outer_mean
    units = Units.made(of, how, mean, uuid4().hex, params.nonneg == "H", resources.memory)
    if how == CENTRE and mean is None:
        units = replace(units, mean=spread_mean(cluster, units))
    rows = of.taken(of.stored(how), how, units.mean)
    engine = SpreadEngine(cluster, units, rows, resources.workers)
    return rows, replace(asked, mean=units.mean), engine
