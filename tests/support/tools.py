"""Tools that tests share: small collections of photographs, and `dff` run in this process."""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner, Result

from pipeline import cli
from pipeline.cli.errors import USER_ERRORS
from pipeline.init import write_params
from pipeline.params import PARAMS
from pipeline.registry import BY_NAME
from stages.refine.refiners import REFINERS
from store import Staging

ROOT = Path(__file__).parents[2]


def draw(path: Path, seed: int, size: tuple[int, int] = (72, 56)) -> np.ndarray:
    """A bright disc on a dark ground, (width, height); returns the disc's mask [h, w]."""
    rng = np.random.default_rng(seed)
    width, height = size
    ground = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
    image, mask = Image.fromarray(ground), Image.new("1", size)
    x, y = rng.integers(8, [width - 24, height - 24])
    box = (int(x), int(y), int(x) + 18, int(y) + 18)
    ImageDraw.Draw(image).ellipse(box, fill=tuple(int(c) for c in rng.integers(180, 255, 3)))
    ImageDraw.Draw(mask).ellipse(box, fill=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return np.array(mask)


def draw_photographs(
    root: Path,
    count: int = 7,
    sizes: Sequence[tuple[int, int]] = ((72, 56), (56, 72), (64, 64)),
) -> Path:
    """Two image sets of seven photographs of three shapes, with masks."""
    for name in ("discs", "more discs"):
        for i in range(count):
            mask = draw(root / "images" / name / f"{i}.png", i, sizes[i % len(sizes)])
            target = root / "masks" / name / f"{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(target)
    return root


def small_project(folder: Path, photographs: Path) -> Path:
    """A project folder whose params.yaml makes a quick run over the photographs."""
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
    edit(folder, "stability_runs: 5", "stability_runs: 2")
    edit(folder, "long_side: 224", "long_side: 48")
    return folder


def movable_project(home: Path) -> Path:
    """A small project beside its photographs, which it names by a relative path: see `copied`."""
    photographs = draw_photographs(home / "photographs")
    project = small_project(home / "project", photographs)
    edit(project, f"root: {photographs}", "root: ../photographs")
    return project


def copied(made: Path, home: Path) -> Path:
    """A project that others read, with what lies beside it, for a test that changes it."""
    shutil.copytree(made.parent, home, symlinks=True, dirs_exist_ok=True)
    return home / made.name


def edit(project: Path, before: str, after: str) -> None:
    """Change one value in a project's params.yaml."""
    path = project / PARAMS
    text = path.read_text(encoding="utf-8")
    assert before in text, f"{before!r} is not in params.yaml"
    path.write_text(text.replace(before, after), encoding="utf-8")


def refine_by(project: Path, method: str) -> None:
    """Choose another refiner, with its usual options."""
    edit(project, "method: guided", f"method: {method}")
    options = dataclasses.asdict(REFINERS[method]())
    if method != "guided" and options:
        edit(project, "  guided:\n", f"  {method}: {options}\n  guided:\n")


@contextmanager
def interrupted_at(images: int) -> Iterator[None]:
    """Ctrl-C right after the checkpoint that counts so many images."""
    checkpoint = Staging.checkpoint

    def interrupted(self: Staging, **progress: object) -> None:
        checkpoint(self, **progress)
        if progress.get("done") == images:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Staging, "checkpoint", interrupted)
        yield


def copy_of_project(folder: Path, *names: str) -> Path:
    """Folders and files of this project in a new folder, as a checkout would have them.

    With what Python and Numba have compiled of them, which knows files by size and time: to do that
    again takes each copy half a minute.
    """
    ignore = shutil.ignore_patterns("cache", "tmp", "config.local", "*.pyc.*", "tmp.*")
    folder.mkdir()
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore, copy_function=_copy)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _copy(source: str, target: str) -> None:
    """What another process has just replaced is not needed."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)


def shell(folder: Path, code: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """A command as a user types it in a folder, running that copy of the code."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"PATH": path, "PYTHONPATH": str(code)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def run_dff(*arguments: str) -> Result:
    """`dff` in this process; a user error becomes its line and exit code 1, as in `cli.main`."""
    result = CliRunner().invoke(cli.app, list(arguments))
    if result.exception and not isinstance(result.exception, (SystemExit, *USER_ERRORS)):
        raise result.exception
    return result


def run_in_process(project: Path, *names: str) -> None:
    """Stages in this process, which has their libraries loaded; all of them, if none is named."""
    for name in names or BY_NAME:
        result = run_dff(name, "--project", str(project))
        assert result.exit_code == 0, (name, result.output, result.exception)


def message(result: Result) -> str:
    """The one line that `dff` prints for a user error."""
    assert isinstance(result.exception, USER_ERRORS), (result.output, result.exception)
    assert result.exit_code == 1
    return " ".join(str(result.exception).split())
