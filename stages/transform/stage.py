"""transform: photographs that were in no set, and the concepts of one -> their heat maps.

Not one of the pipeline's stages: `dff transform` runs it on a folder of its own, with the factors
and the scales of the project. Writes ``heatmaps`` in the form of `stages.artifacts.concept_maps`,
quantised by the scale of the image set that the factors come from and with its thresholds, so that
a colour means what it means there; beyond that scale, values are clipped.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.concept_maps import ConceptMaps, workers_within
from stages.artifacts.image_index import ImageIndex
from stages.frame.errors import StageError
from stages.frame.parallel import ordered_map
from stages.frame.progress import track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from stages.maps.coefficients import VALUE_BYTES, heat_map, map_size
from stages.maps.write import MapPlan, Rows, write_maps
from stages.transform.params import TransformParams
from store import Artifact, Staging, create_artifact, open_artifact, write_array
from store.artifact import layer_key

# Images whose coefficients are found at once.
IMAGES_AT_ONCE = 64


def transform_stage(factors: Path, heatmaps: Path) -> Stage[TransformParams]:
    """The stage that sees new photographs with the factors of these artifacts."""
    return Stage(
        name="transform",
        version=3,
        params=TransformParams,
        reads={
            "index": Path("artifacts/index"),
            "extract": Path("artifacts/activations.zarr"),
            "factorize": factors.resolve(),
            "heatmaps": heatmaps.resolve(),
        },
        writes=Path("heatmaps.zarr"),
        run=run,
        summary="See new photographs with the factors of an image set.",
    )


def columns_of(maps: ConceptMaps, set: str, k: int) -> list[int]:
    """Columns of a set's factors, of the first seed, strongest first.

    Raises
    ------
    StageError
        When there is no such set or k; the line names those there are.
    """
    sets = list(maps.artifact.sets)
    if set not in sets:
        raise StageError(f"--set {set!r}: no such image set, there are {', '.join(sets)}")
    ks = sorted({column[0] for column in maps.columns})
    if k not in ks:
        known = ", ".join(map(str, ks))
        raise StageError(f"--k {k}: not factorized, there are {known} (factorize.k in params.yaml)")
    seed = next(seed for of, seed, _ in maps.columns if of == k)
    return maps.columns_of(k, seed)


def run(params: TransformParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    activations, factors = open_artifact(inputs["extract"]), open_artifact(inputs["factorize"])
    known = ConceptMaps(open_artifact(inputs["heatmaps"]), params.layer)
    index = ImageIndex.open(inputs["index"], inputs.project, activations)
    columns = columns_of(known, params.set, params.k)
    rank = list(factors.sets).index(params.set)
    ragged = activations.ragged(params.layer)
    W = factors.layer_array(params.layer, "factors")[rank, columns]
    scale = known.artifact.layer_array(params.layer, "scale")[rank, columns]
    thresholds = known.thresholds[rank, columns]
    long_side = int(known.artifact.attrs["long_side"])
    group = create_artifact(
        work.path,
        owner=work,
        stage="transform",
        fingerprint=work.fingerprint,
        layers=[params.layer],
        images=activations.images,
        contents=index.contents,
        sets={params.set: list(range(len(ragged)))},
        problems=[known.columns[columns[0]][:2]],
        columns=[known.columns[column] for column in columns],
        long_side=long_side,
    )
    sizes = [map_size(*index.size(int(i)), long_side) for i in ragged.image_ids]
    workers = workers_within(resources, sizes, len(columns), 2 * VALUE_BYTES)
    layer_group = group.require_group(layer_key(params.layer))
    write_array(layer_group, "scale", scale[None])
    with track("transform", len(sizes), "maps") as advance:

        def compute(entries: Sequence[int]) -> Iterator[Rows]:
            # The same batches after an interruption: least squares stops group by group of rows,
            # so other groups would give other last digits.
            asked = set(entries)
            for start in range(0, len(sizes), IMAGES_AT_ONCE):
                some = range(start, min(start + IMAGES_AT_ONCE, len(sizes)))
                wanted = [entry for entry in some if entry in asked]
                if wanted:
                    grids = _coefficients(activations, params.layer, some, W, resources)
                    one = partial(_heat_map, grids, sizes, scale)
                    yield from ordered_map(one, wanted, workers=workers)

        ids = ragged.image_ids.tolist()
        plan = MapPlan(
            sizes, ids, [range(len(ids))], len(columns), np.uint16, thresholds[None], workers
        )
        write_maps(layer_group, plan, compute, work, f"rows {params.layer}", advance)


Grids = dict[int, NDArray[np.float32]]


def _coefficients(
    activations: Artifact,
    layer: str,
    entries: Sequence[int],
    W: NDArray[np.float32],
    resources: Resources,
) -> Grids:
    """Coefficients of some images ``[h, w, k]``, by entry."""
    from stages.algorithms.nmf import transform

    ragged = activations.ragged(layer)
    rows = ragged.select(entries).compact()
    H = transform(rows, W, device=resources.torch_device(), threads=resources.workers)
    grids: Grids = {}
    first = 0
    for entry in entries:
        h, w = (int(side) for side in ragged.grid_hw[entry])
        grids[entry] = H[first : first + h * w].reshape(h, w, -1)
        first += h * w
    return grids


def _heat_map(
    grids: Grids,
    sizes: Sequence[tuple[int, int]],
    scale: NDArray[np.float64],
    entry: int,
) -> Rows:
    return heat_map(grids[entry], sizes[entry], scale)
