"""evaluate on maps drawn by hand: every number can be counted on a sheet of squared paper."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.evaluate import EVALUATE, EvaluateParams
from stages.image_index import ImageIndex
from stages.index import INDEX, IndexParams
from stages.stage import Resources, StageError, execute
from stages.write_maps import MapPlan, write_maps
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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


# Two images of 4 x 4 pixels. Head and leg overlap in image a; b has no leg.
WHOLE = {"a": ["####", "####", "....", "...."], "b": ["##..", "##..", "....", "...."]}
HEAD = {"a": ["##..", "##..", "....", "...."], "b": ["#...", "....", "....", "...."]}
LEG = {"a": [".###", "....", "....", "...."]}
ONE = {"a": ["####", "####", "####", "...."], "b": ["##..", "....", "....", "...."]}  # k = 1
TWO_0 = {"a": ["##..", "##..", "##..", "...."], "b": ["....", "....", "....", "...."]}
TWO_1 = {"a": ["....", "....", "....", "####"], "b": ["####", "####", "####", "####"]}


@pytest.fixture
def drawn(project: Path, tmp_path: Path) -> Drawn:
    """One image set with parts, k = 1 and k = 2."""
    root = tmp_path / "cows"
    for name in ("a", "b"):
        photograph(root / "images" / f"{name}.png", (4, 4))
        mask(root / "masks" / f"{name}.png", WHOLE[name])
        mask(root / "parts" / name / "head.png", HEAD[name])
    mask(root / "parts" / "a" / "leg.png", LEG["a"])
    execute(INDEX, IndexParams(dataset="folder", root=str(root)), project, Resources())
    maps = {("cows", f"images/{name}.png"): [ONE[name], TWO_0[name], TWO_1[name]] for name in "ab"}
    one = Drawn(project, [(1, 0, 0), (2, 0, 0), (2, 0, 1)], maps)
    one.publish()
    return one


def test_scores_by_hand(drawn: Drawn) -> None:
    drawn.evaluate()
    scores = drawn.table("scores.parquet")
    # the object: 8 + 4 pixels. k = 1: masks of 12 + 2, 8 + 2 of them inside: 10 / (14 + 12 - 10).
    # k = 2, factor 0: masks of 6 + 0, 4 inside: 4 / 14. Factor 1: 4 + 16, 0 + 4 inside: 4 / 28.
    assert scores["object_iou"].tolist() == pytest.approx([1000 / 16, 400 / 14, 400 / 28])
    assert scores["object_precision"].tolist() == pytest.approx([1000 / 14, 400 / 6, 400 / 20])
    # of 32 pixels wrong: 4 + 2; 2 + 8; 16 + 8
    assert scores["object_accuracy"].tolist() == pytest.approx([2600 / 32, 2200 / 32, 800 / 32])
    # k = 1: head is 4 + 1 of its 14, 5 / 14; leg 3 / 14. Factor 0: head 4 of 6 and 5, 4 / 7;
    # leg 1 of 6 and 3, 1 / 8. Factor 1: head 1 of 20 and 5, 1 / 24; leg 0.
    assert scores["best_part"].tolist() == ["head", "head", "head"]
    assert scores["best_part_iou"].tolist() == pytest.approx([500 / 14, 400 / 7, 100 / 24])
    # coverage above a half: k = 1 head 5/5, leg 3/3, background 4/20; factor 0: head 4/5, leg 1/3,
    # background 2/20; factor 1: head 1/5, leg 0, background (4 + 12)/20
    assert scores["parts"].tolist() == ["head/leg", "head", "background"]
    # head or leg: 6 + 1 pixels (they share one), all inside the 14. head: 4 / 7. background: 16/24.
    assert scores["parts_iou"].tolist() == pytest.approx([700 / 14, 400 / 7, 1600 / 24])
    assert scores["corloc"].isna().all() and (scores["boxed"] == 0).all()


def test_coverage_table_by_hand(drawn: Drawn) -> None:
    drawn.evaluate()
    cells = drawn.table("coverage.parquet", k=2, factor=0)
    assert cells["part"].tolist() == ["object", "head", "leg", "background"]
    assert cells["coverage"].tolist() == pytest.approx([4 / 12, 4 / 5, 1 / 3, 2 / 20])
    assert cells["iou"].tolist() == pytest.approx([400 / 14, 400 / 7, 100 / 8, 200 / 24])


def test_coverage_must_be_exceeded(drawn: Drawn) -> None:
    """Ties: a coverage of just the threshold does not count."""
    drawn.evaluate(coverage=0.8)
    assert drawn.table("scores.parquet")["parts"].tolist() == ["head/leg", "", ""]


def test_quality_is_the_mean_over_factors_without_the_background(drawn: Drawn) -> None:
    drawn.evaluate()
    quality = drawn.table("quality.csv")
    assert quality["part_iou"].tolist() == pytest.approx([500 / 14, (400 / 7 + 100 / 24) / 2])
    assert quality["object_iou"].tolist() == pytest.approx([1000 / 16, 400 / 14])
    assert quality["object_iou_std"].tolist() == [0, 0] and quality["seeds"].tolist() == [1, 1]


def test_the_foreground_by_two_rules(drawn: Drawn) -> None:
    drawn.evaluate()
    table = drawn.table("foreground.parquet", k=2).set_index("rule")
    assert table.loc["truth", "factor"] == 0
    # factor 0 touches 4 of 12 border pixels of a with 6 of 16; factor 1 fills b and an edge of a
    scores = drawn.table("scores.parquet", k=2)
    assert scores["border_contact"].tolist() == pytest.approx(
        [4 / 24 / (6 / 32), 16 / 24 / (20 / 32)]
    )
    assert table.loc["shape", "factor"] == 0
    assert table.loc["shape", "object_iou"] == pytest.approx(400 / 14)


def test_seeds_give_means_and_deviations(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "cows"
    photograph(root / "images" / "a.png", (4, 4))
    mask(root / "masks" / "a.png", WHOLE["a"])
    execute(INDEX, IndexParams(dataset="folder", root=str(root)), project, Resources())
    sheets = [WHOLE["a"], ["####", "....", "....", "...."]]
    drawn = Drawn(project, [(1, 0, 0), (1, 7, 0)], {("cows", "images/a.png"): sheets})
    drawn.publish()
    drawn.evaluate()
    row = drawn.table("quality.csv").iloc[0]
    # 100 and 50 per cent: mean 75, standard deviation 25; without parts the object is the part
    assert (row["object_iou"], row["object_iou_std"], row["seeds"]) == (75, 25, 2)
    assert (row["part_iou"], row["part_iou_std"]) == (75, 25)
    figure4 = drawn.table("figure4.csv").iloc[0]
    assert (figure4["part_iou"], figure4["part_iou_std"], figure4["sets"]) == (75, 25, 1)


def test_figure_4_deviates_over_seeds_not_over_sets(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "animals"
    for name in ("cows", "dogs"):
        photograph(root / "images" / name / "a.png", (4, 4))
        mask(root / "masks" / name / "a.png", WHOLE["a"])
    execute(INDEX, IndexParams(dataset="folder", root=str(root)), project, Resources())
    half, full = ["####", "....", "....", "...."], WHOLE["a"]
    maps = {
        ("cows", "images/cows/a.png"): [full, half],
        ("dogs", "images/dogs/a.png"): [half, full],
    }
    drawn = Drawn(project, [(1, 0, 0), (1, 1, 0)], maps)
    drawn.publish()
    drawn.evaluate()
    row = drawn.table("figure4.csv").iloc[0]
    assert (row["part_iou"], row["part_iou_std"], row["sets"], row["seeds"]) == (75, 0, 2, 2)


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


def voc(project: Path, sheets: dict[str, list[Sheet]], columns: list, **params: object) -> Drawn:
    execute(INDEX, IndexParams(dataset="voc", **params), project, Resources())
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


def test_corloc_by_hand(project: Path, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007")
    sheets = {
        # the box of the upper blob is rows 0-1, columns 0-3: the first cow's, IoU 1; a smaller
        # component below does not matter
        "000001": [["####", "####", "....", "#..."]],
        # an L: its box is the lower right 3 x 2, IoU 4 / 6 with the cow
        "000002": [["....", "..#.", "..##", "...#"]],
        "000003": [CORNER],
    }
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    drawn.evaluate()
    scores = drawn.table("scores.parquet", set="cow").iloc[0]
    # image 3 has no box of a cow: it does not count
    assert (scores["hits"], scores["boxed"], scores["corloc"]) == (2, 2, 100)
    assert np.isnan(scores["object_iou"])
    horse = drawn.table("scores.parquet", set="horse").iloc[0]
    assert (horse["hits"], horse["boxed"], horse["corloc"]) == (0, 1, 0)
    record = json.loads((project / EVALUATE.writes / "artifact.json").read_text())
    assert record["exclude"] == "none"
    metrics = json.loads((project / EVALUATE.writes / "metrics.json").read_text())
    assert metrics[LAYER]["mean over sets"]["k1"]["raw"] == {"corloc": 50.0}


def test_an_iou_of_just_a_half_is_no_hit(project: Path, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007")
    sheets = {
        # 8 pixels with the first cow's 8: rows 0-3, columns 0-1 share 4 of 12. The difficult
        # second cow counts as well: a box of row 3 and columns 0-1 shares 2 of its 4: just a half
        "000001": [["....", "....", "....", "##.."]],
        "000002": [NOTHING],
        "000003": [NOTHING],
    }
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    drawn.evaluate()
    row = drawn.table("scores.parquet", set="cow").iloc[0]
    assert (row["hits"], row["boxed"]) == (0, 2)
    sheets["000001"] = [["....", "....", "....", "###."]]  # 3 of 4
    again = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    again.evaluate()
    assert again.table("scores.parquet", set="cow").iloc[0]["hits"] == 1


def test_class_agnostic_corloc_takes_any_box(project: Path, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007")
    sheets = {
        "000001": [["....", "....", "....", "####"]],
        "000002": [["##..", "##..", "....", "...."]],
        "000003": [["##..", "##..", "....", "...."]],
    }
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), together=True)
    drawn.evaluate()
    row = drawn.table("scores.parquet").iloc[0]
    assert (row["set"], row["hits"], row["boxed"]) == ("trainval", 2, 3)
    record = json.loads((project / EVALUATE.writes / "artifact.json").read_text())
    assert record["exclude"] == "", "the rule leaves nobody out here"


def test_labels_cannot_be_scored_by_boxes(project: Path, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007")
    sheets = {image_id: [CORNER] for image_id in VOC_IMAGES}
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    labels(project, "sets: {cow: {1: [whatever]}}")
    drawn.evaluate()
    assert drawn.table("labels.parquet").empty
    assert drawn.table("scores.parquet")["parts_iou"].isna().all()


def test_boxes_on_images_that_do_not_count_are_not_exported(project: Path, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007")
    sheets = {image_id: [CORNER] for image_id in VOC_IMAGES}
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    labels(project, "seen: {cow: [JPEGImages/000001.jpg]}\nsets: {cow: {1: [~]}}")
    folder = drawn.evaluate() / "detections" / f"{LAYER}-k1-seed0-raw"
    lines = (folder / "comp3_det_trainval_cow.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["000002", "000003"]


def test_k_above_1_takes_the_better_factor_and_says_so(project: Path, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007")
    row = ["####", "####", "....", "...."]
    sheets = {"000001": [NOTHING, row], "000002": [NOTHING, CORNER], "000003": [CORNER, NOTHING]}
    drawn = voc(project, sheets, [(2, 0, 0), (2, 0, 1)], root=str(root), exclude="none")
    drawn.evaluate()
    table = drawn.table("foreground.parquet", set="cow").set_index("rule")
    assert table.loc["truth", ["factor", "corloc"]].tolist() == [1, 100]


def test_detections_in_vocs_and_cocos_formats(project: Path, tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask
    from pycocotools.coco import COCO

    root = write_voc(tmp_path / "VOC2007")
    sheets = {
        "000001": [["####", "####", "....", "#..."]],
        "000002": [["....", "..#.", "..##", "...#"]],
        "000003": [NOTHING],
    }
    drawn = voc(project, sheets, [(1, 0, 0)], root=str(root), exclude="none")
    folder = drawn.evaluate() / "detections"
    lines = (folder / f"{LAYER}-k1-seed0-raw" / "comp3_det_trainval_cow.txt").read_text()
    # 1-based, inclusive: left, top, right, bottom
    assert lines.splitlines() == [
        "000001 1.000000 1.0 1.0 4.0 2.0",
        "000002 1.000000 3.0 2.0 4.0 4.0",
    ]
    coco = COCO(str(folder / "images.json"))
    found = coco.loadRes(str(folder / f"{LAYER}-k1-seed0-raw.coco.json"))
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    assert sorted(names.values()) == ["cow", "horse"]
    hits = 0
    for one in found.loadAnns(found.getAnnIds()):
        mine = coco.getAnnIds(imgIds=[one["image_id"]], catIds=[one["category_id"]])
        truth = [annotation["bbox"] for annotation in coco.loadAnns(mine)]
        overlap = coco_mask.iou([one["bbox"]], truth, [0] * len(truth)) if truth else np.zeros(1)
        hits += bool((np.asarray(overlap) > 0.5).any())
    counted = drawn.table("scores.parquet", set="cow").iloc[0]["hits"]
    assert hits == counted == 2
    assert len(coco.getAnnIds()) == 4, "three cows' boxes and one horse's"


def test_a_damaged_annotation_is_reported_and_does_not_count(drawn: Drawn, tmp_path: Path) -> None:
    path = tmp_path / "cows/masks/a.png"
    path.write_bytes(path.read_bytes()[:40])
    execute(
        INDEX,
        IndexParams(dataset="folder", root=str(tmp_path / "cows")),
        drawn.project,
        Resources(),
    )
    drawn.publish()
    drawn.evaluate()
    record = json.loads((drawn.project / EVALUATE.writes / "artifact.json").read_text())
    assert list(record["damaged_annotations"]) == ["images/a.png"]
    assert "masks/a.png" in record["damaged_annotations"]["images/a.png"]
    # image b alone: 2 of 4 pixels
    assert drawn.table("scores.parquet", k=1)["object_iou"].tolist() == [50]


def test_an_image_without_parts_says_nothing_of_parts(drawn: Drawn, tmp_path: Path) -> None:
    """It counts for the object, and not as one on which every factor misses its part."""
    shutil.rmtree(tmp_path / "cows/parts/b")
    params = IndexParams(dataset="folder", root=str(tmp_path / "cows"))
    execute(INDEX, params, drawn.project, Resources())
    drawn.publish()
    drawn.evaluate()
    scores = drawn.table("scores.parquet", k=1)
    assert scores["object_iou"].tolist() == pytest.approx([1000 / 16])
    # image a alone: head 4 of the mask's 12 pixels; head or leg 5 of them; background 4/8 covered
    assert scores["best_part_iou"].tolist() == pytest.approx([400 / 12])
    assert scores["parts"].tolist() == ["head/leg"]
    assert scores["parts_iou"].tolist() == pytest.approx([600 / 12])
    cells = drawn.table("coverage.parquet", k=1).set_index("part")["coverage"]
    assert cells["background"] == pytest.approx(4 / 8)


def test_a_part_called_background_is_no_part_of_the_object(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "cows"
    photograph(root / "images" / "a.png", (4, 4))
    mask(root / "parts" / "a" / "head.png", HEAD["a"])
    mask(root / "parts" / "a" / "background.png", ["....", "....", "####", "####"])
    execute(INDEX, IndexParams(dataset="folder", root=str(root)), project, Resources())
    drawn = Drawn(project, [(1, 0, 0)], {("cows", "images/a.png"): [HEAD["a"]]})
    drawn.publish()
    drawn.evaluate()
    row = drawn.table("scores.parquet").iloc[0]
    assert (row["object_iou"], row["best_part"], row["parts"]) == (100, "head", "head")


def test_workers_change_nothing(drawn: Drawn) -> None:
    def contents(workers: int) -> dict[str, bytes]:
        out = execute(EVALUATE, EvaluateParams(), drawn.project, Resources(workers=workers))
        return {p.name: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}

    assert contents(1) == contents(3)


def labels(project: Path, text: str) -> None:
    (project / "labels.yaml").write_text(text)


def test_labels_are_used_instead_of_coverage(drawn: Drawn) -> None:
    labels(drawn.project, "sets:\n  cows:\n    2: [head, [leg, head]]\n")
    drawn.evaluate()
    scores = drawn.table("scores.parquet")
    assert scores["parts"].tolist() == ["head/leg", "head", "leg/head"]
    # factor 1 with head or leg: it shares one pixel of b: 1 / (20 + 7 - 1)
    assert scores["parts_iou"].tolist() == pytest.approx([700 / 14, 400 / 7, 100 / 26])
    table = drawn.table("labels.parquet")
    assert table[["label", "factors", "images"]].to_numpy().tolist() == [
        ["head", "0", 2],
        ["leg/head", "1", 2],
    ]
    assert table["iou"].tolist() == pytest.approx([400 / 7, 100 / 26])


def test_factors_of_one_label_count_together(drawn: Drawn) -> None:
    labels(drawn.project, "sets: {cows: {2: [object, object]}}")
    drawn.evaluate()
    row = drawn.table("labels.parquet").iloc[0]
    # united masks: 6 + 4 in a, 16 in b; 4 + 4 of them on the object's 12: 8 / (26 + 12 - 8)
    assert (row["factors"], row["iou"]) == ("0/1", pytest.approx(800 / 30))


def test_images_that_were_looked_at_do_not_count(drawn: Drawn) -> None:
    labels(drawn.project, "seen: {cows: [images/a.png]}\nsets: {cows: {1: [object], 2: [head, ~]}}")
    drawn.evaluate()
    scores = drawn.table("scores.parquet")
    assert scores["object_iou"].tolist() == pytest.approx([50, 0, 25])
    assert scores["parts"].tolist() == ["object", "head", ""]
    assert drawn.table("labels.parquet")["images"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "sets: {cows: {2: [hed, leg]}}",
            "sets.cows.2: 'hed' is annotated on none of its images; did",
        ),
        ("sets: {cows: {2: [head]}}", "sets.cows.2: must be a list of 2 names"),
        ("sets: {cows: {3: [head, leg, head]}}", "k '3': not factorized"),
        ("sets: {cow: {1: [head]}}", "image set 'cow': not factorized; did you mean 'cows'?"),
        ("layer: fc\nsets: {cows: {1: [head]}}", "layer 'fc': not factorized"),
        ("seed: 5\nsets: {cows: {1: [head]}}", "seed '5': not factorized"),
        ("factors: abc\nsets: {cows: {1: [head]}}", "was written for other factors"),
        ("sets: {cows: {1: [3]}}", "3 is not a name"),
        ("sets: [cows]", "sets: must have an entry"),
        ("seen: {cows: 3}\nsets: {cows: {1: [~]}}", "seen.cows: must be a list"),
        ("sats: {}", "must have the keys"),
        ("sets: {", "cannot be read"),
        ("[" * 5000, "cannot be read"),
        ("seen: {cows: [images/c.png]}\nsets: {cows: {1: [~]}}", "image 'images/c.png': not fact"),
        (
            "seen: {dogs: [images/a.png]}\nsets: {cows: {1: [~]}}",
            "image set 'dogs': not factorized",
        ),
        ("seed: x\nsets: {cows: {1: [head]}}", "seed: 'x' is not a whole number"),
    ],
)
def test_wrong_labels_are_one_line(drawn: Drawn, text: str, expected: str) -> None:
    labels(drawn.project, text)
    with pytest.raises(StageError) as caught:
        drawn.evaluate()
    assert str(caught.value).startswith(str(drawn.project / "labels.yaml"))
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert not (drawn.project / EVALUATE.writes).exists()


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "sets: {}\n", "seen: {cows: [images/a.png]}\n"]
)
def test_empty_labels_are_none(drawn: Drawn, text: str) -> None:
    before = (drawn.evaluate() / "artifact.json").read_text()
    scores = drawn.table("scores.parquet")
    labels(drawn.project, text)
    assert (drawn.evaluate() / "artifact.json").read_text() == before
    assert drawn.table("scores.parquet").equals(scores)
    assert drawn.table("labels.parquet").empty
