"""transform: photographs that were in no set, and the concepts of one -> their heat maps.

Not one of the pipeline's stages: `dff transform` runs it on a folder of its own, with the factors
and the scales of the project. Writes ``heatmaps`` in the form of `stages.artifacts.concept_maps`,
quantised by the scale of the image set that the factors come from and with its thresholds, so that
a colour means what it means there; beyond that scale, values are clipped. `dff transform` refines
them as the project's own are refined, and puts tables and masks beside them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.normalised import normalised, weighted
from stages.algorithms.scales import combined, shown, split
from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps, MapsOf, create_maps
from stages.artifacts.factorizations import Factorizations
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.frame.errors import StageError
from stages.frame.memory import resources_within
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from stages.maps.coefficients import HEAT_BYTES, Grid, HeatMaps, map_size
from stages.maps.earlier import digests
from stages.maps.memory import map_needs
from stages.maps.plan import MapPlan
from stages.maps.write import track_images, write_maps
from stages.transform.params import TransformParams
from store import Ragged, Staging

REFINED = Path("refined.zarr")  # beside the heat maps
# Images whose coefficients are found at once.
IMAGES_AT_ONCE = 64


def with_factors_of(known: Inputs) -> Stage[TransformParams]:
    """The stage in a folder of its own, with the factors and heat maps of a project."""
    theirs = {name: known[name].resolve() for name in ("factorize", "heatmaps")}
    return replace(TRANSFORM, reads={**TRANSFORM.reads, **theirs})


def check_columns(maps: ConceptMaps, set: str, k: int) -> None:
    """Refuse a set or k whose factors are not there.

    Raises
    ------
    StageError
        The line names those there are.
    """
    if set not in maps.sets:
        raise StageError(f"--set {set!r}: no such image set, there are {', '.join(maps.sets)}")
    ks = sorted(maps.factorizations.ks)
    if k not in ks:
        known = ", ".join(map(str, ks))
        raise StageError(f"--k {k}: not factorized, there are {known} (factorize.k in params.yaml)")


def check_recipe(made: Activations, seen: Activations, layer: str) -> None:
    """Refuse activations that another network or other pixels would give.

    Raises
    ------
    StageError
    """
    if made.recipes[layer] != seen.recipes[layer]:
        raise StageError(
            f"{layer}: the weights, or something else that decides about activations, are not what "
            "the factors were made with; `dff run` makes them anew"
        )


def run(params: TransformParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    activations = Activations.open(inputs["extract"])
    factors = Factors.open(inputs["factorize"])
    known = ConceptMaps.open(inputs["heatmaps"])[params.layer]
    index = ImageIndex.open(inputs["index"], inputs.project, activations.artifact)
    check_columns(known, params.set, params.k)
    factorizations = _needed(known.factorizations, params.k)
    groups_of = [known.columns_of(k) for k in factorizations.ks]
    columns = [column for group in groups_of for column in group]
    rank = list(factors.sets).index(params.set)
    ragged = activations.at(params.layer)
    combining = None
    if activations.several:
        of_layer = factors.at(params.layer)
        largest, top = of_layer.largest[rank][:, columns], of_layer.top[rank, columns]
        combining = Combining(activations.grids(params.layer), largest, top)
    W = [factors.at(params.layer).W[rank, group] for group in groups_of]
    mean = factors.mean(params.layer, rank)
    how, above = (factors.normalise, mean), _above(factors, params.layer, params.set)
    seen = _Seen(ragged, W, how, factors.nonneg, combining, resources, above)
    scale, thresholds = known.scale[rank, columns], known.thresholds[rank, columns]
    long_side = known.facts["long_side"]
    of: MapsOf = {
        "layers": [params.layer],
        "images": activations.images,
        "contents": index.contents,
        "sets": {params.set: range(len(ragged))},
        "factorizations": factorizations,
    }
    groups = create_maps(work, "transform", of, long_side=long_side)
    sizes = [map_size(*index.size(int(i)), long_side) for i in ragged.image_ids]
    needs = map_needs(np.array(sizes), len(columns), HEAT_BYTES)
    workers = resources_within("transform", needs, resources).workers
    ConceptMaps.scale.write(groups[params.layer], scale[None])
    for array in (ConceptMaps.full, ConceptMaps.strength, ConceptMaps.within):
        array.write(groups[params.layer], getattr(known, array.name)[rank, columns][None])
    means, made_from = _survey(seen, sizes, scale)
    ConceptMaps.means.write(groups[params.layer], means)
    with track_images("transform", len(sizes)) as advance:

        def grids(entries: Sequence[int]) -> Iterator[Grid]:
            # The same batches after an interruption: least squares stops group by group of rows,
            # so other groups would give other last digits.
            asked = set(entries)
            for start in range(0, len(sizes), IMAGES_AT_ONCE):
                some = range(start, min(start + IMAGES_AT_ONCE, len(sizes)))
                wanted = [entry for entry in some if entry in asked]
                if wanted:
                    found = seen.coefficients(some)
                    yield from (found[entry] for entry in wanted)

        maps = HeatMaps(grids, sizes, scale[None], [0] * len(sizes), workers)
        ids = ragged.image_ids.tolist()
        plan = MapPlan(
            sizes,
            ids,
            [range(len(ids))],
            len(columns),
            np.uint16,
            thresholds[None],
            workers,
            made_from,
        )
        write_maps(groups[params.layer], plan, maps, work, f"rows {params.layer}", advance)


def _above(factors: Factors, layer: str, name: str) -> list[tuple[NDArray[np.float32], int]]:
    """W and number of each factor that a set lies within, the outermost first."""
    one = factors.within.get(name)
    if one is None:
        return []
    rank, columns = list(factors.sets).index(one.parent), factors.factorizations.columns_of(one.k)
    W = factors.at(layer).W[rank, columns]
    return [*_above(factors, layer, one.parent), (W, one.factor)]


def _needed(known: Factorizations, k: int) -> Factorizations:
    """Of the shown seed: what is asked for, and the figure that shares out its masks' pixels."""
    ks = [one for one in known.ks if one in (1, k)]
    return Factorizations.every(ks, [known.shown_seed])


