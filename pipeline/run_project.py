"""What a run of the whole pipeline begins with; and all of it, from Python."""

import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

from pipeline.params import check_root, read_params
from pipeline.resources import make_resources
from pipeline.run_alone import run_alone
from pipeline.signs import check_signs
from stages.frame.params import user_path
from stages.naming.labels import ensure_labels


def prepared(
    project: Path,
    device: str,
    workers: int,
    memory: str,
    cluster: str,
    store: str,
    *,
    force: bool,
) -> dict[str, str]:
    """Check all that can be checked before the first stage; the environment of the stages.

    Raises
    ------
    ParamsError, ResourceError, StageError
    """
    params = read_params(project)
    check_root(project, params["index"])
    checked = make_resources(device, workers, memory, cluster, store)
    ensure_labels(user_path(params["evaluate"].labels, project))
    check_signs(project, params)
    return {
        "DFF_DEVICE": device,
        "DFF_WORKERS": str(workers),
        "DFF_MEMORY": memory,
        "DFF_CLUSTER": cluster,
        "DFF_STORE": checked.store or "",
        "DFF_REUSE": "0" if force else "1",
    }


def run_project(project: Path, resources: Mapping[str, str], *, force: bool) -> None:
    """Run what is not fresh, without DVC; errors as `run_alone`."""
    # stages are processes: they write to a file, which a notebook's stream need not be
    with redirect_stderr(sys.stderr if _is_file(sys.stderr) else sys.__stderr__):
        run_alone(project, resources, force=force)


def _is_file(stream: Any) -> bool:
    with suppress(OSError, AttributeError, ValueError):
        os.fstat(stream.fileno())
        return True
    return False
