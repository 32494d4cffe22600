"""refine: heat maps + images -> refined maps, by the chosen refiner (`stages.refine.refiners`).

Writes ``refined.zarr`` (see `stages.artifacts.concept_maps`): values are q, the refined probability
of the factor at that pixel, on disk ``round(255 q)``; masks and percentiles are of the exact q.
Working size is that of the heat maps.
"""

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.concept_maps import ConceptMaps, create_maps, entry_sets, inherited
from stages.artifacts.image_index import ImageIndex
from stages.artifacts.outline import Outline
from stages.frame.memory import Needs, resources_within
from stages.frame.parallel import torch_threads_kept
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from stages.maps.earlier import digests, find_earlier, recipe_of
from stages.maps.plan import MapPlan, Percentile
from stages.maps.write import note_taken, track_images, write_maps
from stages.refine.layer import LayerTasks, device_of, refine_needs
from stages.refine.params import RefineParams
from stages.refine.refiners.refiner import libraries_of
from stages.refine.work import computing, making_there
from store import Staging, open_artifact

# Modules whose code, and that which they import, decides about maps, masks and boxes.
DECISIVE = (
    "stages.refine.work",
    "stages.images.decode",
    "stages.images.resize",
    "stages.algorithms.masks",
    "stages.algorithms.mask_boxes",
    "stages.algorithms.apart",
)


def run(params: RefineParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    heatmaps = open_artifact(inputs["heatmaps"])
    index = ImageIndex.open(inputs["index"], inputs.project, heatmaps)
    recipe = recipe_of(dataclasses.asdict(params), *DECISIVE, type(params.options).__module__)
    groups = create_maps(
        work,
        "refine",
        inherited(heatmaps),
        method=params.method,
        binarise=params.binarise,
        params=dataclasses.asdict(params),
        recipe=recipe,
    )
    sets = entry_sets(heatmaps)
    set_of = [rank for rank, entries in enumerate(sets) for _ in entries]
    taken = 0
    tracking = track_images("refine", len(set_of), len(heatmaps.layers))
    loaded = libraries_of(params.options, device_of(params.options, resources))
    with tracking as advance, torch_threads_kept(loaded):
        for layer in heatmaps.layers:
            maps = ConceptMaps(heatmaps, layer)
            apart = params.parts_apart
            tasks = LayerTasks.of_all(params.options, index, maps, set_of, params.certain, apart)
            sizes = [(int(h), int(w)) for h, w in maps.maps.grid_hw]
            columns = maps.maps.channels
            within = resources_within("refine", tasks.needs(resources), resources)
            plan = MapPlan(
                sizes,
                maps.maps.image_ids.tolist(),
                sets,
                columns,
                np.uint8,
                thresholds_of(params, len(sets), columns, maps.regions),
                within.workers,
                _made_from(index, tasks),
                find_earlier(work, recipe, layer) if resources.reuse else None,
                tasks.certain_at if params.certain else None,
                tasks.settled if apart else None,
            )
            half = params.binarise == "half"
            compute, there = computing(tasks, half, within), making_there(tasks, half, within)
            key = f"rows {layer}"
            taken += write_maps(groups[layer], plan, compute, work, key, advance, there)
    note_taken("refine", taken, len(set_of) * len(heatmaps.layers))


def _made_from(index: ImageIndex, tasks: LayerTasks) -> NDArray[np.uint8]:
    """What decides an entry's refined maps besides the recipe."""
    maps = tasks.maps
    decisive = [one.tobytes() for one in maps.thresholds]
    if tasks.apart:
        decisive = [
            before + shares.strength.tobytes() + shares.of_figure.tobytes()
            for before, shares in zip(decisive, tasks.shares, strict=True)
        ]
    return digests(
        (made.tobytes(), decisive[rank], index.hashes[image_id].tobytes())
        for made, rank, image_id in zip(
            maps.made_from, tasks.set_of, maps.maps.image_ids, strict=True
        )
    )


def thresholds_of(
    params: RefineParams, sets: int, columns: int, region: NDArray[np.float64] | None = None
) -> NDArray[np.float64] | Percentile:
    """Where refined masks begin: at a half, or at the percentile of all of a set's q."""
    if params.binarise == "percentile":
        return Percentile(params.percentile, region=region)
    return np.full((sets, columns), 0.5)


def foretell(
    params: RefineParams, outline: Outline, inputs: Inputs, resources: Resources
) -> tuple[Outline, Needs]:
    """See `stages.frame.stage.Stage.foretell`: what refining takes."""
    photographs, maps = outline.sizes[outline.members], outline.maps[outline.members]
    needs = refine_needs(params.options, photographs, maps, outline.columns, resources)
    layers = len(outline.layers)
    return outline, replace(
        needs,
        images=layers * needs.images,
        reads=outline.file_bytes + outline.heat_bytes,
        writes=layers * needs.writes,
    )


REFINE: Stage[RefineParams] = Stage(
    name="refine",
    version=8,
    params=RefineParams,
    reads={
        "index": Path("artifacts/index"),
        "factorize": Path("artifacts/factors.zarr"),  # heat maps may be drawn from them
        "heatmaps": Path("artifacts/heatmaps.zarr"),
    },
    writes=Path("artifacts/refined.zarr"),
    run=run,
    foretell=foretell,
)
