"""factorize: activations -> factors W and coefficients H, per image set, k and seed.

Writes ``factors.zarr``. Per layer, all factorizations of a set lie side by side as columns, in the
order of the attribute ``columns`` (a list of [k, seed, factor]):

- ``maps``: ragged coefficients float32, one entry per (set, image), ``[h, w, columns]``;
- ``factors`` float32 ``[sets, columns, channels]``; ``energy`` float64 ``[sets, columns]``;
- ``loss`` float64 ``[sets, problems, updates]``, padded with NaN; ``norm`` float64 ``[sets]``
  (``||A||_F^2``); ``passes``, ``converged``, ``reseeded`` int64 ``[sets, problems]``,
  where a problem is one (k, seed) of the attribute ``problems``;
- ``stability`` float64 ``[sets, ks, 2]``: cosine and silhouette of each k of the attribute ``ks``
  (see `stages.algorithms.nmf.choice`), NaN where it was not asked for;
- ``parent`` int64 and ``parent_cosine`` float64 ``[sets, columns]``: the column of the next smaller
  k that a factor's coefficients are most like, -1 for none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from stages.factorize.params import FactorizeParams
from stages.frame.errors import StageError
from stages.frame.progress import track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from store import (
    Artifact,
    RaggedWriter,
    SetRows,
    Staging,
    create_artifact,
    open_artifact,
    plan_layout,
    replacing,
    write_array,
)
from store.artifact import layer_key
from store.layout import SHARD_BYTES

# Rows of a chunk of coefficients: a few images, for they are read one by one.
CHUNK_ROWS = 2048

if TYPE_CHECKING:
    from stages.algorithms.nmf import Factorization
    from stages.algorithms.nmf.choice import Stability
    from stages.algorithms.rows import RowBlocks


def run(params: FactorizeParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    activations = open_artifact(inputs["extract"])
    sets = activations.sets
    positions, entries = _members(sets)
    group = create_artifact(
        work.path,
        owner=work,
        stage="factorize",
        fingerprint=work.fingerprint,
        layers=activations.layers,
        images=activations.images,
        contents=activations.attrs.get("contents"),
        sets=positions,
        problems=params.problems,
        columns=params.columns,
        ks=params.k,
        solver=params.solver,
    )
    total = len(activations.layers) * len(sets)
    job = _Job(params, work, resources)
    with track("factorize", total, "sets", int(work.progress.get("done", 0))) as advance:
        done = 0
        for number, layer in enumerate(activations.layers):
            layer_group = group.require_group(layer_key(layer))
            results = []
            for one in _factorize_layer(job, activations, layer, entries, layer_group, number):
                results.append(one)
                done += 1
                if done > int(work.progress.get("done", 0)):
                    work.checkpoint(done=done, total=total, unit="sets")
                    advance(1)
            _write_results(layer_group, params, results)


@dataclass(frozen=True)
class _Job:
    """What every set's factorization needs."""

    params: FactorizeParams
    work: Staging
    resources: Resources


@dataclass(frozen=True)
class _SetResult:
    """What is known of one set in the end, besides its coefficients."""

    factorizations: "list[Factorization]"
    stability: "list[Stability]"
    parent: NDArray[np.int64]
    parent_cosine: NDArray[np.float64]


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
    activations: Artifact,
    layer: str,
    entries: NDArray[np.int64],
    group: zarr.Group,
    number: int,
) -> "Iterator[_SetResult]":
    """All factorizations of each set in turn, the coefficients going to disk."""
    ragged = activations.ragged(layer)
    if max(job.params.k) > ragged.channels:
        raise StageError(
            f"params.yaml: factorize.k: {max(job.params.k)} is more than the {ragged.channels} "
            f"channels of {layer}"
        )
    grids, columns = ragged.grid_hw[entries], len(job.params.columns)
    writer = RaggedWriter(
        group.require_group("maps"),
        grids,
        ragged.image_ids[entries],
        columns,
        np.float32,
        layout=plan_layout(int(grids.prod(axis=1).sum()), 4 * columns, most_rows=CHUNK_ROWS),
        resume=job.work.progress.get(f"rows {number}"),
        on_flush=lambda stored: job.work.checkpoint(**{f"rows {number}": stored}),
    )
    first_row = 0
    for rank, (name, members) in enumerate(activations.sets.items()):
        rows = ragged.select(members).compact()
        checkpoint = job.work.scratch / f"{number}-{rank}.npz"
        yield _factorize_set(job, name, rows, first_row, writer, checkpoint)
        first_row += rows.shape[0]
    writer.close()


