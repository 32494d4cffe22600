"""How much memory a factorization holds, counted before it begins."""

from dataclasses import replace
from typing import TYPE_CHECKING

from stages.algorithms.normalised import CENTRE, NONE
from stages.artifacts.outline import Outline, most_pixels
from stages.artifacts.within import resolved, root_of
from stages.frame.memory import Needs, resident
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from store.layout import SHARD_BYTES

if TYPE_CHECKING:
    from stages.factorize.params import FactorizeParams

# Rows of a block as they are read: about this many bytes of float32.
BLOCK_BYTES = 32 * 2**20


def set_needs(
    params: "FactorizeParams",
    shape: tuple[int, int],
    density: float,
    block_rows: int,
    of_layer: tuple[int, int],
    resources: Resources,
    libraries: int,
) -> Needs:
    """What one image set takes when its rows are streamed; what is left may keep rows in memory.

    Parameters
    ----------
    shape : (rows, channels)
        Of the set.
    density : float
        Share of non-zeros of sparse blocks; 1 for dense ones.
    block_rows : int
        Rows that are read at once.
    of_layer : (rows, cells)
        Rows of all sets together, and cells of the largest map that several sizes combine to; 0
        for one size.
    libraries : int
        Bytes of the process before it holds any rows.
    """
    from stages.algorithms.nmf.budget import bytes_needed

    passes = bytes_needed(
        shape,
        density,
        params.k,
        params.seeds,
        solver=params.solver,
        block_rows=block_rows,
        threads=resources.workers,
    )
    columns = len(params.factorizations.columns)
    row_bytes = round(min(8 * density, 4) * shape[1])
    fixed = {
        "libraries": libraries,
        f"passes over {shape[0]} rows with {columns} factors": passes,
        # the writer of the coefficients holds an encoded shard
        "coefficients": min(SHARD_BYTES, 4 * of_layer[0] * columns),
    }
    if params.normalise != NONE:
        fixed["a block as it is and normalised"] = 2 * min(block_rows, shape[0]) * row_bytes
    if of_layer[1]:
        # float64: what is combined, the next size and what brings it to the finest grid
        fixed["maps of several sizes"] = 5 * 8 * of_layer[1] * columns
    return Needs(fixed, remedy="ask for fewer k and seeds, or fewer --workers")


def library_bytes() -> int:
    """Bytes of the process with what a factorization needs."""
    return resident("numba", "stages.algorithms.nmf", "scipy.sparse", "scipy.optimize")


def foretell(
    params: "FactorizeParams", outline: Outline, inputs: Inputs, resources: Resources
) -> tuple[Outline, Needs]:
    """See `stages.frame.stage.Stage.foretell`: of the set with the most rows.

    Image sets within factors are sets like others from here on; what their rows are weighted by is
    a file in the scratch.
    """
    finest = {name: layer.finest for name, layer in outline.layers.items()}
    if outline.sets:
        within = resolved(params.within, outline.sets, params.k)
        inside = {name: outline.sets[root_of(name, within)] for name in within}
        outline = replace(outline, sets={**outline.sets, **inside})
    after = replace(outline, columns=len(params.factorizations.columns), layers=finest)
    worst, libraries = Needs({}), library_bytes()
    reads = writes = 0
    for name, layer in outline.layers.items():
        several = layer.several
        everything = layer.rows(outline.members)
        reads += 2 * everything * layer.channels
        writes += 4 * everything * after.columns
        if several:
            writes += 4 * finest[name].rows(outline.members) * after.columns
        of_layer = everything, most_pixels(finest[name].grids) if several else 0
        block = max(1, BLOCK_BYTES // (4 * layer.channels))
        for ids in outline.sets.values():
            shape = layer.rows(ids), layer.channels
            density = 1.0 if params.normalise == CENTRE else layer.density
            needs = set_needs(params, shape, density, block, of_layer, resources, libraries)
            worst = max(worst, needs, key=lambda one: one.least)
    images = len(outline.members) * len(outline.layers)
    return after, replace(worst, images=images, reads=reads, writes=writes)
