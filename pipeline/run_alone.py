"""Running the pipeline without DVC, in a folder that holds params.yaml and nothing else."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.registry import STAGES
from pipeline.status import stage_states
from stages.frame.errors import StageError


def run_alone(project: Path, resources: Mapping[str, str], *, force: bool = False) -> None:
    """Run the stages whose artifacts are not fresh, each in a process of its own.

    Unlike DVC, it does not notice that the code has changed.

    Parameters
    ----------
    resources : mapping of str to str
        Environment of the stages.

    Raises
    ------
    StageError
        When a stage failed; it has said why itself.
    """
    fresh = set() if force else {one.name for one in stage_states(project) if one.state == "fresh"}
    for stage in STAGES:
        if stage.name in fresh:
            print(f"{stage.name}: fresh", file=sys.stderr)
            continue
        command = [sys.executable, "-m", "pipeline.cli", stage.name, "--project", str(project)]
        # where an artifact lies is not a result
        done = subprocess.run(command, env=os.environ | resources, stdout=sys.stderr)
        if done.returncode:
            raise StageError(
                "the run stopped (see the line above); the work so far is kept, `dff run` goes on"
            )
