"""heatmaps: coefficients -> heat maps in image space, and the masks' thresholds.

Writes ``heatmaps.zarr`` (see `stages.concept_maps`). Values are shares of one scale per factor and
image set, its largest coefficient (``scale`` float64 ``[sets, columns]``): never per image, which
would paint a concept onto images that do not have it. On disk they are ``round(65535 share)``;
thresholds are percentiles of the exact shares.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.concept_maps import entry_sets, inherited_attrs, workers_within
from stages.image_index import ImageIndex
from stages.map_of_image import VALUE_BYTES, heat_map, map_size
from stages.parallel import ordered_map
from stages.progress import track
from stages.stage import Inputs, Resources, Stage, param
from stages.write_maps import MapPlan, Percentile, Rows, write_maps
from store import Ragged, Staging, create_artifact, open_artifact, write_array
from store.artifact import layer_key


@dataclass(frozen=True)
class HeatmapsParams:
    """How heat maps are brought to image space, and where masks begin."""

    long_side: int = param(224, "pixels of the maps' long side; 0: the image's own size")
    percentile: float = param(75.0, "masks begin at this percentile of the set's entries")

    def __post_init__(self) -> None:
        if self.long_side < 0:
            raise ValueError(f"long_side: {self.long_side} must be at least 0")
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile: {self.percentile} is not between 0 and 100")


def run(params: HeatmapsParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.stage.Stage.run`."""
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
    code=(
        "stages/heatmaps.py",
        "stages/map_of_image.py",
        "stages/concept_maps.py",
        "stages/write_maps.py",
        "stages/algorithms/heatmap.py",
        "stages/algorithms/masks.py",
        "stages/algorithms/mask_boxes.py",
        "store",
    ),
)
