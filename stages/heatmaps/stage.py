"""heatmaps: coefficients -> heat maps in image space, and the masks' thresholds.

Writes ``heatmaps.zarr`` (see `stages.artifacts.concept_maps`). Values are shares of one scale per
factor and image set, its largest coefficient: never per image, which would paint a concept onto
images that do not have it. As whole numbers they are ``round(65535 share)``; thresholds are
percentiles of the exact shares.

With ``store: none`` the maps themselves are not written: whoever reads them draws them from the
factors (`stages.artifacts.drawn_maps`). The thresholds are the same, by the same counts.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.concept_maps import (
    ConceptMaps,
    MapFacts,
    create_maps,
    entry_sets,
    inherited,
)
from stages.artifacts.factors import Factors, LayerFactors
from stages.artifacts.image_index import ImageIndex
from stages.frame.compiling import told_of_compiling
from stages.frame.memory import resources_within
from stages.frame.progress import TOLD_EVERY
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from stages.heatmaps.needs import foretell, heat_needs
from stages.heatmaps.params import HeatmapsParams
from stages.heatmaps.survey import made_from, surveys
from stages.maps.coefficients import HeatMaps, grids_of, map_size
from stages.maps.earlier import find_earlier, recipe_of
from stages.maps.made_there import There
from stages.maps.plan import MapPlan, Percentile
from stages.maps.write import Advance, note_taken, track_images, write_maps
from store import Staging

if TYPE_CHECKING:
    import zarr

# Modules whose code, and that which they import, decides about maps, masks and boxes.
DECISIVE = ("stages.maps.coefficients", "stages.maps.finished", "stages.algorithms.masks")


def run(params: HeatmapsParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    factors = Factors.open(inputs["factorize"])
    index = ImageIndex.open(inputs["index"], inputs.project, factors.artifact)
    recipe = recipe_of(params.long_side, *DECISIVE)
    facts: MapFacts = {
        "percentile": params.percentile,
        "long_side": params.long_side,
        "recipe": recipe,
    }
    if params.store == "none":
        # where readers find what they draw the maps from
        beside = os.path.relpath(inputs["factorize"], work.out.parent)
        facts |= {
            "factors": Path(beside).as_posix(),
            "drawn_from": factors.artifact.fingerprint,
            "not_stored": "maps are drawn from the factors (Results.heat, or ConceptMaps of "
            "stages.artifacts.concept_maps); heatmaps.store: full writes them",
        }
    groups = create_maps(work, "heatmaps", inherited(factors.artifact), **facts)
    sets = entry_sets(factors.artifact)
    set_of = [rank for rank, entries in enumerate(sets) for _ in entries]
    taken = 0
    with track_images("heatmaps", len(set_of), len(factors.layers)) as advance:
        for layer in factors.layers:
            of = factors.at(layer)
            coefficients = of.coefficients
            inside = [name in factors.within for name in factors.sets]
            scale, region = _surveyed(of, inside, groups[layer], work, f"survey {layer}", resources)
            held = of.held_thresholds if factors.held_percentile == params.percentile else None
            ids = coefficients.image_ids.tolist()
            sizes = [map_size(*index.size(image_id), params.long_side) for image_id in ids]
            columns = coefficients.channels
            needs = heat_needs(params.store, np.array(sizes), columns)
            workers = resources_within("heatmaps", needs, resources).workers
            grids, spread = partial(grids_of, coefficients), resources.spread
            maps = HeatMaps(grids, sizes, scale, set_of, workers, spread)
            rule = Percentile(params.percentile, held, region)
            digests = made_from(coefficients, sizes, scale, set_of, spread)
            if params.store == "none":
                ConceptMaps.sizes.write(groups[layer], sizes)
                ConceptMaps.made_from.write(groups[layer], digests)
                _write_thresholds(groups[layer], rule, sets, maps, work, f"rows {layer}", advance)
                continue
            plan = MapPlan(
                sizes,
                ids,
                sets,
                columns,
                np.uint16,
                rule,
                workers,
                digests,
                find_earlier(work, recipe, layer) if resources.reuse else None,
            )
            there = There(spread, maps, f"heatmaps {layer}") if spread else None
            taken += write_maps(groups[layer], plan, maps, work, f"rows {layer}", advance, there)
    note_taken("heatmaps", taken, len(set_of) * len(factors.layers))


def _write_thresholds(
    group: zarr.Group,
    rule: Percentile,
    sets: Sequence[Sequence[int]],
    maps: HeatMaps,
    work: Staging,
    key: str,
    advance: Advance,
) -> None:
    """Find where the masks of every set begin, one after the other; an interrupted run goes on."""

    def seen(images: int) -> None:
        advance(Fraction(images, 2))

    known: list[list[float]] = work.progress.get(key, [])
    begun = len(known)
    counted = maps.percentiles(
        (entries, rule.of_set(rank), seen)
        for rank, entries in enumerate(sets)
        if rank >= begun and rule.counted(rank)
    )
    done, total, told = 0, len(maps.sizes), -math.inf
    with told_of_compiling(), closing(counted):
        for rank, entries in enumerate(sets):
            done += len(entries)
            spared = partial(seen, 2 * len(entries))
            if rank < len(known):
                spared()
                continue
            found = rule.thresholds(rank, lambda: next(counted), spared)
            known.append(found.tolist())
            if done == total or time.monotonic() - told >= TOLD_EVERY:
                work.checkpoint(**{key: known}, done=done, total=total, unit="images")
                told = time.monotonic()
    columns = maps.scales.shape[1]
    ConceptMaps.thresholds.write(group, np.array(known, np.float64).reshape(-1, columns))


def _surveyed(
    factors: LayerFactors,
    inside: Sequence[bool],
    group: zarr.Group,
    work: Staging,
    key: str,
    resources: Resources,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Store what the coefficients tell before they become maps; scale and region of every set."""
    if work.progress.get(key):
        region = ConceptMaps.region.written(group) if any(inside) else None
        return ConceptMaps.scale.written(group), region
    found = surveys(factors, inside, resources.spread)
    scale = np.array([one.scale for one in found])
    ConceptMaps.scale.write(group, scale)
    ConceptMaps.full.write(group, [one.full for one in found])
    ConceptMaps.strength.write(group, [one.strength for one in found])
    ConceptMaps.within.write(group, [one.within for one in found])
    ConceptMaps.means.write(group, np.concatenate([one.means for one in found]))
    region = np.array([one.region for one in found])
    if any(inside):
        ConceptMaps.region.write(group, region)
    work.checkpoint(**{key: True})
    return scale, region if any(inside) else None


HEATMAPS: Stage[HeatmapsParams] = Stage(
    name="heatmaps",
    version=7,
    params=HeatmapsParams,
    reads={"index": Path("artifacts/index"), "factorize": Path("artifacts/factors.zarr")},
    writes=Path("artifacts/heatmaps.zarr"),
    run=run,
    foretell=foretell,
)
