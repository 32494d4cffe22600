"""CONTRIBUTING.md, done as it says: every example is put in place and the pipeline runs with it."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from elsewhere import Elsewhere
from pipeline.registry import BY_NAME
from store import open_artifact
from tools import ROOT, copy_of_project, draw, shell

pytestmark = pytest.mark.xdist_group("contributing")  # one worker makes its project

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(python|diff) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A file that is new, or the change of one."""

    kind: str
    path: str
    text: str


BLOCKS = [Block(*found) for found in BLOCK.findall(TEXT)]
RECIPES = 5


def changed(text: str, hunk: str) -> str:
    """A text with the lines of one hunk put in."""
    lines, marked = text.split("\n"), hunk.rstrip("\n").split("\n")
    known = [line[1:] for line in marked if line[0] in " -"]
    (at,) = [i for i in range(len(lines) - len(known) + 1) if lines[i : i + len(known)] == known]
    lines[at : at + len(known)] = [line[1:] for line in marked if line[0] in " +"]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project with all extensions of CONTRIBUTING.md."""
    clone = copy_of_project(
        tmp_path_factory.mktemp("extended") / "clone", "stages", "store", "pipeline"
    )
    for block in BLOCKS:
        path = clone / block.path
        if block.kind == "python":
            assert not path.exists(), f"{block.path}: is there already"
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            continue
        text = path.read_text(encoding="utf-8")
        for hunk in block.text.split("...\n"):
            text = changed(text, hunk)
        path.write_text(text, encoding="utf-8")
    return clone


@pytest.fixture(scope="module")
def extended(house: Path) -> Iterator[Elsewhere]:
    """Its commands."""
    with Elsewhere(house) as server:
        yield server


@pytest.fixture(scope="module")
def project(extended: Elsewhere, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that uses them all, run."""
    folder = tmp_path_factory.mktemp("with extensions")
    names = [f"{of}/{i}.png" for of in ("discs", "more discs") for i in range(3)]
    for i, name in enumerate(names):
        draw(folder / "photographs" / name, i)
    lines = [f"all {name}\n" for name in names]
    (folder / "photographs/images.txt").write_text("".join(lines), encoding="utf-8")
    dff(extended, folder, "init", "photographs", "--project", ".", "--backbone", "stripes")
    params = folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    for before, after in (
        (r"dataset: folder", "dataset: listed"),
        (r"  folder:\n(    .*\n)+", "  listed:\n    file: images.txt\n"),
        (r"size: 224", "size: 64"),
        (r"k: \[1, 2, 3, 4\]", "k: [1, 2]"),
        (r"stability_runs: 5", "stability_runs: 0"),
        (r"method: guided", "method: smooth"),
        (r"  guided:\n(    .*\n)+", "  smooth:\n    sigma: 1.0\n"),
    ):
        text, count = re.subn(before, after, text)
        assert count == 1, before
    params.write_text(text, encoding="utf-8")
    for stage in (*BY_NAME, "overlap"):
        dff(extended, folder, stage)
    return folder


def dff(extended: Elsewhere, folder: Path, *arguments: str) -> str:
    code, output, errors = extended.dff(folder, *arguments)
    assert code == 0, errors
    return output


def test_each_extension_is_one_module_and_one_registered_name() -> None:
    recipes = re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]
    assert len(recipes) == RECIPES
    for recipe in recipes:
        blocks = [Block(*found) for found in BLOCK.findall(recipe)]
        new = [Path(block.path) for block in blocks if block.kind == "python"]
        # one file, or the folder of a stage
        assert len(new) == 1 or len({path.parent for path in new}) == 1
        assert [block.kind for block in blocks].count("diff") == 1


def test_the_network_and_the_reader_make_activations(project: Path) -> None:
    activations = open_artifact(project / "artifacts/activations.zarr")
    assert activations.layers == ["coarse"] and list(activations.sets) == ["all"]
    assert activations.ragged("coarse").map(0).shape == (8, 8, 16)
    assert len(activations.images) == 6


def test_the_refiner_smooths(project: Path) -> None:
    refined = open_artifact(project / "artifacts/refined.zarr")
    assert refined.attrs["method"] == "smooth"
    assert refined.attrs["params"]["options"] == {"sigma": 1.0}


def test_the_stage_runs_with_the_others(house: Path, extended: Elsewhere, project: Path) -> None:
    table = pd.read_csv(project / "artifacts/overlap/overlap.csv")
    assert len(table) == 1 and (table["in_several"] <= table["in_any"]).all()
    assert table["in_any"].item() > 0
    assert re.search(r"overlap +fresh", dff(extended, project, "status"))
    code, _, said = extended.dff(project, "run")
    assert code == 0 and "overlap: fresh" in said.splitlines(), said
    made = shell(project, house, sys.executable, "-m", "pipeline.dvc_yaml")
    assert made.returncode == 0, made.stderr
    assert "cmd: dff overlap" in (project / "dvc.yaml").read_text(encoding="utf-8")


def test_the_exporter_writes_its_lines(extended: Elsewhere, project: Path) -> None:
    dff(extended, project, "export", "--format", "lines", "--out", "lines")
    lines = (project / "lines/boxes.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 6
    assert all(re.fullmatch(r"'.*' '.*' \d+ \d+ \d+ \d+", line) for line in lines)


def test_what_is_added_is_found_by_the_commands(extended: Elsewhere, project: Path) -> None:
    assert "coarse" in dff(extended, project, "show-model", "stripes")
    edited = (project / "params.yaml").read_text(encoding="utf-8").replace("sigma: 1.0", "sigma: 0")
    (project / "wrong").mkdir()
    (project / "wrong/params.yaml").write_text(edited, encoding="utf-8")
    code, _, errors = extended.dff(project / "wrong", "status")
    assert code == 1 and "refine.smooth.sigma: 0.0 must be above 0" in errors
