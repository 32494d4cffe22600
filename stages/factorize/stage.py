"""factorize: activations -> factors W and coefficients H, per image set, k and seed.

Writes ``factors.zarr``, see `stages.artifacts.factors`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.activations import OWN, Activations
from stages.artifacts.factors import SCALES, Heat, LayerFactors, create_factors
from stages.artifacts.pinned import Pinned
from stages.factorize.held import Carrying, Held, drift_line, held_by
from stages.factorize.needs import foretell, library_bytes, set_needs
from stages.factorize.params import FactorizeParams
from stages.factorize.scales import write_combined
from stages.frame.errors import StageError
from stages.frame.memory import resources_within
from stages.frame.params import user_path
from stages.frame.progress import note, track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from store import Ragged, RaggedWriter, SetRows, Staging, plan_layout, replacing

# Rows of a chunk of coefficients: a few images, for they are read one by one.
CHUNK_ROWS = 2048

if TYPE_CHECKING:
    import zarr

    from stages.algorithms.nmf import Factorization
    from stages.algorithms.nmf.usage import Usage
    from stages.algorithms.rows import RowBlocks


def run(params: FactorizeParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    activations = Activations.open(inputs["extract"])
    if params.nonneg != "H":
        refuse_signed(activations)
    sets = activations.sets
    positions, entries = _members(sets)
    pinned = Pinned.open(user_path(params.start, inputs.project)) if params.start else None
    groups = create_factors(
        work,
        activations,
        positions,
        params.factorizations,
        params.method,
        pinned.percentile if pinned else None,
    )
    total = len(activations.layers) * len(sets)
    told: list[str] = []
    job = _Job(params, work, resources, library_bytes(), pinned)
    with track("factorize", total, "sets", int(work.progress.get("done", 0))) as advance:
        done = 0
        for number, layer in enumerate(activations.layers):
            results = []
            for one in _factorize_layer(job, activations, layer, entries, groups[layer], number):
                results.append(one)
                told += one.told
                done += 1
                if done > int(work.progress.get("done", 0)):
                    work.checkpoint(done=done, total=total, unit="sets")
                    advance(1)
            _write_results(groups[layer], params, results)
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


@dataclass(frozen=True)
class _SetResult:
    """What is known of one set in the end, besides its coefficients."""

    factorizations: list[Factorization]
    stability: Sequence[tuple[float, float]]
    factor_stability: NDArray[np.float64]  # [columns]
    held_out: Sequence[float]
    usage: Usage
    parent: NDArray[np.int64]
    parent_cosine: NDArray[np.float64]
    held: Held | None
    explained: NDArray[np.float64]  # [problems, 2], see `LayerFactors`
    carried: tuple[int, int]
    told: list[str]  # how far new images are from what pinned factors explain


def _members(
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
    entries: NDArray[np.int64],
    group: zarr.Group,
    number: int,
) -> Iterator[_SetResult]:
    """All factorizations of each set in turn, the coefficients going to disk."""
    ragged = activations.at(layer)
    if max(job.params.k) > ragged.channels:
        raise StageError(
            f"params.yaml: factorize.k: {max(job.params.k)} is more than the {ragged.channels} "
            f"channels of {layer}"
        )
    grids = activations.grids(layer)
    several = grids[entries] if activations.several else None
    place, ids = "maps" if several is None else SCALES, ragged.image_ids[entries]
    writer = _writer(job, group, place, ragged.grid_hw[entries], ids, f"rows {number}")
    sizes, columns = grids.shape[1], len(job.params.factorizations.columns)
    largest = np.full((len(activations.sets), sizes, columns), np.nan)
    top = np.full((len(activations.sets), columns), np.nan)
    first_row = 0
    for rank, (name, members) in enumerate(activations.sets.items()):
        checkpoint = job.work.scratch / f"{number}-{rank}.npz"
        finest = 0 if several is None else int(several[:, -1].prod(axis=1).max(initial=0))
        cells = grids[members].prod(axis=2)
        one = _OfSet(name, ragged, members, cells, first_row, checkpoint, finest)
        held = (
            held_by(job.pinned, activations, layer, name, job.params.factorizations)
            if job.pinned
            else None
        )
        if held:
            largest[rank], top[rank] = held.largest, held.top
        yield _factorize_set(job, one, writer, held)
        first_row = one.end
    writer.close()
    if several is not None:
        positions, _ = _members(activations.sets)
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


@dataclass(frozen=True)
class _OfSet:
    """One set's rows."""

    name: str
    ragged: Ragged
    members: NDArray[np.int64]
    cells: NDArray[np.int64]  # [images, sizes]: rows of each image at each size
    first_row: int  # of all sets' coefficients
    checkpoint: Path
    finest: int = 0  # most cells of an image's map that is combined of several sizes

    @property
    def rows(self) -> SetRows:
        return self.ragged.select(self.members).compact()

    @property
    def end(self) -> int:
        return self.first_row + int(self.cells.sum())


