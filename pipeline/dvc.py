"""Running the pipeline through DVC."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class DvcError(Exception):
    """DVC, or a stage it ran, failed."""


def ensure_repository(project: Path) -> None:
    """Check that the project folder is one that DVC can run.

    Raises
    ------
    DvcError
        When dvc.yaml or .dvc is missing.
    """
    for needed in ("dvc.yaml", ".dvc"):
        if not (project / needed).exists():
            raise DvcError(
                f"{project / needed}: not there; run this in the project's folder (or with "
                "--project), or run the stages one by one"
            )


def repro(project: Path, resources: Mapping[str, str], *, force: bool = False) -> None:
    """`dvc repro` with the resources in the environment of the stages.

    Raises
    ------
    DvcError
        When a stage failed; it has said why itself.
    """
    binaries = str(Path(sys.executable).parent)
    # dvc starts `dff` by name: it must be the one of this environment
    path = os.pathsep.join([binaries, os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "dvc", "repro", *(["--force"] if force else [])]
    # what DVC says of its own steps is not a result
    finished = subprocess.run(
        command, cwd=project, env=os.environ | resources | {"PATH": path}, stdout=sys.stderr
    )
    if finished.returncode:
        raise DvcError(
            "the run stopped (see the line above); the work so far is kept, `dff run` goes on"
        )
