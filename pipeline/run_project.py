"""What a run of the whole pipeline begins with; and all of it, from Python."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any

from pipeline.params import check_root, read_params
from pipeline.resources import make_resources, memory_bytes
from pipeline.run_alone import run_alone
from pipeline.signs import check_signs
from stages.frame.cluster import local_cluster
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


@contextmanager
def started(resources: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """The environment of the stages, with the address of local processes that run meanwhile."""
    memory = memory_bytes(resources["DFF_MEMORY"])
    with local_cluster(resources["DFF_CLUSTER"], memory) as cluster:
        yield {**resources, "DFF_CLUSTER": cluster}


def run_project(project: Path, resources: Mapping[str, str], *, force: bool) -> None:
    """Run what is not fresh, without DVC; errors as `run_alone`."""
    # stages are processes: they write to a file, which a notebook's stream need not be
    errors = sys.stderr if _is_file(sys.stderr) else sys.__stderr__
    with redirect_stderr(errors), started(resources) as environment:
        run_alone(project, environment, force=force)


def _is_file(stream: Any) -> bool:
    with suppress(OSError, AttributeError, ValueError):
        os.fstat(stream.fileno())
        return True
    return False
