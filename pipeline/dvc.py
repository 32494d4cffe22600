"""Running the pipeline through DVC."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.children import run_child
from pipeline.registry import STAGES
from store import StoreError
from store.kept import adopt
from store.publication import working_on


class DvcError(Exception):
    """DVC, or a stage it ran, failed."""


def uses_dvc(project: Path) -> bool:
    """Whether DVC looks after a project: with a dvc.yaml, where DVC can work.

    It needs a git repository unless it is told not to; a checkout that was downloaded as a ZIP file
    is none.
    """
    if not (project / "dvc.yaml").exists():
        return False
    folder = project.resolve()
    if any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return True
    configs = (folder / ".dvc" / name for name in ("config", "config.local"))
    return any("no_scm" in one.read_text(encoding="utf-8") for one in configs if one.is_file())


def ensure_repository(project: Path) -> None:
    """Check that the project folder is one that DVC can run.

    Raises
    ------
    DvcError
        When dvc.yaml or .dvc is missing.
    """
    if not (project / "dvc.yaml").exists():
        raise DvcError(
            f"{project / 'dvc.yaml'}: not there; run this in the project's folder (or with "
            "--project), or run the stages one by one"
        )
    if not (project / ".dvc").exists():
        raise DvcError(f"{project / '.dvc'}: not there; `git init`, then `dvc init` makes it")


def repro(project: Path, resources: Mapping[str, str], *, force: bool = False) -> None:
    """`dvc repro` with the resources in the environment of the stages.

    Raises
    ------
    DvcError
        When a stage failed; it has said why itself.
    """
    _keep_what_is_there(project)
    binaries = str(Path(sys.executable).parent)
    # dvc starts `dff` by name: it must be the one of this environment
    path = os.pathsep.join([binaries, os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "dvc", "repro", *(["--force"] if force else [])]
    if run_child(command, os.environ | resources | {"PATH": path}, project).returncode:
        raise DvcError(
            "the run stopped (see the line above); the work so far is kept, `dff run` goes on"
        )


def _keep_what_is_there(project: Path) -> None:
    """Keep copies of artifacts that DVC brought here: it removes them before it runs a stage."""
    for stage in STAGES:
        out = project / stage.writes
        # without a copy the stage computes all rows anew; should it be running, it says so itself
        with suppress(OSError, StoreError):
            if out.exists():
                with working_on(out):
                    adopt(out)
