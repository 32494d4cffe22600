"""One finished project for all tests that only read."""

from pathlib import Path

import pytest
from PIL import Image

from pipeline.init import write_params
from pipeline.registry import STAGES
from tools import draw, edit, run_dff

NAMES = "sets: {discs: {2: [background, object]}}\n"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of photographs of two shapes, run up to evaluate."""
    folder = tmp_path_factory.mktemp("finished")
    root, project = folder / "photographs", folder / "project"
    for name in ("discs", "more discs"):
        for i in range(4):
            mask = draw(root / "images" / name / f"{i}.png", i, [(72, 56), (56, 72)][i % 2])
            target = root / "masks" / name / f"{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(target)
    write_params(
        project,
        str(root),
        None,
        backbone="squeezenet1_1",
        weights="random:0",
        layers=["features.5"],
    )
    edit(project, "size: 224", "size: 64")
    edit(project, "k: [1, 2, 3, 4]", "k: [1, 2]")
    edit(project, "seeds: [0]", "seeds: [0, 1]")
    edit(project, "long_side: 224", "long_side: 48")
    (project / "labels.yaml").write_text(NAMES)
    for stage in STAGES[:6]:
        result = run_dff(stage.name, "--project", str(project))
        assert result.exit_code == 0, result.exception
    return project
