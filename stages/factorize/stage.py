"""factorize: activations -> factors W and coefficients H, per image set, k and seed.

Writes ``factors.zarr``, see `stages.artifacts.factors`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.activations import OWN, Activations
from stages.artifacts.factors import SCALES, LayerFactors, create_factors
from stages.artifacts.pinned import Pinned
from stages.artifacts.within import resolved, root_of
from stages.factorize.held import refuse_other_rows
from stages.factorize.needs import foretell, library_bytes
from stages.factorize.params import FactorizeParams
from stages.factorize.results import SetResult, write_results
from stages.factorize.scales import write_combined
from stages.factorize.sets import Job, OfLayer, solved_sets
from stages.factorize.sharing import Sharing
from stages.factorize.states import States
from stages.frame.compiling import told_of_compiling
from stages.frame.errors import StageError
from stages.frame.params import user_path
from stages.frame.progress import TOLD_EVERY, note, track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from store import Ragged, RaggedWriter, Staging, plan_layout

# Rows of a chunk of coefficients: a few images, for they are read one by one.
CHUNK_ROWS = 2048

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
    path = inputs["extract"]
    job = Job(params, work, resources, library_bytes(), pinned, members, within, path)
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
    job: Job,
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
    with States(job.work.scratch, number) as states:
        sharing = Sharing(job.within, job.params.factorizations, job.work.scratch, number)
        of_layer = OfLayer(job, activations, layer, grids, writer, states, sharing)
        for rank, result in enumerate(solved_sets(of_layer)):
            if result.held:
                largest[rank], top[rank] = result.held.largest, result.held.top
            yield result
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
    job: Job,
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
