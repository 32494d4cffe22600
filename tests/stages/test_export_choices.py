"""What `dff export` is asked for, what it refuses, and what is left when something goes wrong."""

import csv
import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from drawn import LAYER, Drawn
from pipeline.init import write_params
from stages.artifacts.image_index import ImageIndex
from stages.export import tables
from stages.export.exporter import Catalogue, Photograph, Picture
from stages.export.formats import EXPORTERS
from stages.export.voc import Voc
from stages.frame.errors import StageError
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.index.params import IndexParams
from stages.index.stage import INDEX
from tools import copied, edit, message, run_dff

pytestmark = pytest.mark.xdist_group("export")

SIZE = (20, 30)
LEFT = ["###......."] * 4  # heat of the whole sheet is 1 or 0
RIGHT = [".......###", ".......###", "..........", "##........"]


def _photograph(path: Path, turned: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    size = SIZE if turned else SIZE[::-1]
    Image.new("RGB", size, (200, 90, 60)).save(path, exif=exif if turned else Image.Exif())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("export")
    folder, root = home / "project", home / "photographs"
    folder.mkdir()
    _photograph(root / "cows" / "a.jpg")
    _photograph(root / "cows" / "b.jpg", turned=True)
    _photograph(root / "pigs" / "a.jpg")
    write_params(folder, str(root), None, backbone="demo", weights="bundled", layers=["conv4_2"])
    edit(folder, f"root: {root}", "root: ../photographs")
    execute(INDEX, IndexParams("folder", root="../photographs"), folder, Resources())
    index = ImageIndex.open(folder / INDEX.writes, folder)
    assert {index.size(i) for i in range(3)} == {SIZE}
    sheets = [LEFT, LEFT, RIGHT]
    maps = {(of, index.names[i]): sheets for of, ids in index.sets.items() for i in ids}
    Drawn(folder, [(1, 0, 0), (2, 0, 0), (2, 0, 1)], maps).publish()
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """Two sets of one and two photographs, k = 1 and 2; one photograph is stored turned."""
    return copied(made, tmp_path)


@pytest.fixture
def export(project: Path, tmp_path: Path) -> Callable[..., Result]:
    def call(*options: str) -> Result:
        place = () if "--out" in options else ("--out", str(tmp_path / "out"))
        return run_dff("export", "--project", str(project), *place, *options)

    return call


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_usual_choices_are_the_largest_k_all_sets_and_what_is_refined(
    export: Callable[..., Result], tmp_path: Path
) -> None:
    assert export("--format", "csv").exit_code == 0
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (record["k"], record["sets"], record["maps"]) == (2, ["cows", "pigs"], "refined")
    assert record["layer"] == LAYER
    assert record["categories"] == ["cows/2/0", "cows/2/1", "pigs/2/0", "pigs/2/1"]


def test_without_a_k_the_one_that_has_names_is_exported(
    project: Path, export: Callable[..., Result], tmp_path: Path
) -> None:
    """Also where only the smaller one was named: else its names would be in no export."""
    text = "sets: {cows: {1: [cow], 2: [null, null]}}"
    (project / "labels.yaml").write_text(text, encoding="utf-8")
    for n, (options, k, names) in enumerate(
        [
            ((), 1, ["cow", "pigs/1/0"]),
            (("--k", "2"), 2, ["cows/2/0", "cows/2/1", "pigs/2/0", "pigs/2/1"]),
            (("--set", "pigs"), 2, ["pigs/2/0", "pigs/2/1"]),  # of which none has a name
        ]
    ):
        out = tmp_path / f"out{n}"
        assert export("--format", "csv", "--out", str(out), *options).exit_code == 0
        record = json.loads((out / "export.json").read_text())
        assert (record["k"], record["categories"]) == (k, names)


def test_one_set_and_k(export: Callable[..., Result], tmp_path: Path) -> None:
    assert export("--format", "csv", "--set", "pigs", "--k", "1", "--maps", "raw").exit_code == 0
    rows = _rows(tmp_path / "out" / "strength.csv")
    assert [(row["image"], row["concept"]) for row in rows] == [("pigs/a.jpg", "pigs/1/0")]
    assert float(rows[0]["mean"]) == pytest.approx(12 / 40)  # of the sheet's cells


def test_components_are_boxes_of_the_photograph(
    export: Callable[..., Result], tmp_path: Path
) -> None:
    """The photograph is five times as high and three times as wide as the sheets."""
    assert export("--format", "csv", "--set", "pigs").exit_code == 0
    rows = _rows(tmp_path / "out" / "components.csv")
    sides = [tuple(int(row[s]) for s in ("top", "left", "bottom", "right")) for row in rows]
    assert sides == [(0, 0, 20, 9), (0, 21, 10, 30), (15, 0, 20, 6)]
    assert [row["component"] for row in rows] == ["0", "0", "1"]
    assert all(0.5 < float(row["score"]) <= 1 for row in rows)


@pytest.mark.parametrize(
    ("options", "count"),
    [((), 3), (("--semantic",), 2), (("--least-area", "0.2"), 2)],
)
def test_semantic_and_least_area(
    export: Callable[..., Result], tmp_path: Path, options: tuple[str, ...], count: int
) -> None:
    assert export("--format", "coco", "--set", "pigs", *options).exit_code == 0
    data = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert len(data["annotations"]) == count
    assert [one["id"] for one in data["annotations"]] == list(range(1, count + 1))


def test_heat_maps_are_shares_in_16_bits(export: Callable[..., Result], tmp_path: Path) -> None:
    assert export("--format", "masks", "--heat", "--set", "pigs").exit_code == 0
    (row, _) = _rows(tmp_path / "out" / "masks.csv")
    with Image.open(tmp_path / "out" / row["heat"]) as image:
        heat = np.array(image)
    assert heat.shape == SIZE and heat.dtype == np.uint16
    assert heat[:, 0].min() == 65535 and heat[:, -1].max() == 0


@pytest.mark.parametrize(("format", "folder"), [("voc", "JPEGImages"), ("yolo", "images")])
@pytest.mark.parametrize("how", ["link", "copy"])
def test_photographs_are_upright(
    export: Callable[..., Result], tmp_path: Path, format: str, folder: str, how: str
) -> None:
    """Programs that do not turn a photograph would lay masks across it."""
    assert export("--format", format, "--images", how).exit_code == 0
    files = sorted((tmp_path / "out" / folder).iterdir())
    assert len(files) == 3
    for path in files:
        with Image.open(path) as image:
            assert image.size == SIZE[::-1]
            assert image.getexif().get(0x0112, 1) == 1
    assert [path.is_symlink() for path in files].count(True) == (2 if how == "link" else 0)


def test_where_masks_overlap_voc_has_the_stronger(tmp_path: Path) -> None:
    from stages.export.exporter import Concept

    exporter = Voc(images="none")
    photograph = Photograph(0, "a.png", "a", tmp_path / "a.png", (4, 10))
    exporter.open(tmp_path, Catalogue(["one", "other"], [photograph], tmp_path))
    everywhere = np.ones((4, 10), bool)
    rising = np.tile(np.arange(10, dtype=np.uint8) * 20, (4, 1))[..., None]
    concepts = (
        Concept(0, "one", everywhere, rising, 0.0),
        Concept(1, "other", everywhere, np.full((4, 10, 1), 90, np.uint8), 0.0),
    )
    exporter.add(exporter.encode(Picture(photograph, concepts)))
    exporter.close()
    with Image.open(tmp_path / "SegmentationClass" / "a.png") as image:
        values = np.array(image)
        assert image.getpalette()[:6] == [0, 0, 0, 128, 0, 0]  # VOC's colours
    np.testing.assert_array_equal(values, np.where(rising[..., 0] > 90, 1, 2))


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--format", "cocoo"), "--format cocoo: unknown; did you mean 'coco'?"),
        (("--format", "csv", "--maps", "refind"), "did you mean 'refined'?"),
        (("--format", "csv", "--heat"), "--heat is not for csv, but for masks"),
        (("--format", "csv", "--k", "7"), "--k 7: not factorized; there are 1, 2"),
        (("--format", "csv", "--set", "cow"), "--set cow: not factorized; did you mean 'cows'?"),
        (("--format", "csv", "--layer", "x"), f"--layer x: not factorized; there are {LAYER}"),
        (("--format", "csv", "--least-area", "2"), "--least-area 2.0: is not a share"),
        (("--format", "yolo", "--images", "move"), "--images move: choose link, copy, none"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_one_line(
    export: Callable[..., Result], tmp_path: Path, options: tuple[str, ...], line: str
) -> None:
    assert line in message(export(*options))
    assert {path.name for path in tmp_path.iterdir()} == {"project", "photographs"}


def test_a_project_without_artifacts(tmp_path: Path, project: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "params.yaml").write_text((project / "params.yaml").read_text())
    result = run_dff("export", "--format", "csv", "--project", str(tmp_path / "empty"))
    assert "not there yet; run `dff" in message(result)


def test_more_categories_than_a_palette_has(tmp_path: Path) -> None:
    names = [f"concept {i}" for i in range(255)]
    with pytest.raises(StageError, match="holds 254 categories, there are 255"):
        Voc().open(tmp_path, Catalogue(names, [], tmp_path))


def test_only_an_export_is_replaced(export: Callable[..., Result], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export("--format", "csv").exit_code == 0
    assert "is there already" in message(export("--format", "coco"))
    assert (out / "components.csv").exists()
    assert export("--format", "coco", "--force").exit_code == 0
    assert {path.name for path in out.iterdir()} == {"instances.json", "export.json"}
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    line = message(export("--format", "csv", "--force", "--out", str(mine)))
    assert "is no export" in line and (mine / "thesis.txt").exists()


def test_the_folder_of_photographs_gets_no_pictures(
    export: Callable[..., Result], tmp_path: Path
) -> None:
    inside = str(tmp_path / "photographs" / "out")
    assert "lies in the folder of photographs" in message(
        export("--format", "csv", "--out", inside)
    )


@pytest.mark.parametrize("format", EXPORTERS)
def test_a_full_disk_leaves_the_earlier_export(
    export: Callable[..., Result], tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export("--format", "csv").exit_code == 0

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(EXPORTERS[format], "add", full)
    line = message(export("--format", format, "--force"))
    assert "cannot be written (No space left on device)" in line
    assert (tmp_path / "out" / "strength.csv").exists()
    assert not (tmp_path / ".staging").exists()


def test_interrupted_it_leaves_nothing(
    export: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tables.Tables, "add", interrupted)
    result = export("--format", "csv")
    assert result.exit_code == 130 and "nothing was exported" in result.output
    assert {path.name for path in tmp_path.iterdir()} == {"project", "photographs"}


def test_a_format_of_a_strangers(
    export: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One class and one name are all it takes."""

    class Names:
        summary: ClassVar[str] = "names of concepts"

        def open(self, folder: Path, catalogue: Catalogue) -> None:
            self.file = (folder / "names.txt").open("w")

        def encode(self, picture: Picture) -> Any:
            return picture.photograph.name, [one.name for one in picture.concepts]

        def add(self, encoded: Any) -> None:
            self.file.write(f"{encoded[0]}: {', '.join(encoded[1])}\n")

        def close(self) -> None:
            self.file.close()

    monkeypatch.setitem(EXPORTERS, "names", Names)
    assert export("--format", "names", "--k", "1").exit_code == 0
    assert (tmp_path / "out" / "names.txt").read_text().splitlines() == [
        "cows/a.jpg: cows/1/0", "cows/b.jpg: cows/1/0", "pigs/a.jpg: pigs/1/0",
    ]  # fmt: skip
