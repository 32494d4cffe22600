"""What `dff beside` shows: reports of projects, in folders, of revisions that DVC knows."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.dvc import uses_dvc
from pipeline.params import PARAMS, ParamsError
from pipeline.registry import BY_NAME
from pipeline.status import stage_states
from stages.datasets import DatasetError
from stages.frame.errors import StageError
from stages.frame.progress import note
from stages.report.packed import DATA, FORMAT, read_script
from store import StoreError

REPORT = BY_NAME["report"].writes
UNKNOWN = "unknown Git revision"  # what DVC says
AGAIN = "run `dff report` again"


@dataclass(frozen=True)
class Side:
    """One report with its data, and the params that it was made with where they are known.

    Attributes
    ----------
    label : str
        What it is called.
    report : Path
        Its folder.
    index : dict
        The payload ``index`` of its data: `stages.report.explore_facts.facts_of_run`.
    params : dict or None
        ``{"factorize.k": [1, 2], ...}``.
    """

    label: str
    report: Path
    index: dict[str, Any]
    params: dict[str, Any] | None

    def images(self, rank: int) -> list[str]:
        """Names of an image set's images, in order."""
        return list(_payload(self.report, f"set-{rank:03d}/set")["images"])


def open_side(what: str, project: Path, scratch: Path) -> Side:
    """Open what a user names.

    Parameters
    ----------
    what : str
        A project's folder, a report's, or else a revision or an experiment of `project`.
    scratch : Path
        An empty folder for what DVC fetches.

    Raises
    ------
    StageError
        When there is no such thing, or it has no report that can be shown.
    """
    folder = Path(what)
    if not folder.is_dir():
        return _revision(what, project, scratch)
    if (folder / REPORT).is_dir():
        return _of_project(folder)
    inside = len(REPORT.parts)
    home = Path(*folder.resolve().parts[:-inside])
    if home / REPORT == folder.resolve() and (home / PARAMS).is_file():
        return _of_project(home)
    if (folder / PARAMS).is_file():
        raise StageError(f"{what}: has no report yet; run `dff run --project {what}`")
    return Side(folder.resolve().name, folder, _index(folder, what), None)


def _of_project(project: Path) -> Side:
    index = _index(project / REPORT, str(project))
    name = project.resolve().name
    path = project / PARAMS
    params = flat_params(path) if path.is_file() and _is_fresh(project) else None
    if params is None and path.exists():
        note(f"{path}: is not what the report was made with (`dff status`), and is not compared")
    return Side(name, project / REPORT, index, params)


def _is_fresh(project: Path) -> bool:
    """Whether a project's report is of its params and photographs as they are now."""
    try:
        *_, last = stage_states(project)
    except (DatasetError, ParamsError, StageError, StoreError, OSError):
        return False
    return last.state == "fresh"


def _revision(name: str, project: Path, scratch: Path) -> Side:
    if not uses_dvc(project):
        raise StageError(
            f"{name}: no such folder; nor can it be a revision, for {project.resolve().name} is no "
            "project of DVC's (--project names another)"
        )
    report, params = scratch / "report", scratch / PARAMS
    failed = _fetch(project, name, REPORT, report)
    if UNKNOWN in failed:
        raise StageError(f"{name}: no such folder, nor such a revision or experiment")
    if failed:
        raise StageError(
            f"{name}: DVC's cache has no report of this revision ({failed}); `dvc fetch "
            f"--all-commits`, or running it again, puts it there"
        )
    unknown = bool(_fetch(project, name, Path(PARAMS), params))
    return Side(name, report, _index(report, name), None if unknown else flat_params(params))


def _fetch(project: Path, revision: str, path: Path, out: Path) -> str:
    """Have DVC write what a revision has at a path; returns why it could not, or nothing."""
    command = [sys.executable, "-m", "dvc", "get", ".", path.as_posix()]
    command += [f"--rev={revision}", "-o", str(out.resolve())]
    env = os.environ | {"DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        command, cwd=project, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode == 0 and out.exists():
        return ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return lines[0].rpartition(" - ")[2] if lines else "it does not say why"


def flat_params(path: Path) -> dict[str, Any] | None:
    """A params.yaml as ``{"section.key": value}``, None where it cannot be read."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return dict(_flat("", found)) if isinstance(found, Mapping) else None


def _flat(before: str, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        found += _flat(f"{name}.", value) if isinstance(value, Mapping) else [(name, value)]
    return found


def _index(report: Path, what: str) -> dict[str, Any]:
    """The payload that a report's data begins with.

    Raises
    ------
    StageError
        When there is none, or it is of another version.
    """
    if not (report / DATA / "index.js").exists():
        if (report / "index.html").exists():
            raise StageError(f"{what}: its report has no data to explore; {AGAIN}")
        raise StageError(f"{what}: is neither a project that was run nor a report's folder")
    index = _payload(report, "index")
    if index.get("format") != FORMAT:
        raise StageError(
            f"{what}: its report's data has format {index.get('format', 0)}, this version of dff "
            f"reads {FORMAT}; {AGAIN}"
        )
    return index


def _payload(report: Path, key: str) -> dict[str, Any]:
    path = report / DATA / f"{key}.js"
    try:
        return dict(read_script(path, key))
    except (OSError, ValueError, TypeError) as error:
        raise StageError(f"{path}: cannot be read ({error}); {AGAIN}") from error
