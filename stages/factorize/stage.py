"""factorize: activations -> factors W and coefficients H, per image set, k and seed.

Writes ``factors.zarr``, see `stages.artifacts.factors`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.activations import OWN, Activations
from stages.artifacts.factors import SCALES, LayerFactors, create_factors
from stages.artifacts.pinned import Pinned
from stages.artifacts.within import Within, resolved, root_of
from stages.factorize.held import Carrying, Held, drift_line, held_by, refuse_other_rows
from stages.factorize.needs import foretell, library_bytes
from stages.factorize.params import FactorizeParams
from stages.factorize.results import SetResult, write_results
from stages.factorize.rows import SetOfLayer, rows_within_budget
from stages.factorize.scales import write_combined
from stages.factorize.sharing import Shares, Sharing
from stages.factorize.states import States
from stages.frame.compiling import told_of_compiling
from stages.frame.errors import StageError
from stages.frame.params import user_path
from stages.frame.progress import note, track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from store import Ragged, RaggedWriter, Staging, plan_layout

# Rows of a chunk of coefficients: a few images, for they are read one by one.
CHUNK_ROWS = 2048
TOLD_EVERY = 1.0  # seconds between two words to `dff status`

if TYPE_CHECKING:
    import zarr


def run(params: FactorizeParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    activations = Activations.open(inputs["extract"])
    if params.nonneg != "H":
        refuse_signed(activations)
    within = resolved(params.within, activations.sets, params.k)
    inside = {name: activations.sets[root_of(name, within)] for name in within}
    members = {**activations.sets, **inside}
    positions, _ = _placed(members)
    pinned = Pinned.open(user_path(params.start, inputs.project)) if params.start else None
    if pinned:
        refuse_other_rows(pinned, params.normalise)
    groups = create_factors(
        work,
        activations,
        positions,
        params.factorizations,
        params.method,
        pinned.percentile if pinned else None,
        within,
        nonneg=params.nonneg,
        normalise=params.normalise,
    )
    total = len(activations.layers) * len(members)
    told: list[str] = []
    job = _Job(params, work, resources, library_bytes(), pinned, members, within)
    known = int(work.progress.get("done", 0))
    with track("factorize", total, "sets", known) as advance, told_of_compiling():
        done, last = 0, time.monotonic()
        for number, layer in enumerate(activations.layers):
            results = []
            for one in _factorize_layer(job, activations, layer, groups[layer], number):
                results.append(one)
                told += one.told
                done += 1
                if done > known:
                    advance(1)
                    if done == total or time.monotonic() - last >= TOLD_EVERY:
                        work.checkpoint(done=done, total=total, unit="sets")
                        last = time.monotonic()
            write_results(groups[layer], params, results)
    for line in told:
        note(line)


@dataclass(frozen=True)
class _Job:
    """What every set's factorization needs."""

    params: FactorizeParams
    work: Staging
    resources: Resources
    libraries: int  # bytes of the process before any rows: what one set leaves is none of the next
    pinned: Pinned | None
    members: dict[str, NDArray[np.int64]]  # entries of each image set; those within factors last
    within: dict[str, Within]


def _placed(
    sets: dict[str, NDArray[np.int64]],
) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """Positions of each set's (set, image) pairs, and the activation entry of every pair."""
    positions, entries = {}, []
    count = 0
    for name, members in sets.items():
        positions[name] = np.arange(count, count + len(members))
        entries.append(members)
        count += len(members)
    return positions, np.concatenate(entries)


def _factorize_layer(
    job: _Job,
    activations: Activations,
    layer: str,
    group: zarr.Group,
    number: int,
) -> Iterator[SetResult]:
    """All factorizations of each set in turn, the coefficients going to disk."""
    ragged = activations.at(layer)
    if max(job.params.k) > ragged.channels:
        raise StageError(
            f"params.yaml: factorize.k: {max(job.params.k)} is more than the {ragged.channels} "
            f"channels of {layer}"
        )
    positions, entries = _placed(job.members)
    grids = activations.grids(layer)
    several = grids[entries] if activations.several else None
    place, ids = "maps" if several is None else SCALES, ragged.image_ids[entries]
    writer = _writer(job, group, place, ragged.grid_hw[entries], ids, f"rows {number}")
    sizes, columns = grids.shape[1], len(job.params.factorizations.columns)
    largest = np.full((len(positions), sizes, columns), np.nan)
    top = np.full((len(positions), columns), np.nan)
    sharing = Sharing(job.within, job.params.factorizations, job.work.scratch, number)
    means: dict[str, NDArray[np.float32] | None] = {}
    first_row = 0
    with States(job.work.scratch, number) as states:
        for rank, (name, members) in enumerate(job.members.items()):
            finest = 0 if several is None else int(several[:, -1].prod(axis=1).max(initial=0))
            cells = grids[members].prod(axis=2)
            weights = sharing.weights(name, int(cells.sum()))
            mean = means.get(root_of(name, job.within))
            one = SetOfLayer(name, ragged, members, cells, first_row, rank, finest, weights, mean)
            held = None
            if job.pinned:
                whose = name, members, job.within.get(name)
                held = held_by(job.pinned, activations, layer, whose, job.params.factorizations)
            if held:
                largest[rank], top[rank] = held.largest, held.top
            with sharing.of(name, weights) as shares:
                result = _factorize_set(job, one, states, writer, held, shares)
            means[name] = result.mean
            yield result
            first_row = one.end
    writer.close()
    if several is not None:
        maps = _writer(job, group, "maps", several[:, -1], ids, f"maps {number}")
        coefficients = Ragged.open(group.require_group(place))
        largest, top = write_combined(
            coefficients, several, list(positions.values()), (largest, top), maps
        )
        LayerFactors.largest.write(group, largest)
        LayerFactors.top.write(group, top)


