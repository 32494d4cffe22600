"""Shared by all tests: small collections of photographs, and projects around them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

import interpreted  # noqa: F401  first: Triton's own functions are made when it is imported
from pipeline.init import write_params
from tools import draw, edit, run_dff

# A stage that a test runs twice must run twice; the tests of kept copies set it themselves.
os.environ["DFF_KEEP"] = "0"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two image sets of seven photographs of three shapes, with masks."""
    root = tmp_path / "photographs"
    for name in ("discs", "more discs"):
        for i in range(7):
            size = [(72, 56), (56, 72), (64, 64)][i % 3]
            mask = draw(root / "images" / name / f"{i}.png", i, size)
            target = root / "masks" / name / f"{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(target)
    return root


@pytest.fixture
def project(tmp_path: Path, photographs: Path) -> Path:
    """A project folder whose params.yaml makes a quick run over the photographs."""
    folder = tmp_path / "project"
    folder.mkdir()
    write_params(
        folder,
        str(photographs),
        None,
        backbone="squeezenet1_1",
        weights="random:0",
        layers=["features.5"],
    )
    edit(folder, "size: 224", "size: 64")
    edit(folder, "batch: 16", "batch: 2")
    edit(folder, "k: [1, 2, 3, 4]", "k: [1, 2]")
    edit(folder, "long_side: 224", "long_side: 48")
    return folder


@pytest.fixture
def dff(project: Path) -> Callable[..., Result]:
    """Run `dff COMMAND --project project ...` in this process, errors as a user sees them."""

    def call(*arguments: str) -> Result:
        return run_dff(*arguments, "--project", str(project))

    return call
