"""How much memory the heatmaps stage holds, counted before it begins."""

from dataclasses import replace

import numpy as np

from stages.artifacts.outline import Outline, Shapes, most_pixels
from stages.frame.memory import Needs, resident
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from stages.heatmaps.params import HeatmapsParams
from stages.maps.coefficients import HEAT_BYTES, KEPT, SAMPLE, map_size
from stages.maps.memory import map_needs

# Of maps that are not stored, a value: a quarter of them may be kept, where a sample tells little.
COUNTED_BYTES = 1


def heat_needs(store: str, sizes: Shapes, columns: int) -> Needs:
    """What making heat maps of sizes ``[entries, (h, w)]`` takes, or finding their thresholds."""
    written = map_needs(sizes, columns, HEAT_BYTES)
    if store == "full":
        return written
    return replace(
        written,
        fixed={
            "libraries": resident("numba"),
            # one set's sample, in bits and in order; what is kept, and a column of it in order
            "values that thresholds are found among": 4 * SAMPLE * columns * 4 + 2 * 4 * KEPT,
        },
        each={"values of the largest image": COUNTED_BYTES * most_pixels(sizes) * columns},
        writes=0,
    )


def foretell(
    params: HeatmapsParams, outline: Outline, inputs: Inputs, resources: Resources
) -> tuple[Outline, Needs]:
    """See `stages.frame.stage.Stage.foretell`: sizes of the maps, and what making them takes."""
    sizes = [map_size(int(h), int(w), params.long_side) for h, w in outline.sizes]
    maps = np.array(sizes, np.int64).reshape(-1, 2)
    layers = len(outline.layers)
    needs = heat_needs(params.store, maps[outline.members], outline.columns)
    rows = sum(layer.rows(outline.members) for layer in outline.layers.values())
    reads = 4 * rows * outline.columns
    writes = layers * needs.writes
    after = replace(outline, maps=maps, heat_bytes=writes or reads)
    return after, replace(needs, images=layers * needs.images, reads=reads, writes=writes)