def refuse_signed(activations: Activations) -> None:
    """Raise a StageError for layers with values below zero, which NMF cannot factorize."""
    if signed := activations.signed:
        backbone = activations.network.get("backbone", OWN)
        raise StageError(
            f"extract.layers: {', '.join(signed)} of {backbone}: has values below zero, which a "
            "factorization with W >= 0 cannot have: set factorize.nonneg: H (semi-NMF), or tap a "
            f"layer that `dff show-model {backbone}` lists as >= 0"
        )


def _writer(
    job: _Job,
    group: zarr.Group,
    place: str,
    grids: NDArray[Any],
    image_ids: NDArray[np.int64],
    key: str,
) -> RaggedWriter:
    """Of coefficients ``[rows, columns]``; `key` says in the progress how far it is."""
    columns = len(job.params.factorizations.columns)
    return RaggedWriter(
        group.require_group(place),
        grids,
        image_ids,
        columns,
        np.float32,
        layout=plan_layout(int(grids.prod(axis=1).sum()), 4 * columns, most_rows=CHUNK_ROWS),
        resume=job.work.progress.get(key),
        on_flush=lambda stored: job.work.checkpoint(**{key: stored}),
    )


def _factorize_set(
    job: _Job,
    of: SetOfLayer,
    states: States,
    writer: RaggedWriter,
    held: Held | None,
    shares: Shares,
) -> SetResult:
    """All factorizations of one set, checkpointed between the passes.

    A set that was finished before a crash is not solved again: its last state is there, and one
    pass gives the coefficients that were not on disk yet.
    """
    from stages.algorithms.nmf import Sweep
    from stages.algorithms.nmf.choice import Links, of_factors
    from stages.algorithms.nmf.usage import Usage

    params = job.params
    resources, how = job.resources, params.normalise
    saved = states.saved(of.rank)
    try:
        mean = held.mean if held else None
        if mean is None:
            mean = saved["mean"] if saved and "mean" in saved else of.mean(how)
        kept = rows_within_budget(of, params, resources, job.libraries, writer.total_rows, mean)
        sweep = Sweep(
            kept,
            params.k,
            params.seeds,
            solver=params.solver,
            nonneg=params.nonneg,
            init=params.init,
            tol=params.tol,
            max_passes=params.max_passes,
            device=resources.torch_device(),
            threads=resources.workers,
            stability_runs=0 if held and held.stability else params.stability_runs,
            start=held.start if held else None,
            freeze=params.freeze,
            resume=saved,
        )
        while not sweep.done:
            sweep.step()
            known = {} if mean is None else {"mean": mean}
            states.keep(of.rank, sweep.state() | known, done=sweep.done)
        links = Links(params.factorizations.columns)
        usage = Usage(len(params.factorizations.columns))

        def write(row: int, block: NDArray[np.float32]) -> None:
            links.add(block)
            usage.add(block)
            shares.add(row, block, [problem.W for problem in sweep.problems])
            writer.append(of.first_row + row, block)

        carrying = Carrying(held, of.cells, write) if held else None
        found = sweep.finish(carrying or write)
        stability = [(one.cosine, one.silhouette) for one in sweep.stability]
        runs = {k: one.runs for k, one in zip(params.k, sweep.stability, strict=False)}
        each = np.concatenate([of_factors(one.factors, runs.get(one.k, [])) for one in found])
        held_out = sweep.held_out or [math.nan] * len(params.k)
        explained = np.full((len(found), 2), np.nan)
        carried, told = (0, 0), []
        if held and carrying:
            if held.stability:
                stability, each = held.stability, held.factor_stability
            held_out = held.held_out or held_out
            fresh = of.taken(of.stored(how, held.fresh), how, mean, held.fresh)
            new = carrying.explained(fresh, found, params.factorizations)
            explained = np.stack([held.explained, new], axis=1)
            carried = carrying.kept, len(held.fresh)
            told = [drift_line(of.name, len(of.members), carried, explained, params.factorizations)]
    except (ValueError, MemoryError) as error:  # values that cannot be factorized, a full device
        raise StageError(f"image set {of.name!r}: {str(error) or 'out of memory'}") from error
    found_of_k = stability, each, held_out
    return SetResult(
        found, *found_of_k, usage, *links.parents(), held, explained, carried, told, mean
    )


def sources(params: FactorizeParams, project: Path) -> str:
    """Digest of the pinned factors."""
    return Pinned.open(user_path(params.start, project)).digest if params.start else ""


FACTORIZE: Stage[FactorizeParams] = Stage(
    name="factorize",
    version=9,
    params=FactorizeParams,
    reads={"extract": Path("artifacts/activations.zarr")},
    writes=Path("artifacts/factors.zarr"),
    run=run,
    sources=sources,
    foretell=foretell,
)
