"""A project with cows drawn by hand."""

import shutil
from pathlib import Path

import pytest

from drawn import HEAD, LEG, ONE, TWO_0, TWO_1, WHOLE, Drawn, mask, photograph
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.index.params import IndexParams
from stages.index.stage import INDEX


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    home = tmp_path_factory.mktemp("drawn")
    project, root = home / "project", home / "cows"
    project.mkdir()
    for name in ("a", "b"):
        photograph(root / "images" / f"{name}.png", (4, 4))
        mask(root / "masks" / f"{name}.png", WHOLE[name])
        mask(root / "parts" / name / "head.png", HEAD[name])
    mask(root / "parts" / "a" / "leg.png", LEG["a"])
    execute(INDEX, IndexParams(dataset="folder", root="../cows"), project, Resources())
    maps = {("cows", f"images/{name}.png"): [ONE[name], TWO_0[name], TWO_1[name]] for name in "ab"}
    one = Drawn(project, [(1, 0, 0), (2, 0, 0), (2, 0, 1)], maps)
    one.publish()
    return one


@pytest.fixture
def drawn(made: Drawn, project: Path) -> Drawn:
    """One image set with parts, k = 1 and k = 2."""
    shutil.copytree(made.project.parent, project.parent, dirs_exist_ok=True)
    return Drawn(project, list(made.columns), dict(made.maps))