Grids = dict[int, NDArray[np.float32]]


class Combining(NamedTuple):
    """What it takes to make one map of several sizes; see `stages.algorithms.scales`.

    Attributes
    ----------
    grids : int64 [images, sizes, 2]
        Of the photographs.
    largest : float64 [sizes, k]
    top : float64 [k]
        Of the image set that the factors come from.
    """

    grids: NDArray[np.int64]
    largest: NDArray[np.float64]
    top: NDArray[np.float64]


@dataclass(frozen=True)
class _Seen:
    """Photographs as the factors W ``[k, channels]`` of some factorizations see them.

    `normalise` as `stages.algorithms.normalised.normalised` has it, with the factors' own mean.
    """

    ragged: Ragged
    W: Sequence[NDArray[np.float32]]
    normalise: tuple[str, NDArray[np.float32] | None]
    nonneg: str | None
    combining: Combining | None
    resources: Resources
    above: Sequence[tuple[NDArray[np.float32], int]] = ()  # see `_above`

    def coefficients(self, entries: Sequence[int]) -> Grids:
        """Coefficients of some images ``[h, w, columns]``, by entry; of several sizes, combined."""
        from stages.algorithms.nmf import transform
        from stages.algorithms.nmf.shares import shares_of_rows

        rows = normalised(self.ragged.select(entries).compact(), *self.normalise)
        device, threads = self.resources.torch_device(), self.resources.workers
        how: dict[str, Any] = {"nonneg": self.nonneg, "device": device, "threads": threads}
        weights = np.ones(rows.shape[0], np.float32)
        of = rows
        for W, factor in self.above:
            weights = weights * shares_of_rows(transform(of, W, **how), W)[:, factor]
            of = weighted(rows, weights)
        of_each = [transform(of, W, **how) for W in self.W]
        H = np.concatenate(of_each, axis=1)
        grids: Grids = {}
        first = 0
        for entry in entries:
            h, w = (int(side) for side in self.ragged.grid_hw[entry])
            found = H[first : first + h * w]
            grids[entry] = (
                self._combined(entry, found) if self.combining else found.reshape(h, w, -1)
            )
            first += h * w
        return grids

    def _combined(self, entry: int, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.combining
        maps = split(rows, self.combining.grids[entry])
        return shown(combined(maps, self.combining.largest), self.combining.top)


def _survey(
    seen: _Seen, sizes: Sequence[tuple[int, int]], scale: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Each image's mean coefficients as shares of the scale, and what decides its maps.

    A pass of its own: maps that an earlier run has written are not computed again.

    Returns
    -------
    means : float64 [images, k]
    made_from : uint8 [images, 32]
    """
    divisor = np.where(scale > 0, scale, 1.0)
    means, made_from = [], []
    for start in range(0, len(sizes), IMAGES_AT_ONCE):
        some = range(start, min(start + IMAGES_AT_ONCE, len(sizes)))
        for entry, grid in seen.coefficients(some).items():
            means.append(np.clip(grid / divisor, 0, 1).mean(axis=(0, 1)))
            shapes = repr((grid.shape, sizes[entry]))
            made_from.append(digests([(shapes.encode(), scale.tobytes(), grid.tobytes())]))
    return np.array(means), np.concatenate(made_from)


TRANSFORM: Stage[TransformParams] = Stage(
    name="transform",
    version=5,
    params=TransformParams,
    reads={
        "index": Path("artifacts/index"),
        "extract": Path("artifacts/activations.zarr"),
        "factorize": Path("artifacts/factors.zarr"),
        "heatmaps": Path("artifacts/heatmaps.zarr"),
    },
    writes=Path("heatmaps.zarr"),
    run=run,
    clustered=False,
)
