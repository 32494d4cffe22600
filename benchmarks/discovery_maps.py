"""Collections and the masks that each method finds in them, for `benchmarks/discovery.py`."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.discovery_rules import CERTAIN, Clusters, Ddt, SetOtsu, thresholds_by_rule
from benchmarks.discovery_scores import Columns, Found, Sums
from pipeline.registry import STAGES
from stages.algorithms.masks import pack_masks
from stages.algorithms.parts import of_figure
from stages.algorithms.whole_numbers import halves, probabilities
from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps, entry_sets
from stages.artifacts.image_index import ImageIndex
from stages.extract.params import ExtractParams
from stages.factorize.params import FactorizeParams
from stages.frame.execute import execute
from stages.frame.parallel import ordered_map
from stages.frame.resources import Resources
from stages.heatmaps.params import HeatmapsParams
from stages.index.params import IndexParams
from stages.refine.layer import LayerTasks
from stages.refine.refiners.guided import Guided
from stages.refine.refiners.refiner import Task
from store import open_artifact

DDT, KMEANS = "PCA, DDT's rule", "k-means"
RAW, ALONE, APART, JOINT = "raw", "refined, independent", "refined, apart", "refined, joint"
Levels = NDArray[Any]


@dataclass(frozen=True)
class Collection:
    """What is looked at, and for which k."""

    name: str
    index: IndexParams
    extract: ExtractParams
    ks: tuple[int, ...]
    annotated: bool = True


@dataclass(frozen=True, eq=False)
class Discovery:
    """One collection seen at some sizes: heat maps of all k and seeds, ready to be made masks of.

    Attributes
    ----------
    seconds : dict of stage to CPU seconds for all images
        And of ``ddt`` and ``kmeans``, once these are made.
    """

    of: Collection
    sizes: tuple[int, ...]
    index: ImageIndex
    activations: Activations
    maps: ConceptMaps
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        folder: Path,
        of: Collection,
        sizes: tuple[int, ...],
        seeds: Sequence[int],
        resources: Resources,
    ) -> "Discovery":
        """Run the stages up to heat maps in a folder of their own."""
        params = {
            "index": of.index,
            "extract": replace(of.extract, size=sizes),
            "factorize": FactorizeParams(k=of.ks, seeds=tuple(seeds), stability_runs=0),
            "heatmaps": HeatmapsParams(),
        }
        folder.mkdir(parents=True)
        seconds = {}
        for stage in STAGES[:4]:
            start = time.process_time()
            execute(stage, params[stage.name], folder, resources)
            seconds[stage.name] = time.process_time() - start
        index = ImageIndex.open(folder / "artifacts/index", folder)
        heatmaps = open_artifact(folder / "artifacts/heatmaps.zarr")
        activations = Activations.open(folder / "artifacts/activations.zarr")
        return cls(
            of, sizes, index, activations, ConceptMaps(heatmaps, heatmaps.layers[0]), seconds
        )

    @property
    def label(self) -> str:
        """Of the sizes: ``224 + 416: ``; nothing for the usual one."""
        return "" if self.sizes == (224,) else f"{' + '.join(map(str, self.sizes))}: "

    @cached_property
    def sets(self) -> list[list[int]]:
        """Each set's entries."""
        return entry_sets(self.maps.artifact)

    @cached_property
    def tasks(self) -> LayerTasks:
        """What the product's refiner is given."""
        set_of = [rank for rank, entries in enumerate(self.sets) for _ in entries]
        return LayerTasks.of_all(Guided(), self.index, self.maps, set_of, CERTAIN, apart=True)

    @cached_property
    def rivals(self) -> list[tuple[int, int]]:
        """Factorizations of k > 1 and the first seed: all that slow methods are tried on."""
        seed = self.maps.factorizations.shown_seed
        return [(k, seed) for k in self.of.ks if k > 1]

    @cached_property
    def objects(self) -> slice:
        """The columns of k = 1, which come first."""
        return slice(0, sum(k == 1 for k, *_ in self.maps.columns))

    def columns(self, rank: int, method: str) -> Columns:
        """What the columns of a method are."""
        problems = list(self.maps.factorizations.problems)
        if method == DDT:
            return Columns([(1, 0)], np.ones(1, np.bool_))
        within = self.maps.within[rank]
        if method == KMEANS:
            inside = [
                one.within(self._figures(rank, p[1])) for p, one in self.clusters[rank].items()
            ]
            return Columns(self.rivals, np.concatenate([of_figure(one) for one in inside]))
        if method == JOINT:
            inside = [within[self.maps.columns_of(*p)] for p in self.rivals]
            return Columns(self.rivals, np.concatenate([of_figure(one) for one in inside]))
        ones = np.ones(self.objects.stop, np.bool_)
        if ":" in method.removeprefix(self.label):
            return Columns([p for p in problems if p[0] == 1], ones)
        rest = [of_figure(within[self.maps.columns_of(*p)]) for p in problems if p[0] > 1]
        return Columns(problems, np.concatenate([ones, *rest]))

    # -- baselines, on the rows of the activations -----------------------------------------------

    def _rows(self, rank: int) -> list[NDArray[np.float32]]:
        maps = self.activations.at(self.activations.layers[0])
        of_image = {int(image): at for at, image in enumerate(maps.image_ids)}
        images = self.maps.maps.image_ids[self.sets[rank]]
        return [maps.map(of_image[int(image)]).astype(np.float32) for image in images]

    @cached_property
    def ddt(self) -> list[Ddt]:
        """By set."""
        start = time.process_time()
        found = [Ddt.of(self._rows(rank)) for rank in range(len(self.sets))]
        self.seconds["ddt"] = time.process_time() - start
        return found

    @cached_property
    def clusters(self) -> list[dict[tuple[int, int], Clusters]]:
        """By set and problem, k > 1."""
        found, start = [], time.process_time()
        for rank in range(len(self.sets)):
            rows = self._rows(rank)
            found.append({p: Clusters.of(rows, *p) for p in self.rivals})
        self.seconds["kmeans"] = time.process_time() - start
        return found

    def _figures(self, rank: int, seed: int) -> list[NDArray[np.bool_]]:
        """Which cells of each image are of the figure, as the product tells it: k = 1's heat."""
        (column,) = self.maps.columns_of(1, seed)
        threshold = 65535 * self.maps.thresholds[rank, column]
        sizes = [one.shape[:2] for one in self._rows(rank)]
        found = []
        for entry, (h, w) in zip(self.sets[rank], sizes, strict=True):
            heat = self.maps.maps.map(entry)[..., column]
            down, across = (
                ((np.arange(n) + 0.5) * side / n).astype(int)
                for n, side in zip((h, w), heat.shape, strict=True)
            )
            found.append((heat[np.ix_(down, across)] >= threshold).ravel())
        return found

    # -- masks -----------------------------------------------------------------------------------

    @cached_property
    def otsu(self) -> list[SetOtsu]:
        """By set, of the columns of k = 1."""
        maps = self.maps.maps
        return [
            SetOtsu.of(maps.map(entry)[..., self.objects] for entry in entries)
            for entries in self.sets
        ]

    def found(self, rank: int, at: int) -> Iterator[tuple[str, Found]]:
        """Masks of a set's image by every method."""
        entry = self.sets[rank][at]
        heat = self.tasks.heat(entry)
        levels, thresholds = heat
        h, w = levels.shape[:2]
        image = self.tasks.image(entry)
        bits = self.maps.bits.map(entry)
        multiples = levels / np.where(thresholds > 0, thresholds, np.inf).astype(np.float32)
        yield f"{self.label}{RAW}", Found(bits, multiples, bits)
        sure = self.tasks.certain_at(entry, heat).reshape(h, w, -1)
        task = Task(image, probabilities(levels, thresholds), self.tasks.groups)
        present = thresholds > 0
        q, ones = halves(self.tasks.refiner.refine(task), present)
        # as without `apart`: a factor's certain heat is its own for every k
        alone = pack_masks(_certain(levels, thresholds))
        yield f"{self.label}{ALONE}", _shaped(q, ones, (h, w), alone)
        if self.rivals:
            yield f"{self.label}{APART}", _shaped(*self.tasks.settled(entry, q, heat), (h, w), sure)
        if self.sizes == (224,):
            if self.rivals:
                yield JOINT, self._joint(levels, thresholds, image)
                clusters = [one.masks(at, (h, w)) for one in self.clusters[rank].values()]
                yield KMEANS, _plain(np.concatenate(clusters))
            yield DDT, _plain(self.ddt[rank].masks(at, (h, w)))
        if self.of.annotated:
            yield from self._by_rules(rank, levels[..., self.objects], image)

    def _joint(
        self, levels: Levels, thresholds: NDArray[np.float64], image: NDArray[np.uint8]
    ) -> Found:
        """Masks of one seed's factors that compete for pixels while they are refined."""
        columns = [column for p in self.rivals for column in self.maps.columns_of(*p)]
        ends = np.cumsum([k for k, _ in self.rivals]).tolist()
        groups = tuple(slice(end - k, end) for end, (k, _) in zip(ends, self.rivals, strict=True))
        mine, starts = levels[..., columns], thresholds[columns]
        task = Task(image, probabilities(mine, starts), groups)
        sure = pack_masks(_certain(mine, starts))
        q = halves(Guided(joint=True).refine(task), starts > 0)
        return _shaped(*q, (levels.shape[0], levels.shape[1]), sure)

    def _by_rules(
        self, rank: int, levels: Levels, image: NDArray[np.uint8]
    ) -> Iterator[tuple[str, Found]]:
        """Masks of k = 1 by other rules than the percentile, raw and refined, all at once."""
        percentile = self.maps.thresholds[rank, self.objects]
        rules = thresholds_by_rule(levels, percentile, self.otsu[rank])
        n, (h, w) = len(percentile), levels.shape[:2]
        every, starts = (
            np.concatenate([levels] * len(rules), axis=2),
            np.concatenate([*rules.values()]),
        )
        task = Task(image, probabilities(every, starts), (slice(0, len(starts)),))
        q = self.tasks.refiner.refine(task)
        for i, (name, mine) in enumerate(rules.items()):
            raw = pack_masks((levels >= 65535 * mine) & (mine > 0))
            yield f"{self.label}{RAW}: {name}", Found(raw, levels, raw)
            refined = halves(q[i * n : (i + 1) * n], mine > 0)
            sure = pack_masks(_certain(levels, mine))
            yield f"{self.label}{ALONE}: {name}", _shaped(*refined, (h, w), sure)

    # -- scores ----------------------------------------------------------------------------------

    def scored(self, resources: Resources) -> Iterator[tuple[int, str, str, Sums]]:
        """(set, method, half, sums); "tuned on" are the even images of each set."""
        for rank, entries in enumerate(self.sets):
            self.prepare(rank)
            sums: dict[tuple[str, str], Sums] = {}

            def of_image(at: int, rank: int = rank) -> list[tuple[str, Found]]:
                return list(self.found(rank, at))

            images = ordered_map(of_image, range(len(entries)), workers=resources.workers)
            for at, methods in enumerate(images):
                image = int(self.maps.maps.image_ids[entries[at]])
                name = list(self.maps.sets)[rank]
                truth = self.index.dataset.ground_truth(self.index.names[image], name)
                half = "held out" if at % 2 else "tuned on"
                for method, found in methods:
                    if (method, half) not in sums:
                        sums[method, half] = Sums(self.columns(rank, method))
                    sums[method, half].add(found, truth, self.index.size(image))
            for (method, half), one in sums.items():
                yield rank, method, half, one

    def prepare(self, rank: int) -> None:
        """What threads would otherwise compute several times."""
        import torch

        torch.set_num_threads(1)  # there is one for each image in work
        assert self.tasks.groups and self.tasks.parts is not None and self.tasks.shares
        if self.sizes == (224,):
            assert self.ddt
            assert self.clusters
        if self.of.annotated:
            assert self.otsu[rank]


def _certain(levels: Levels, thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """`LayerTasks.certain_at` for any thresholds, ``[h, w, columns]``."""
    least = np.maximum(CERTAIN * levels.max(axis=(0, 1)), 65535 * thresholds)
    return (levels >= np.where(thresholds > 0, least, np.inf)).astype(np.bool_)


def _shaped(
    q: NDArray[np.uint8], bits: NDArray[np.uint8], size: tuple[int, int], sure: NDArray[np.uint8]
) -> Found:
    mine = np.ascontiguousarray(bits).reshape(*size, -1)
    return Found(mine, np.ascontiguousarray(q).reshape(*size, -1), mine | sure)


def _plain(masks: NDArray[np.bool_]) -> Found:
    bits = pack_masks(np.moveaxis(masks, 0, -1))
    return Found(bits, np.moveaxis(masks, 0, -1).view(np.uint8), bits)
