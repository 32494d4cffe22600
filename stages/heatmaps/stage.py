"""heatmaps: coefficients -> heat maps in image space, and the masks' thresholds.

Writes ``heatmaps.zarr`` (see `stages.artifacts.concept_maps`). Values are shares of one scale per
factor and image set, its largest coefficient: never per image, which would paint a concept onto
images that do not have it. On disk they are ``round(65535 share)``; thresholds are percentiles of
the exact shares.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from stages.artifacts.concept_maps import ConceptMaps, create_maps, entry_sets, inherited
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.frame.memory import resources_within
from stages.frame.parallel import ordered_map
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from stages.heatmaps.needs import foretell
from stages.heatmaps.params import HeatmapsParams
from stages.heatmaps.survey import survey
from stages.maps.coefficients import HEAT_BYTES, heat_map, map_size
from stages.maps.memory import map_needs
from stages.maps.write import MapPlan, Percentile, Rows, track_images, write_maps
from store import Ragged, Staging


def run(params: HeatmapsParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    factors = Factors.open(inputs["factorize"])
    index = ImageIndex.open(inputs["index"], inputs.project, factors.artifact)
    groups = create_maps(
        work,
        "heatmaps",
        inherited(factors.artifact),
        percentile=params.percentile,
        long_side=params.long_side,
    )
    sets = entry_sets(factors.artifact)
    set_of = [rank for rank, entries in enumerate(sets) for _ in entries]
    rule = Percentile(params.percentile)
    with track_images("heatmaps", len(set_of), len(factors.layers)) as advance:
        for layer in factors.layers:
            coefficients = factors.at(layer).coefficients
            scale = _surveyed(coefficients, sets, groups[layer], work, f"survey {layer}")
            ids = coefficients.image_ids.tolist()
            sizes = [map_size(*index.size(image_id), params.long_side) for image_id in ids]
            one = partial(_heat_map, coefficients, sizes, scale, set_of)
            columns = coefficients.channels
            needs = map_needs(np.array(sizes), columns, HEAT_BYTES)
            workers = resources_within("heatmaps", needs, resources).workers

            def compute(
                entries: Sequence[int], one: partial[Rows] = one, workers: int = workers
            ) -> Iterator[Rows]:
                return ordered_map(one, entries, workers=workers)

            plan = MapPlan(sizes, ids, sets, columns, np.uint16, rule, workers)
            write_maps(groups[layer], plan, compute, work, f"rows {layer}", advance)


def _surveyed(
    coefficients: Ragged,
    sets: Sequence[Sequence[int]],
    group: zarr.Group,
    work: Staging,
    key: str,
) -> NDArray[np.float64]:
    """Store what the coefficients tell before they become maps; returns the scale of every set."""
    if work.progress.get(key):
        return ConceptMaps.scale.written(group)
    found = [survey(coefficients, entries) for entries in sets]
    scale = np.array([one.scale for one in found])
    ConceptMaps.scale.write(group, scale)
    ConceptMaps.full.write(group, [one.full for one in found])
    ConceptMaps.means.write(group, np.concatenate([one.means for one in found]))
    work.checkpoint(**{key: True})
    return scale


def _heat_map(
    coefficients: Ragged,
    sizes: Sequence[tuple[int, int]],
    scale: NDArray[np.float64],
    set_of: Sequence[int],
    entry: int,
) -> Rows:
    """One entry's heat maps in shares, float32 ``[H * W, columns]``."""
    return heat_map(coefficients.map(entry), sizes[entry], scale[set_of[entry]])


HEATMAPS: Stage[HeatmapsParams] = Stage(
    name="heatmaps",
    version=4,
    params=HeatmapsParams,
    reads={"index": Path("artifacts/index"), "factorize": Path("artifacts/factors.zarr")},
    writes=Path("artifacts/heatmaps.zarr"),
    run=run,
    summary="Bring the coefficients to image space and find where masks begin.",
    foretell=foretell,
)
