"""Projects whose maps and ground truth are drawn by hand, on squared paper."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from stages.artifacts.image_index import ImageIndex
from stages.datasets.voc import VocOptions
from stages.evaluate.params import EvaluateParams
from stages.evaluate.stage import EVALUATE
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.index.params import IndexParams
from stages.index.stage import INDEX
from stages.maps.plan import MapPlan
from stages.maps.write import write_maps
from store import RaggedWriter, create_artifact, staging, write_array
from store.artifact import layer_key

LAYER = "drawn"
Sheet = list[str]


def bits(sheet: Sheet) -> np.ndarray:
    """Rows of text as a mask: '#' is inside."""
    return np.array([[cell == "#" for cell in row] for row in sheet])


@dataclass
class Drawn:
    """A project whose artifacts of maps are drawn: (image set, image) -> one sheet per column."""

    project: Path
    columns: list[tuple[int, int, int]]
    maps: dict[tuple[str, str], list[Sheet]]
    within: float | list[float] = np.nan  # of the columns' heat, what lies in that of k = 1

    def publish(self) -> None:
        """Write the index and everything that evaluate reads."""
        index = ImageIndex.open(self.project / INDEX.writes, self.project)
        entries = [(name, i) for name, ids in index.sets.items() for i in ids]
        sets = {
            name: [at for at, (of, _) in enumerate(entries) if of == name] for name in index.sets
        }
        problems = list(dict.fromkeys((k, seed) for k, seed, _ in self.columns))
        attrs = {
            "layers": [LAYER], "images": index.names, "contents": index.contents, "sets": sets,
            "problems": problems, "columns": self.columns,
            "ks": list(dict.fromkeys(k for k, _ in problems)), "solver": "hals",
        }  # fmt: skip
        self._factors(attrs, len(sets), problems, [i for _, i in entries])
        drawn = [self.maps[name, index.names[i]] for name, i in entries]
        for stage in ("heatmaps", "refine"):
            self._maps(stage, attrs, drawn, [i for _, i in entries], list(sets.values()))

    def _factors(self, attrs: dict, sets: int, problems: list, ids: list) -> None:
        with staging(self.project / EVALUATE.reads["factorize"], "factors") as work:
            group = create_artifact(work.path, stage="factorize", fingerprint="factors", **attrs)
            layer = group.require_group(layer_key(LAYER))
            n = len(self.columns)
            write_array(layer, "loss", np.ones((sets, len(problems), 1)))
            write_array(layer, "norm", np.ones(sets))
            write_array(layer, "factors", np.ones((sets, n, 3), np.float32))
            write_array(layer, "stability", np.full((sets, len(attrs["ks"]), 2), np.nan))
            write_array(layer, "held_out", np.full((sets, len(attrs["ks"])), np.nan))
            for name in ("nonzero", "hoyer", "factor_stability", "energy"):
                write_array(layer, name, np.ones((sets, n)))
            write_array(layer, "parent", np.full((sets, n), -1))
            grids = np.ones((len(ids), 2), np.int64)
            maps = RaggedWriter(layer.require_group("maps"), grids, np.array(ids), n, np.float32)
            maps.append(0, np.ones((len(ids), n), np.float32))
            maps.close()
            write_array(layer, "parent_cosine", np.zeros((sets, n)))

    def _maps(self, stage: str, attrs: dict, drawn: list, ids: list, sets: list) -> None:
        rows = [
            np.stack([bits(sheet).ravel() for sheet in sheets], axis=1).astype(np.float32)
            for sheets in drawn
        ]
        sizes = [(len(sheets[0]), len(sheets[0][0])) for sheets in drawn]
        n = len(self.columns)
        with staging(self.project / EVALUATE.reads[stage], stage) as work:
            group = create_artifact(work.path, stage=stage, fingerprint=stage, **attrs)
            layer = group.require_group(layer_key(LAYER))
            write_array(layer, "scale", np.ones((len(sets), n)))
            write_array(layer, "within", np.broadcast_to(self.within, (len(sets), n)))
            write_array(layer, "means", np.array([one.mean(axis=0) for one in rows], np.float64))
            plan = MapPlan(sizes, ids, sets, n, np.uint8, np.full((len(sets), n), 0.5))
            write_maps(layer, plan, lambda es: (rows[e] for e in es), work, "rows", lambda _: None)

    def evaluate(self, **params: object) -> Path:
        """Run the stage; its folder."""
        return execute(EVALUATE, EvaluateParams(**params), self.project, Resources(workers=2))

    def table(self, name: str, **where: object) -> pd.DataFrame:
        """Rows of one of its tables, of raw maps if nothing else is said."""
        path = self.project / EVALUATE.writes / name
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        for key, value in {"maps": "raw", **where}.items():
            table = table[table[key] == value]
        return table.reset_index(drop=True)


def photograph(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (90, 120, 60)).save(path)


def mask(path: Path, sheet: Sheet) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((bits(sheet) * 255).astype(np.uint8)).save(path)


# Two images of 4 x 4 pixels. Head and leg overlap in image a; b has no leg.
WHOLE = {"a": ["####", "####", "....", "...."], "b": ["##..", "##..", "....", "...."]}
HEAD = {"a": ["##..", "##..", "....", "...."], "b": ["#...", "....", "....", "...."]}
LEG = {"a": [".###", "....", "....", "...."]}
ONE = {"a": ["####", "####", "####", "...."], "b": ["##..", "....", "....", "...."]}  # k = 1
TWO_0 = {"a": ["##..", "##..", "##..", "...."], "b": ["....", "....", "....", "...."]}
TWO_1 = {"a": ["....", "....", "....", "####"], "b": ["####", "####", "####", "####"]}


# VOC: 1-based inclusive boxes. Image 1: a cow at rows 1-2 and columns 1-4, and a second, difficult
# one at row 4; image 2: a cow at the lower right; image 3: a horse only, though listed as cow.
XML = (
    "<object><name>{name}</name><truncated>0</truncated><difficult>{difficult}</difficult><bndbox>"
    "<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>"
    "</object>"
)
VOC_IMAGES = {
    "000001": [("cow", 0, (1, 1, 4, 2)), ("cow", 1, (1, 4, 4, 4))],
    "000002": [("cow", 0, (3, 3, 4, 4))],
    "000003": [("horse", 0, (1, 1, 2, 2))],
}


def write_voc(root: Path) -> Path:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for image_id, objects in VOC_IMAGES.items():
        photograph(root / "JPEGImages" / f"{image_id}.jpg", (4, 4))
        text = "".join(XML.format(name=n, difficult=d, box=box) for n, d, box in objects)
        (root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{text}</annotation>")
    lists = root / "ImageSets" / "Main"
    (lists / "cow_trainval.txt").write_text("000001  1\n000002  1\n000003  1\n")
    (lists / "horse_trainval.txt").write_text("000001 -1\n000002 -1\n000003  1\n")
    return root


def voc(
    project: Path, sheets: dict[str, list[Sheet]], columns: list, *, root: str, **options: Any
) -> Drawn:
    params = IndexParams("voc", VocOptions(**options), root=root)
    execute(INDEX, params, project, Resources())
    index = ImageIndex.open(project / INDEX.writes, project)
    maps = {
        (name, index.names[i]): sheets[Path(index.names[i]).stem]
        for name, ids in index.sets.items()
        for i in ids
    }
    one = Drawn(project, columns, maps)
    one.publish()
    return one


CORNER = ["....", "....", "..##", "..##"]
NOTHING = ["....", "....", "....", "...."]


def labels(project: Path, text: str) -> None:
    (project / "labels.yaml").write_text(text)
