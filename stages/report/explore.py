"""The page to explore, ``explore.html``: its scripts, and what they load when it is needed.

Data are classic scripts (`stages.report.packed.script`), each of which hands one payload to the
page, under the path of its file below ``data/``, without the suffix:

- ``index``: the run, the image sets and their scores;
- ``set-000/set``: names and sizes of a set's images, and its factors at every layer and k;
- ``set-000/l0-k4/stats``: strengths, areas and centres of that factorization on every image;
- ``set-000/l0-k4/tops``, ``part-003``: coefficients of some images (`packed_grid`);
- ``set-000/l0-k4/masks-003``: refined masks of as many images (`run_lengths`);
- ``set-000/truth-003``: annotated objects, where there are some.

A part holds `PART` images of a set in order. Nothing but numbers is in the name of a file.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.algorithms.masks import resize_masks, unpack_masks
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import LayerFactors
from stages.datasets import DatasetError
from stages.frame.parallel import ordered_map
from stages.frame.progress import track
from stages.report.concepts import Concepts, open_concepts
from stages.report.explore_facts import facts_of_ks, facts_of_run
from stages.report.needs import PART
from stages.report.opened import Opened
from stages.report.packed import DATA, base64_of, packed_grid, run_lengths, script, whole_shares
from stages.report.page import SetView, spread
from stages.report.thumbnails import Thumbnails
from store import Staging

PAGE = Path(__file__).parent / "explore"
SHEET = 6  # images of a set on the overview
ANNOTATED = ("object", "parts")


def copy_page(folder: Path) -> None:
    """Put the page, its scripts and its style into the report's folder; there are no others."""
    (folder / "explore").mkdir(exist_ok=True)
    for path in sorted(PAGE.iterdir()):
        if path.suffix in (".html", ".js", ".css"):
            target = folder if path.suffix == ".html" else folder / "explore"
            shutil.copyfile(path, target / path.name)


def write_explore(
    opened: Opened,
    sets: Sequence[SetView],
    top: int,
    thumbnails: Thumbnails,
    work: Staging,
    workers: int,
) -> None:
    """Put the page to explore into the report: itself, its data, and all images as thumbnails."""
    copy_page(work.path)
    image_ids = sorted({int(i) for i in opened.factors.image_ids})
    with track("report", len(image_ids), "thumbnails") as advance:
        thumbnails.write(image_ids, work, workers, advance)
    (work.path / DATA).mkdir()
    payload = script("index", facts_of_run(opened, sets))
    (work.path / DATA / "index.js").write_bytes(payload)
    count = len(opened.factors.layers) * len(opened.factors.image_ids)
    with track("report", count, "maps") as advance:
        for rank, view in enumerate(sets):
            Explored(opened, thumbnails, rank, view, work.path, top).write(workers, advance)


def parts_of(count: int) -> list[range]:
    """The positions in a set that each part holds."""
    return [range(at, min(at + PART, count)) for at in range(0, count, PART)]