def _factorize_set(
    job: _Job, name: str, rows: SetRows, first_row: int, writer: RaggedWriter, checkpoint: Path
) -> _SetResult:
    """All factorizations of one set, checkpointed after each pass.

    A set that was finished before a crash is not solved again: its last state is there, and one
    pass gives the coefficients that were not on disk yet.
    """
    from stages.algorithms.nmf import Sweep
    from stages.algorithms.nmf.choice import Links

    params = job.params
    device = job.resources.torch_device()
    kept = _within_budget(rows, params, job.resources, writer.total_rows, device)
    try:
        sweep = Sweep(
            kept,
            params.k,
            params.seeds,
            solver=params.solver,
            init=params.init,
            tol=params.tol,
            max_passes=params.max_passes,
            device=device,
            threads=job.resources.workers,
            stability_runs=params.stability_runs,
            resume=_load_state(checkpoint),
        )
        while not sweep.done:
            sweep.step()
            _save_state(checkpoint, sweep.state())
        links = Links(params.columns)

        def write(row: int, block: NDArray[np.float32]) -> None:
            links.add(block)
            writer.append(first_row + row, block)

        return _SetResult(sweep.finish(write), sweep.stability, *links.parents())
    except (ValueError, MemoryError) as error:  # values that cannot be factorized, a full device
        raise StageError(f"image set {name!r}: {str(error) or 'out of memory'}") from error


def _within_budget(
    rows: SetRows, params: FactorizeParams, resources: Resources, rows_of_layer: int, device: str
) -> "RowBlocks":
    """The rows kept in memory where they fit the budget, streamed from disk otherwise.

    A GPU that can keep them has them from disk, once.
    """
    from stages.algorithms.nmf.budget import READERS, bytes_needed, device_holds
    from stages.algorithms.rows import ResidentRows

    budget = resources.memory
    needed = bytes_needed(
        rows.shape,
        rows.density if rows.form == "sparse" else 1.0,
        params.k,
        params.seeds,
        solver=params.solver,
        block_rows=rows.rows_per_block,
        threads=resources.workers,
    )
    # the writer of the coefficients holds an encoded shard
    needed += min(SHARD_BYTES, 4 * rows_of_layer * len(params.columns))
    if needed > budget:
        raise StageError(
            f"{rows.shape[0]} rows with {len(params.columns)} factors need about "
            f"{needed / 2**20:.0f} MiB, the budget is {budget / 2**20:.0f} MiB: raise --memory, or "
            "ask for fewer k and seeds"
        )
    if device != "cpu":
        block = max(1, rows.nbytes * rows.rows_per_block // max(1, rows.shape[0]))
        readers = max(1, min(READERS, resources.workers, (budget - needed) // block))
        rows = rows.reading(int(readers))
        if device_holds(rows.shape, rows.density, device):
            return rows
    if rows.nbytes > budget - needed:
        return rows
    # an estimate from the whole layer's share of non-zeros: this set may have more
    return ResidentRows.within(rows, budget - needed) or rows


def _save_state(path: Path, state: dict[str, NDArray[Any]]) -> None:
    with replacing(path) as file:
        np.savez(file, **state)  # type: ignore[arg-type]


def _load_state(path: Path) -> dict[str, NDArray[Any]] | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as saved:
        return dict(saved)


def _write_results(group: zarr.Group, params: FactorizeParams, results: list[_SetResult]) -> None:
    per_set = [result.factorizations for result in results]
    updates = max(len(one.loss) for mine in per_set for one in mine)
    padded = [
        [np.pad(one.loss, (0, updates - len(one.loss)), constant_values=np.nan) for one in mine]
        for mine in per_set
    ]
    write_array(group, "loss", np.array(padded))
    write_array(
        group, "factors", np.array([np.concatenate([f.factors for f in s]) for s in per_set])
    )
    write_array(group, "energy", np.array([np.concatenate([f.energy for f in s]) for s in per_set]))
    write_array(group, "norm", np.array([s[0].norm for s in per_set]))
    for name in ("passes", "converged", "reseeded"):
        counts = [[int(getattr(one, name)) for one in mine] for mine in per_set]
        write_array(group, name, np.array(counts, dtype=np.int64))
    stable = np.full((len(results), len(params.k), 2), np.nan)
    for row, result in zip(stable, results, strict=True):
        for entry, one in zip(row, result.stability, strict=False):
            entry[:] = one.cosine, one.silhouette
    write_array(group, "stability", stable)
    write_array(group, "parent", np.array([result.parent for result in results]))
    write_array(group, "parent_cosine", np.array([result.parent_cosine for result in results]))


FACTORIZE: Stage[FactorizeParams] = Stage(
    name="factorize",
    version=3,
    params=FactorizeParams,
    reads={"extract": Path("artifacts/activations.zarr")},
    writes=Path("artifacts/factors.zarr"),
    run=run,
    summary="Factorize the activations of each image set, for every k and seed.",
)
