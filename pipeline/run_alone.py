"""Running the pipeline without DVC, in a folder that holds params.yaml and nothing else."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.children import run_child
from pipeline.params import read_params
from pipeline.registry import STAGES
from pipeline.status import stage_states
from stages.frame.errors import StageError
from stages.frame.execute import bring_back
from stages.frame.resources import Resources


def run_alone(project: Path, resources: Mapping[str, str], *, force: bool = False) -> None:
    """Run the stages whose artifacts are not fresh, each in a process of its own.

    Like DVC, it notices that the code has changed, where a kept copy tells what code there was.

    Parameters
    ----------
    resources : mapping of str to str
        Environment of the stages.

    Raises
    ------
    StageError
        When a stage failed; it has said why itself.
    """
    params = read_params(project)
    looking = Resources(store=resources.get("DFF_STORE") or None)
    # one by one: what a stage makes decides about those after it
    for stage, now in zip(STAGES, stage_states(project), strict=True):
        if now.state == "fresh" and not force:
            print(f"{stage.name}: fresh", file=sys.stderr)
            continue
        # here and now: a process of its own would take longer
        if not force and bring_back(stage, params[stage.name], project, looking):
            continue
        command = [sys.executable, "-m", "pipeline", stage.name, "--project", str(project)]
        if run_child(command, os.environ | resources).returncode:
            raise StageError(
                "the run stopped (see the line above); the work so far is kept, `dff run` goes on"
            )
