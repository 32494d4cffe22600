"""Results of a project, for notebooks and scripts.

::

    from pipeline.results import open_results, run

    run("project")                      # the pipeline, from Python
    r = open_results("project")
    r.sets, r.ks, r.layers
    r.table().query("name == 'head' and mean > 0.1")
    r.overlay("images/cow/1.jpg", k=3)

Images are called as the index calls them (`Results.images`). What is said of "its set" can be left
out for an image that is in one set alone. Layers and seeds are the first unless said otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.bring import bring_activations
from pipeline.find import find_images, known
from pipeline.meaning import Explanations, Meaning
from pipeline.registry import BY_NAME
from pipeline.resources import make_resources
from pipeline.run_project import prepared, run_project
from stages.artifacts.concept_maps import SIDES, ConceptMaps, resized_columns
from stages.artifacts.evaluation import KINDS, MEASURED, Evaluation
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.frame.errors import StageError
from stages.frame.execute import gather_inputs

if TYPE_CHECKING:
    from stages.drawing.figures import Sheet

__all__ = ["Results", "bring_activations", "open_results", "run"]

Kind = Literal["raw", "refined"]


def open_results(project: str | Path = ".") -> "Results":
    """Open what a project's stages have made, up to explain; the report is not needed.

    Raises
    ------
    ArtifactMissing
        When one is not there; the line names the stage to run.
    StageError
        When they were made from different images.
    """
    inputs = gather_inputs(BY_NAME["report"], Path(project))
    factors = Factors.open(inputs["factorize"])
    return Results(
        project=Path(project),
        index=ImageIndex.open(inputs["index"], inputs.project, factors.artifact),
        learned=factors,
        maps={"raw": ConceptMaps.open(inputs["heatmaps"], inputs["evaluate"] / MEASURED),
              "refined": ConceptMaps.open(inputs["refine"])},
        evaluation=Evaluation.open(inputs["evaluate"]),
        explained=Explanations.open(inputs["explain"]),
    )  # fmt: skip


def run(
    project: str | Path = ".",
    *,
    device: str = "auto",
    workers: int = 0,
    memory: str = "auto",
    cluster: str = "",
    store: str = "",
    force: bool = False,
) -> "Results":
    """Run every stage that is not up to date, as `dff run` without DVC, with the same resources.

    Raises
    ------
    ParamsError, ResourceError, StageError, StoreError
        One line that says what to mend. A stage that fails has said why on the standard error.
    """
    resources = prepared(Path(project), device, workers, memory, cluster, store, force=force)
    run_project(Path(project), resources, force=force)
    return open_results(project)


@dataclass(frozen=True)
class Results(Meaning):
    """A project's results, open for reading; made by `open_results`.

    Attributes
    ----------
    project : Path
    index : ImageIndex
    learned : Factors
    maps : dict of "raw" or "refined" to {layer: ConceptMaps}
    evaluation : Evaluation
    """

    project: Path
    index: ImageIndex
    learned: Factors
    maps: dict[str, dict[str, ConceptMaps]]
    evaluation: Evaluation

    @property
    def sets(self) -> list[str]:
        """Names of the image sets."""
        return self.learned.own_sets

    @property
    def inside(self) -> list[str]:
        """What was factorized within factors, ``SET/K/FACTOR``: named as an image set is."""
        return list(self.learned.within)

    @property
    def ks(self) -> list[int]:
        """Numbers of factors, ascending."""
        return sorted(self.learned.factorizations.ks)

    @property
    def layers(self) -> list[str]:
        """Tapped layers."""
        return self.learned.layers

    @property
    def seeds(self) -> list[int]:
        """Seeds, the shown one first."""
        return self.learned.factorizations.seeds

    def images(self, set: str) -> list[str]:
        """Names of the images of a set."""
        entries = self.learned.sets[known("set", set, self._every)]
        return [self.index.names[i] for i in self.learned.image_ids[entries]]

    def table(self) -> pd.DataFrame:
        """Where every concept is: a row per layer, set, image, k, seed and factor.

        ``mean`` and ``peak`` are shares of the factor's largest value in its set, areas are shares
        of the image, centroid (x, y) and box are of the refined mask in pixels of the image (NaN
        where it is empty), ``name`` is that of labels.yaml.
        """
        return self.evaluation.concepts

    def scores(self) -> pd.DataFrame:
        """Scores of every factor of the annotated sets, in per cent; see docs/method.md."""
        return self.evaluation.scores

    def factor_table(self) -> pd.DataFrame:
        """A row per factor: its share of the energy, ``stability`` (its mean cosine with its
        counterparts in runs on halves of the set; NaN where none were asked for), sparsity."""
        return self.evaluation.factors

    def find(
        self, set: str, concept: str, k: int = 0, *, layer: str | None = None
    ) -> "pd.Series[float]":
        """Mean share of a concept by image name, strongest first; see `pipeline.find`."""
        known("set", set, self._every)
        if k:
            self._columns(k, None)
        layer = self._layer(layer)
        return find_images(self.evaluation, set, concept, k, layer, self.seeds[0])

    def names(self, set: str, k: int, *, layer: str | None = None) -> list[str]:
        """What the factors are called, empty without a label; as of the last evaluation."""
        of = {"layer": self._layer(layer), "set": known("set", set, self._every), "k": k,
              "seed": self.seeds[0], "image": self.images(set)[0]}  # fmt: skip
        found = self.evaluation.rows(Evaluation.concepts, ["name"], of)
        return [str(name) for name in found["name"]]

    def factors(
        self, set: str, k: int, *, layer: str | None = None, seed: int | None = None
    ) -> NDArray[np.float32]:
        """W: unit rows, strongest first, float32 ``[k, channels]``."""
        rank = self._every.index(known("set", set, self._every))
        return self.learned.at(self._layer(layer)).W[rank, self._columns(k, seed)]

    def coefficients(
        self,
        image: str,
        k: int,
        *,
        set: str | None = None,
        layer: str | None = None,
        seed: int | None = None,
    ) -> NDArray[np.float32]:
        """H of one image on the network's grid, float32 ``[h, w, k]``; several sizes combined."""
        grid = self.learned.at(self._layer(layer)).coefficients.map(self._entry(image, set)[1])
        return grid[..., self._columns(k, seed)]

    def heat(
        self,
        image: str,
        k: int,
        *,
        set: str | None = None,
        maps: Kind = "raw",
        layer: str | None = None,
        seed: int | None = None,
    ) -> NDArray[np.float32]:
        """Heat maps in pixels of the image, float32 ``[k, height, width]`` from 0 to 1.

        Raw ones are shares of the factor's largest value in the set, refined ones probabilities.
        """
        from stages.algorithms.heatmap import dequantise

        entry, size = self._entry(image, set)[1], self._size(image)
        values = self._maps(maps, layer).maps.map(entry)[..., self._columns(k, seed)]
        return resized_columns(dequantise(values), size)

    def mask(
        self,
        image: str,
        k: int,
        *,
        set: str | None = None,
        maps: Kind = "refined",
        layer: str | None = None,
        seed: int | None = None,
    ) -> NDArray[np.bool_]:
        """Masks in pixels of the image, bool ``[k, height, width]``."""
        from stages.algorithms.masks import pack_masks, resize_masks, unpack_masks

        entry, of = self._entry(image, set)[1], self._maps(maps, layer)
        # these columns only: there may be hundreds, of other k and seeds
        masks = unpack_masks(of.bits.map(entry), len(of.columns))[..., self._columns(k, seed)]
        sized = unpack_masks(resize_masks(pack_masks(masks), self._size(image)), k)
        return np.ascontiguousarray(np.moveaxis(sized, -1, 0))

    def boxes(
        self,
        image: str,
        k: int,
        *,
        set: str | None = None,
        maps: Kind = "refined",
        layer: str | None = None,
        seed: int | None = None,
    ) -> list[NDArray[np.float64]]:
        """Boxes around the masks' components, for each factor float64 ``[components, 4]``.

        (top, left, bottom, right) in 0-based pixels of the image, half-open; largest component
        first, without specks (`evaluate.least_area`).
        """
        self._columns(k, seed)
        of = {"layer": self._layer(layer), "set": self._entry(image, set)[0], "image": image,
              "k": k, "seed": self.seeds[0] if seed is None else seed,
              "maps": known("maps", maps, KINDS)}  # fmt: skip
        found = self.evaluation.rows(Evaluation.boxes, ["factor", "rank", *SIDES], of)
        found = found.sort_values("rank", kind="stable")
        return [found.loc[found["factor"] == j, list(SIDES)].to_numpy(np.float64) for j in range(k)]

    def photo(self, image: str) -> NDArray[np.uint8]:
        """The photograph as a person sees it, uint8 ``[height, width, 3]``."""
        return self.index.rgb(self._image_id(image))

    def overlay(
        self,
        image: str,
        k: int,
        *,
        set: str | None = None,
        maps: Kind = "refined",
        layer: str | None = None,
    ) -> "Sheet":
        """One photograph with its concepts in the report's colours, a matplotlib figure."""
        of = self._entry(image, set)[0]
        return self.figure(of, [k], [image], maps=maps, layer=layer, height=4.0)

    def figure(
        self,
        set: str,
        ks: Sequence[int] = (),
        images: Sequence[str] = (),
        *,
        maps: Kind = "refined",
        layer: str | None = None,
        height: float = 1.1,
        dpi: float = 300,
    ) -> "Sheet":
        """Rows of k and columns of images, like the paper's Figure 3; a matplotlib figure.

        Parameters
        ----------
        ks, images
            By default all k, and the first five images of the set.
        maps
            Raw: colours by strength. Refined: masks with outlines.
        height : float
            Of a row, inches. Photographs keep their own resolution, but for more than `dpi`.
        """
        # imported here: arrays need no drawing
        from pipeline.figure import concept_figure
        from stages.drawing.palette import palettes

        rank = self._every.index(known("set", set, self._every))
        layer = self._layer(layer)
        chosen = list(ks) or self.ks
        for k in chosen:
            self._columns(k, None)
        entries = [self._entry(image, set)[1] for image in images or self.images(set)[:5]]
        found = palettes(self.learned, self.maps["raw"][layer], rank)
        return concept_figure(
            [found[k] for k in chosen],
            [self.names(set, k, layer=layer) for k in chosen],
            self._maps(maps, layer),
            rank,
            entries,
            self.index,
            maps,
            height=height,
            dpi=dpi,
        )

    def export(
        self,
        format: str,
        out: str | Path,
        *,
        maps: Kind = "refined",
        k: int = 0,
        sets: Sequence[str] = (),
        layer: str | None = None,
        least_area: float = 0.001,
        force: bool = False,
        **options: Any,
    ) -> Path:
        """What `dff export` does: masks and boxes for other programs; see docs/export.md."""
        from pipeline.export import export_project

        return export_project(
            self.project,
            format,
            options,
            maps=maps,
            k=k,
            sets=list(sets),
            layer=layer or "",
            least_area=least_area,
            out=Path(out),
            resources=make_resources("cpu", 0, "auto", ""),
            force=force,
        )

    @property
    def _every(self) -> list[str]:
        return list(self.learned.sets)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.index.names)}

    @cached_property
    def _places(self) -> dict[int, dict[str, int]]:
        """By image id, its entry in each of its sets."""
        found: dict[int, dict[str, int]] = {}
        for name, entries in self.learned.sets.items():
            for entry in entries.tolist():
                found.setdefault(int(self.learned.image_ids[entry]), {})[name] = entry
        return found

    def _image_id(self, image: str) -> int:
        return self._ids[known("image", image, self.index.names)]

    def _size(self, image: str) -> tuple[int, int]:
        return self.index.size(self._image_id(image))

    def _entry(self, image: str, set: str | None) -> tuple[str, int]:
        """The image's set and its entry there."""
        places = self._places.get(self._image_id(image), {})
        if set is not None and known("set", set, self._every) not in places:
            raise StageError(f"image {image}: is not in the set {set}; see images({set!r})")
        own = [name for name in places if name not in self.learned.within]
        found = own if set is None else [set]
        if len(found) > 1:
            raise StageError(f"image {image}: is in several sets, name one: {', '.join(found)}")
        return found[0], places[found[0]]

    def _layer(self, layer: str | None) -> str:
        return self.layers[0] if layer is None else known("layer", layer, self.layers)

    def _maps(self, kind: str, layer: str | None) -> ConceptMaps:
        return self.maps[known("maps", kind, KINDS)][self._layer(layer)]

    def _columns(self, k: int, seed: int | None) -> list[int]:
        known("k", str(k), [str(one) for one in self.ks])
        if seed is not None:
            known("seed", str(seed), [str(one) for one in self.seeds])
        return self.learned.factorizations.columns_of(k, seed)
