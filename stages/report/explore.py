"""The page to explore, ``explore.html``: its scripts, and what they load when it is needed.

Data are classic scripts (`stages.report.packed.script`), each of which hands one payload to the
page, under the path of its file below ``data/``, without the suffix:

- ``index``: the run, the image sets and their scores;
- ``set-000/names``: the factors' directions, which labels.yaml has beside their names;
- ``set-000/set``: names and sizes of a set's images, and its factors at every layer and k;
- ``set-000/l0-k4/stats``: strengths, areas and centres of that factorization on every image;
- ``set-000/l0-k4/tops``, ``part-003``: coefficients of some images (`packed_grid`);
- ``set-000/l0-k4/masks-003``: refined masks of as many images (`run_lengths`), and the box around
  the largest component of each;
- ``set-000/truth-003``: annotated objects, where there are some;
- ``set-000/l0-k4/agreement``: IoU of every refined mask with these.

A part holds `PART` images of a set in order. Nothing but numbers is in the name of a file.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.frame.parallel import ordered_map
from stages.frame.progress import track
from stages.frame.resources import Resources
from stages.report.chosen import recipe_of_choice, within
from stages.report.concepts import open_concepts
from stages.report.explore_facts import facts_of_ks, facts_of_run, facts_of_set
from stages.report.explore_masks import largest_boxes
from stages.report.explore_names import directions_of_set, facts_of_names
from stages.report.explore_parts import Asked, OfLayer, Parts, coefficients, parts_of, put
from stages.report.needs import PART
from stages.report.opened import Opened
from stages.report.packed import DATA, VERSION, base64_of, script, whole_shares
from stages.report.page import SetView, spread
from stages.report.params import ReportParams
from stages.report.tables import TableFile
from stages.report.thumbnails import Photographs, earlier_report
from store import Staging

PAGE = Path(__file__).parent / "explore"
VENDOR = "vendor"
# What of a set is the same as long as its factors and maps are: the names of factors are not in it.
LASTING = ("part-*.js", "masks-*.js", "truth-*.js", "agreement.js")
SHEET = 6  # images of a set on the overview
ANNOTATED = ("object", "parts")


def copy_page(folder: Path) -> None:
    """Put the page, its scripts and its style into the report's folder; there are no others."""
    # scripts of others come with their licences
    (folder / "explore" / VENDOR).mkdir(parents=True, exist_ok=True)
    for path in sorted([*PAGE.iterdir(), *(PAGE / VENDOR).iterdir()]):
        if path.suffix == ".html":
            shutil.copyfile(path, folder / path.name)
        elif path.suffix in (".js", ".css", ".LICENSE"):
            shutil.copyfile(path, folder / "explore" / path.relative_to(PAGE))


def write_explore(
    opened: Opened,
    sets: Iterable[SetView],
    params: ReportParams,
    chosen: Mapping[str, NDArray[np.int64]],
    photographs: Photographs,
    tables: Sequence[TableFile],
    work: Staging,
    resources: Resources,
) -> str:
    """Put the page to explore into the report: itself, its data, and images as thumbnails.

    These are all images, or of a large collection some (`stages.report.chosen`). Returns what
    decides the payloads that are `LASTING`.
    """
    copy_page(work.path)
    members = opened.factors.sets
    entries = np.concatenate([members[name][at] for name, at in chosen.items()])
    image_ids = np.unique(opened.factors.image_ids[entries]).tolist()
    with track("report", len(photographs.all) * len(image_ids), "thumbnails") as advance:
        for copies in photographs.all:
            copies.write(image_ids, work, resources, advance)
    (work.path / DATA).mkdir(exist_ok=True)  # there already after an interruption
    count = len(opened.factors.layers) * len(entries)
    boxes = {layer: largest_boxes(maps) for layer, maps in opened.refined.items()}
    made_by = recipe(opened, photographs) + recipe_of_choice(opened, params, chosen)
    earlier = earlier_report(work, DATA, made_by)
    with track("report", count, "maps") as advance:
        facts_of_sets = []
        for rank, view in enumerate(sets):
            shown = chosen[view.name]
            facts_of_sets.append(facts_of_set(opened, view, len(shown)))
            one = Explored(
                opened,
                photographs,
                boxes,
                earlier,
                rank,
                view,
                work.path,
                params.top,
                shown,
            )
            one.write(resources, advance)
    facts = facts_of_run(opened, facts_of_sets, photographs, tables)
    payload = script("index", {**facts, "naming": facts_of_names(opened)})
    (work.path / DATA / "index.js").write_bytes(payload)
    return made_by


def recipe(opened: Opened, photographs: Photographs) -> str:
    """What decides the pictures, and the payloads that are `LASTING` of a set that is shown whole:
    by the same recipe they are the same."""
    layer = opened.layer
    made_from = (opened.factors, opened.heatmaps[layer], opened.refined[layer])
    prints = [one.artifact.fingerprint for one in made_from]
    return " ".join([str(VERSION), str(photographs.small.long_side), *prints])


