"""One finished project for all tests that only read, or work on a copy of it."""

import shutil
from pathlib import Path

import pytest

from pipeline.registry import STAGES
from tools import draw_photographs, edit, run_in_process, small_project

NAMES = "sets: {discs: {2: [background, object]}}\n"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of photographs of two shapes, run up to evaluate."""
    folder = tmp_path_factory.mktemp("finished")
    photographs = draw_photographs(folder / "photographs", 4, [(72, 56), (56, 72)])
    project = small_project(folder / "project", photographs)
    edit(project, "seeds: [0]", "seeds: [0, 1]")
    (project / "labels.yaml").write_text(NAMES)
    run_in_process(project, *(stage.name for stage in STAGES[:7]))
    return project


@pytest.fixture(scope="session")
def reported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its report."""
    project = tmp_path_factory.mktemp("reported") / "project"
    shutil.copytree(finished, project)
    run_in_process(project, "report")
    return project