def _factorize_set(job: _Job, of: _OfSet, writer: RaggedWriter, held: Held | None) -> _SetResult:
    """All factorizations of one set, checkpointed after each pass.

    A set that was finished before a crash is not solved again: its last state is there, and one
    pass gives the coefficients that were not on disk yet.
    """
    from stages.algorithms.nmf import Sweep
    from stages.algorithms.nmf.choice import Links, of_factors
    from stages.algorithms.nmf.usage import Usage

    params = job.params
    device = job.resources.torch_device()
    kept = _within_budget(of.rows, job, (writer.total_rows, of.finest), device)
    try:
        sweep = Sweep(
            kept,
            params.k,
            params.seeds,
            solver=params.solver,
            nonneg=params.nonneg,
            init=params.init,
            tol=params.tol,
            max_passes=params.max_passes,
            device=device,
            threads=job.resources.workers,
            stability_runs=0 if held and held.stability else params.stability_runs,
            start=held.start if held else None,
            freeze=params.freeze,
            resume=_load_state(of.checkpoint),
        )
        while not sweep.done:
            sweep.step()
            _save_state(of.checkpoint, sweep.state())
        links = Links(params.factorizations.columns)
        usage = Usage(len(params.factorizations.columns))

        def write(row: int, block: NDArray[np.float32]) -> None:
            links.add(block)
            usage.add(block)
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
            fresh = of.ragged.select(of.members[held.fresh]).compact()
            new = carrying.explained(fresh, found, params.factorizations)
            explained = np.stack([held.explained, new], axis=1)
            carried = carrying.kept, len(held.fresh)
            told = [drift_line(of.name, len(of.members), carried, explained, params.factorizations)]
    except (ValueError, MemoryError) as error:  # values that cannot be factorized, a full device
        raise StageError(f"image set {of.name!r}: {str(error) or 'out of memory'}") from error
    return _SetResult(
        found, stability, each, held_out, usage, *links.parents(), held, explained, carried, told
    )


def _within_budget(rows: SetRows, job: _Job, of_layer: tuple[int, int], device: str) -> RowBlocks:
    """The rows kept in memory where they fit the budget, streamed from disk otherwise.

    A GPU that can keep them has them from disk, once. Of the layer are the rows of all sets, and
    the most cells that are combined at once.
    """
    from stages.algorithms.nmf.budget import READERS, device_holds
    from stages.algorithms.rows import ResidentRows

    resources = job.resources
    density = rows.density if rows.form == "sparse" else 1.0
    needs = set_needs(
        job.params,
        rows.shape,
        density,
        rows.rows_per_block,
        of_layer,
        resources,
        job.libraries,
    )
    resources_within("factorize", needs, resources)
    spare = resources.memory - needs.least
    if device != "cpu":
        block = max(1, rows.nbytes * rows.rows_per_block // max(1, rows.shape[0]))
        readers = max(1, min(READERS, resources.workers, spare // block))
        rows = rows.reading(int(readers))
        if device_holds(rows.shape, rows.density, device):
            return rows
    if rows.nbytes > spare:
        return rows
    # an estimate from the whole layer's share of non-zeros: this set may have more
    return ResidentRows.within(rows, spare) or rows


def _save_state(path: Path, state: dict[str, NDArray[Any]]) -> None:
    with replacing(path) as file:
        np.savez(file, **state)  # type: ignore[arg-type]


def _load_state(path: Path) -> dict[str, NDArray[Any]] | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as saved:
        return dict(saved)


def _write_results(group: zarr.Group, params: FactorizeParams, results: list[_SetResult]) -> None:
    of = LayerFactors
    per_set = [result.factorizations for result in results]
    updates = max(len(one.loss) for mine in per_set for one in mine)
    padded = [
        [np.pad(one.loss, (0, updates - len(one.loss)), constant_values=np.nan) for one in mine]
        for mine in per_set
    ]
    of.loss.write(group, padded)
    of.W.write(group, [np.concatenate([one.factors for one in mine]) for mine in per_set])
    of.energy.write(group, [np.concatenate([one.energy for one in mine]) for mine in per_set])
    of.norm.write(group, [mine[0].norm for mine in per_set])
    for array in (of.passes, of.converged, of.reseeded):
        array.write(group, [[int(getattr(one, array.name)) for one in mine] for mine in per_set])
    stable = np.full((len(results), len(params.k), 2), np.nan)
    for row, result in zip(stable, results, strict=True):
        for entry, one in zip(row, result.stability, strict=False):
            entry[:] = one
    of.stability.write(group, stable)
    of.factor_stability.write(group, [result.factor_stability for result in results])
    of.held_out.write(group, [result.held_out for result in results])
    of.nonzero.write(group, [result.usage.nonzero for result in results])
    of.hoyer.write(group, [result.usage.hoyer for result in results])
    nothing = np.full(len(params.factorizations.columns), np.nan)
    none = Heat(*(nothing for _ in Heat._fields))
    held = [one.held.heat if one.held else none for one in results]
    for name in Heat._fields:
        getattr(of, f"held_{name}").write(group, [getattr(one, name) for one in held])
    of.explained.write(group, [result.explained for result in results])
    of.carried.write(group, [result.carried for result in results])
    of.parent.write(group, [result.parent for result in results])
    of.parent_cosine.write(group, [result.parent_cosine for result in results])


def sources(params: FactorizeParams, project: Path) -> str:
    """Digest of the pinned factors."""
    return Pinned.open(user_path(params.start, project)).digest if params.start else ""


FACTORIZE: Stage[FactorizeParams] = Stage(
    name="factorize",
    version=7,
    params=FactorizeParams,
    reads={"extract": Path("artifacts/activations.zarr")},
    writes=Path("artifacts/factors.zarr"),
    run=run,
    summary="Factorize the activations of each image set, for every k and seed.",
    sources=sources,
    foretell=foretell,
)