@dataclass(frozen=True)
class Explored:
    """Writes the data of one image set.

    Parameters
    ----------
    earlier : Path or None
        A report whose `LASTING` payloads are the same.
    boxes : dict of layer to uint16 [entries, columns, 4]
        See `largest_boxes`.
    view : SetView
        Of the set, as the other pages show it.
    top : int
        Images per factor in which it is strongest.
    positions : int64 array
        Of the images that are shown, in the set.
    """

    opened: Opened
    photographs: Photographs
    boxes: Mapping[str, NDArray[np.uint16]]
    earlier: Path | None
    rank: int
    view: SetView
    folder: Path
    top: int
    positions: NDArray[np.int64]

    @cached_property
    def entries(self) -> NDArray[np.int64]:
        """Of the set's images that are shown, among those of all sets."""
        return self.opened.factors.sets[self.view.name][self.positions]

    @cached_property
    def image_ids(self) -> list[int]:
        """Of the set's images that are shown."""
        return [int(i) for i in self.opened.factors.image_ids[self.entries]]

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of the set's thumbnails."""
        return [self.photographs.small.size(image_id) for image_id in self.image_ids]

    @property
    def large_sizes(self) -> str | None:
        """The same of its larger photographs, as base64."""
        large = self.photographs.large
        if large is None:
            return None
        return base64_of(np.array([large.size(i) for i in self.image_ids], np.uint16))

    @cached_property
    def annotated(self) -> bool:
        """Whether objects or parts are annotated on any of its images."""
        counts = self.opened.evaluation.scored.get(self.view.name, {})
        return any(counts.get(kind, 0) for kind in ANNOTATED)

    def write(self, resources: Resources, advance: Callable[[int], None]) -> None:
        """Write all of the set's data, part by part; `advance` is told of images at all layers."""
        opened, count = self.opened, len(self.image_ids)
        of_layer = [
            OfLayer(
                opened.factors.at(layer),
                opened.refined[layer],
                within(open_concepts(opened, layer, self.view.name), self.positions),
            )
            for layer in opened.factors.layers
        ]
        self.put("set", self.described(of_layer))
        self.put("names", directions_of_set(opened, self.rank))
        firsts = [
            partial(self._first, number, one, k)
            for number, one in enumerate(of_layer)
            for k in one.concepts
        ]
        for _ in ordered_map(_called, firsts, workers=resources.workers):
            pass
        if self.earlier and self._take_over(self.earlier / DATA / self.name):
            advance(count * len(of_layer))
            return
        parts = parts_of(count)
        found: dict[tuple[int, int], list[NDArray[np.uint16]]] = {}
        root = opened.factors.root(self.view.name) if self.annotated else None
        done = ordered_map(
            Parts(self.folder.absolute(), self.name, opened.index, root, of_layer).write,
            map(self._asked, range(len(parts)), parts),
            workers=resources.workers,
            cluster=resources.spread,
            label=f"report: parts of {self.name}",
        )
        for at, by_k in zip(parts, done, strict=True):
            for key, iou in by_k.items():
                found.setdefault(key, []).append(iou)
            advance(len(at) * len(of_layer))
        if self.annotated:
            for (number, k), ious in found.items():
                iou = np.concatenate(ious)
                self.put(f"l{number}-k{k}/agreement", {"iou": base64_of(iou)})

    def _asked(self, part: int, at: range) -> Asked:
        entries = [int(self.entries[i]) for i in at]
        boxes = {layer: of_all[entries] for layer, of_all in self.boxes.items()}
        image_ids = [self.image_ids[i] for i in at]
        return Asked(part, at, entries, image_ids, [self.sizes[i] for i in at], boxes)

    def _take_over(self, earlier: Path) -> bool:
        """Copy what lasts; False where there is nothing."""
        files = [path for pattern in LASTING for path in sorted(earlier.rglob(pattern))]
        for path in files:
            target = self.folder / DATA / self.name / path.relative_to(earlier)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return bool(files)

    @property
    def name(self) -> str:
        """Of the set's folder."""
        return f"set-{self.rank:03d}"

    def put(self, name: str, payload: object) -> None:
        """Write one payload."""
        put(self.folder, f"{self.name}/{name}", payload)

    def described(self, of_layer: Sequence[OfLayer]) -> dict[str, Any]:
        """The payload ``set``."""
        names = self.opened.images
        return {
            "name": self.view.name,
            "images": [names[image_id] for image_id in self.image_ids],
            "thumbs": [self.photographs.small.name(image_id) for image_id in self.image_ids],
            "sizes": base64_of(np.array(self.sizes, np.uint16)),
            "largeSizes": self.large_sizes,
            "annotated": self.annotated,
            "part": PART,
            "layers": [
                {"name": view.name, "ks": facts_of_ks(self.opened, self.view, view, one.concepts)}
                for view, one in zip(self.view.layers, of_layer, strict=True)
            ],
        }

    def _first(self, number: int, layer: OfLayer, k: int) -> None:
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
        self.put(f"l{number}-k{k}/tops", coefficients(shown, grids, concepts))


def _called(function: Callable[[], None]) -> None:
    function()
