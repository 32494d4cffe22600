"""The state of every stage's artifact."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.dvc import uses_dvc
from pipeline.params import read_params
from pipeline.registry import STAGES
from stages.frame.cluster import RECORD
from stages.frame.code import code_digest
from stages.frame.execute import made_otherwise
from stages.frame.fingerprint import fingerprint
from stages.frame.stage import Stage
from stages.index.notes import plural
from store import ArtifactDamaged, SchemaMismatch, read_progress
from store.artifact import read_attrs
from store.kept import kept_copies
from store.publication import staging_folder

SHOWN = 4  # workers in a line


@dataclass(frozen=True)
class State:
    """One line of `dff status`; `state` is fresh, stale, partial or absent."""

    name: str
    state: str
    size: str
    detail: str


def stage_states(project: Path) -> Iterator[State]:
    """The state of each stage, in order; a stage below one that is not fresh is stale.

    Each is found out when it is asked for: a stage may be run before the next is. What code made an
    artifact counts only where DVC does not look after that.
    """
    params = read_params(project)
    by_code = not uses_dvc(project)
    expected: dict[str, str] = {}
    for stage in STAGES:
        sources = stage.sources(params[stage.name], project) if stage.sources else ""
        inputs = {name: expected[name] for name in stage.reads}
        expected[stage.name] = fingerprint(stage, params[stage.name], inputs, sources)
        yield _state(stage, project, expected[stage.name], by_code)


def _state(stage: Stage[Any], project: Path, wanted: str, by_code: bool) -> State:
    out = project / stage.writes
    size = readable_size(folder_bytes(out)) if out.exists() else ""
    progress = read_progress(out, wanted)
    try:
        attrs = read_attrs(out)
    except (SchemaMismatch, ArtifactDamaged) as error:
        return State(stage.name, "stale", size, str(error))
    if attrs is not None and attrs["fingerprint"] == wanted:
        if by_code and (why := made_otherwise(stage, project)):
            return State(stage.name, "stale", size, why)
        elsewhere = f"; arrays at {attrs['store']}" if "store" in attrs else ""
        return State(stage.name, "fresh", size, f"{stage.writes}{elsewhere}")
    if progress is not None and "total" in progress:
        detail = f"{progress['done']} of {progress['total']} {progress['unit']}"
        return State(stage.name, "partial", size, detail + _on_cluster(out, wanted))
    if staging_folder(out, wanted).exists():
        detail = "begun; nothing checkpointed yet"
        return State(stage.name, "partial", size, detail + _on_cluster(out, wanted))
    kept = _kept(stage, out, wanted)
    if attrs is not None:
        detail = "made from other params, images or inputs"
        return State(stage.name, "stale", size, f"{detail}; {kept}" if kept else detail)
    return State(stage.name, "absent", size, kept)


def _on_cluster(out: Path, wanted: str) -> str:
    """Which workers do the unfinished work, as its run has left word; nothing without a cluster."""
    try:
        told = json.loads((staging_folder(out, wanted) / "scratch" / RECORD).read_bytes())
        workers = sorted(told["workers"].items(), key=lambda one: (-one[1][0], one[0]))
        shown = [f"{name.split('://')[-1]} did {n}, last {last}" for name, (n, last) in workers]
        if len(shown) > SHOWN:
            shown = [*shown[:SHOWN], f"{len(shown) - SHOWN} more"]
        who = plural(len(workers), "worker") + (f" ({'; '.join(shown)})" if shown else "")
        page = f"; {told['dashboard']}" if told["dashboard"] else ""
        return f" on {told['address']}: {who}{page}"
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _kept(stage: Stage[Any], out: Path, wanted: str) -> str:
    """What there is to go back to, while the published artifact is not what is wanted."""
    copies = kept_copies(out)
    code = code_digest(stage.run.__module__)
    if any((c.made["fingerprint"], c.made.get("code")) == (wanted, code) for c in copies):
        return "the wanted one is kept"
    return f"earlier ones kept: {len(copies)}" if copies and not out.exists() else ""


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; what vanishes meanwhile does not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(parent) / name).lstat().st_size
    return total


def readable_size(count: int) -> str:
    """``1.5 MiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
