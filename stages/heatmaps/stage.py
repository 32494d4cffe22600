"""heatmaps: coefficients -> heat maps in image space, and the masks' thresholds.

Writes ``heatmaps.zarr`` (see `stages.artifacts.concept_maps`). Values are shares of one scale per
factor and image set, its largest coefficient (``scale`` float64 ``[sets, columns]``): never per
image, which would paint a concept onto images that do not have it. On disk they are ``round(65535
share)``; thresholds are percentiles of the exact shares.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.concept_maps import entry_sets, inherited_attrs, workers_within
from stages.artifacts.image_index import ImageIndex
from stages.frame.parallel import ordered_map
from stages.frame.progress import track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from stages.heatmaps.params import HeatmapsParams
from stages.maps.coefficients import VALUE_BYTES, heat_map, map_size
from stages.maps.write import MapPlan, Percentile, Rows, write_maps
from store import Ragged, Staging, create_artifact, open_artifact, write_array
from store.artifact import layer_key


def run(params: HeatmapsParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    factors = open_artifact(inputs["factorize"])
    index = ImageIndex.open(inputs["index"], inputs.project, factors)
    group = create_artifact(
        work.path,
        owner=work,
        stage="heatmaps",
        fingerprint=work.fingerprint,
        **inherited_attrs(factors),
        percentile=params.percentile,
        long_side=params.long_side,
    )
    sets = entry_sets(factors)
    set_of = [rank for rank, entries in enumerate(sets) for _ in entries]
    rule = Percentile(params.percentile)
    with track("heatmaps", 3 * len(set_of) * len(factors.layers), "maps") as advance:
        for layer in factors.layers:
            coefficients = factors.ragged(layer)
            scale = np.array([_largest(coefficients, entries) for entries in sets])
            layer_group = group.require_group(layer_key(layer))
            write_array(layer_group, "scale", scale)
            ids = coefficients.image_ids.tolist()
            sizes = [map_size(*index.size(image_id), params.long_side) for image_id in ids]
            one = partial(_heat_map, coefficients, sizes, scale, set_of)
            columns = coefficients.channels
            workers = workers_within(resources, sizes, columns, 2 * VALUE_BYTES)

            def compute(
                entries: Sequence[int], one: partial[Rows] = one, workers: int = workers
            ) -> Iterator[Rows]:
                return ordered_map(one, entries, workers=workers)

            plan = MapPlan(sizes, ids, sets, columns, np.uint16, rule, workers)
            write_maps(layer_group, plan, compute, work, f"rows {layer}", advance)


def _largest(coefficients: Ragged, entries: Sequence[int]) -> NDArray[np.float64]:
    """The largest coefficient of each column over a set; interpolation never exceeds it."""
    largest = np.zeros(coefficients.channels)
    for block in coefficients.select(entries).blocks():
        np.maximum(largest, block.max(axis=0), out=largest)
    return largest


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
    version=3,
    params=HeatmapsParams,
    reads={"index": Path("artifacts/index"), "factorize": Path("artifacts/factors.zarr")},
    writes=Path("artifacts/heatmaps.zarr"),
    run=run,
    summary="Bring the coefficients to image space and find where masks begin.",
)