@dataclass(frozen=True)
class Explored:
    """Writes the data of one image set.

    Parameters
    ----------
    view : SetView
        Of the set, as the other pages show it.
    top : int
        Images per factor in which it is strongest.
    """

    opened: Opened
    thumbnails: Thumbnails
    rank: int
    view: SetView
    folder: Path
    top: int

    @cached_property
    def entries(self) -> NDArray[np.int64]:
        """Of the set's images among those of all sets."""
        return self.opened.factors.sets[self.view.name]

    @cached_property
    def image_ids(self) -> list[int]:
        """Of the set's images."""
        return [int(i) for i in self.opened.factors.image_ids[self.entries]]

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of the set's thumbnails."""
        return [self.thumbnails.size(image_id) for image_id in self.image_ids]

    @cached_property
    def annotated(self) -> bool:
        """Whether objects or parts are annotated on any of its images."""
        counts = self.opened.evaluation.scored.get(self.view.name, {})
        return any(counts.get(kind, 0) for kind in ANNOTATED)

    def write(self, workers: int, advance: Callable[[int], None]) -> None:
        """Write all of the set's data, part by part; `advance` is told of images at all layers."""
        opened, count = self.opened, len(self.image_ids)
        of_layer = [
            _OfLayer(opened, layer, open_concepts(opened, layer, self.view.name))
            for layer in opened.factors.layers
        ]
        self.put("set", self.described(of_layer))
        work: list[Callable[[], int]] = []
        for number, one in enumerate(of_layer):
            work += [partial(self._first, number, one, k) for k in one.concepts]
            work += [partial(self._part, number, one, i) for i in range(len(parts_of(count)))]
        if self.annotated:
            work += [partial(self._truth, i) for i in range(len(parts_of(count)))]
        for images in ordered_map(_called, work, workers=workers):
            advance(images)

    def put(self, name: str, payload: object) -> None:
        """Write one payload."""
        key = f"set-{self.rank:03d}/{name}"
        path = self.folder / DATA / f"{key}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(script(key, payload))

    def described(self, of_layer: Sequence["_OfLayer"]) -> dict[str, Any]:
        """The payload ``set``."""
        names = self.opened.factors.images
        return {
            "name": self.view.name,
            "images": [names[image_id] for image_id in self.image_ids],
            "thumbs": [self.thumbnails.name(image_id) for image_id in self.image_ids],
            "sizes": base64_of(np.array(self.sizes, np.uint16)),
            "annotated": self.annotated,
            "part": PART,
            "layers": [
                {"name": view.name, "ks": facts_of_ks(self.opened, self.view, view, one.concepts)}
                for view, one in zip(self.view.layers, of_layer, strict=True)
            ],
        }

    def _first(self, number: int, layer: "_OfLayer", k: int) -> int:
        """The payloads ``stats`` and ``tops`` of one factorization."""
        concepts, count = layer.concepts[k], len(self.entries)
        columns = list(concepts.columns)
        raw, refined = concepts.heatmaps, concepts.refined
        height, width = raw.maps.grid_hw[self.entries].T[:, :, None]
        pixels = (height * width).astype(np.float64)
        there = refined.maps.grid_hw[self.entries].prod(axis=1, dtype=np.int64)[:, None]
        y, x = np.moveaxis(raw.centroids[self.entries][:, columns], -1, 0)
        full = np.where(concepts.full > 0, concepts.full, 1.0)
        self.put(
            f"l{number}-k{k}/stats",
            {
                "means": base64_of(whole_shares(concepts.means / full)),
                "raw": base64_of(whole_shares(raw.areas[self.entries][:, columns] / pixels)),
                "refined": base64_of(whole_shares(refined.areas[self.entries][:, columns] / there)),
                "x": base64_of(whole_shares(x / width)),
                "y": base64_of(whole_shares(y / height)),
            },
        )
        tops = [concepts.top_images(j, self.top) for j in range(k)]
        shown = sorted({*spread(count, SHEET), *(i for some in tops for i in some)})
        grids = layer.grids([int(self.entries[i]) for i in shown])
        self.put(f"l{number}-k{k}/tops", self._coefficients(shown, grids, concepts))
        return 0

    def _part(self, number: int, layer: "_OfLayer", part: int) -> int:
        """Coefficients and refined masks of some images, of every k."""
        at = parts_of(len(self.entries))[part]
        entries = [int(self.entries[i]) for i in at]
        grids = layer.grids(entries)
        masks: dict[int, list[list[bytes]]] = {k: [] for k in layer.concepts}
        sizes = []
        for i, entry in zip(at, entries, strict=True):
            bits, size = _masks_within(layer.refined, entry, self.sizes[i])
            sizes.append(size)
            for k, concepts in layer.concepts.items():
                masks[k].append([run_lengths(bits[:, :, c]) for c in concepts.columns])
        for k, concepts in layer.concepts.items():
            where = f"l{number}-k{k}"
            self.put(f"{where}/part-{part:03d}", self._coefficients(at, grids, concepts))
            self.put(f"{where}/masks-{part:03d}", _masks_payload(list(at), sizes, masks[k]))
        return len(at)

    def _coefficients(
        self, at: Sequence[int], grids: Sequence[NDArray[np.float32]], concepts: Concepts
    ) -> dict[str, Any]:
        columns = list(concepts.columns)
        scale = concepts.heatmaps.scale[concepts.rank][columns]
        shares = [grid[:, :, columns] / np.where(scale > 0, scale, 1.0) for grid in grids]
        packed = [packed_grid(one) for one in shares]
        return {
            "at": list(at),
            "grids": [list(grid.shape[:2]) for grid in grids],
            "peaks": base64_of(np.array([peaks for peaks, _ in packed])),
            "levels": base64_of(np.concatenate([levels.ravel() for _, levels in packed])),
        }

    def _truth(self, part: int) -> int:
        """Annotated objects of some images; several parts are one object here."""
        at, sizes, found = [], [], []
        for i in parts_of(len(self.image_ids))[part]:
            mask = self._annotated_object(self.image_ids[i], self.sizes[i])
            if mask is not None:
                at.append(i)
                sizes.append(mask.shape)
                found.append([run_lengths(mask)])
        self.put(f"truth-{part:03d}", _masks_payload(at, sizes, found))
        return 0

    def _annotated_object(self, image_id: int, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        index = self.opened.index
        if not str(index.images["annotation_sha256"].iloc[image_id]):
            return None
        try:
            truth = index.dataset.ground_truth(index.names[image_id], self.view.name)
        except DatasetError:
            return None  # the page lists it among what could not be read
        whole = truth.whole
        if whole is None:
            if not truth.parts:
                return None
            whole = np.logical_or.reduce(list(truth.parts.values()))
        small = Image.fromarray(whole.astype(np.uint8) * 255).resize(
            (size[1], size[0]), Image.Resampling.BOX
        )
        return np.asarray(small) >= 128


@dataclass(frozen=True)
class _OfLayer:
    """One image set at one layer: its factorizations, and their coefficients and masks."""

    opened: Opened
    layer: str
    concepts: dict[int, Concepts]

    @cached_property
    def factors(self) -> LayerFactors:
        return self.opened.factors.at(self.layer)

    @property
    def refined(self) -> ConceptMaps:
        return self.opened.refined[self.layer]

    def grids(self, entries: Sequence[int]) -> list[NDArray[np.float32]]:
        """Coefficients of some entries, ``[h, w, columns]`` each, read together."""
        ragged = self.factors.coefficients
        spans = [(int(ragged.offsets[e]), int(ragged.offsets[e + 1])) for e in entries]
        rows, found, at = ragged.read_dense(spans), [], 0
        for entry in entries:
            h, w = (int(side) for side in ragged.grid_hw[entry])
            found.append(rows[at : at + h * w].reshape(h, w, -1))
            at += h * w
        return found


def _called(function: Callable[[], int]) -> int:
    return function()


def _masks_within(
    maps: ConceptMaps, entry: int, most: tuple[int, int]
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """An entry's masks ``[h, w, columns]`` and their size: their own, or a smaller thumbnail's."""
    bits = maps.bits.map(entry)
    if max(bits.shape[:2]) > max(most):
        bits = resize_masks(bits, most)
    return unpack_masks(bits, len(maps.columns)), (bits.shape[0], bits.shape[1])


def _masks_payload(
    at: Sequence[int], sizes: Sequence[tuple[int, ...]], masks: Sequence[Sequence[bytes]]
) -> dict[str, Any]:
    """Masks of some images, `run_lengths` of each one after the other."""
    joined = b"".join(one for of_image in masks for one in of_image)
    return {
        "at": list(at),
        "sizes": [list(size) for size in sizes],
        "lengths": [[len(one) for one in of_image] for of_image in masks],
        "runs": base64_of(np.frombuffer(joined, np.uint8)),
    }
