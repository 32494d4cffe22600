"""How much memory the heatmaps stage holds, counted before it begins."""

from dataclasses import replace

import numpy as np

from stages.artifacts.outline import Outline
from stages.frame.memory import Needs
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from stages.heatmaps.params import HeatmapsParams
from stages.maps.coefficients import HEAT_BYTES, map_size
from stages.maps.memory import map_needs


def foretell(
    params: HeatmapsParams, outline: Outline, inputs: Inputs, resources: Resources
) -> tuple[Outline, Needs]:
    """See `stages.frame.stage.Stage.foretell`: sizes of the maps, and what making them takes."""
    sizes = [map_size(int(h), int(w), params.long_side) for h, w in outline.sizes]
    after = replace(outline, maps=np.array(sizes, np.int64).reshape(-1, 2))
    layers = len(outline.layers)
    needs = map_needs(after.maps[outline.members], outline.columns, HEAT_BYTES)
    coefficients = sum(layer.rows(outline.members) for layer in outline.layers.values())
    return after, replace(
        needs,
        images=layers * needs.images,
        reads=4 * coefficients * outline.columns,
        writes=layers * needs.writes,
    )
