"""The state of every stage's artifact."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.params import read_params
from pipeline.registry import STAGES
from stages.frame.fingerprint import fingerprint
from stages.frame.stage import Stage
from store import ArtifactDamaged, SchemaMismatch, read_progress
from store.artifact import read_attrs
from store.publication import staging_folder


@dataclass(frozen=True)
class State:
    """One line of `dff status`; `state` is fresh, stale, partial or absent."""

    name: str
    state: str
    size: str
    detail: str


def stage_states(project: Path) -> Iterator[State]:
    """The state of each stage, in order; a stage below one that is not fresh is stale."""
    params = read_params(project)
    expected: dict[str, str] = {}
    for stage in STAGES:
        sources = stage.sources(params[stage.name], project) if stage.sources else ""
        inputs = {name: expected[name] for name in stage.reads}
        expected[stage.name] = fingerprint(stage, params[stage.name], inputs, sources)
        yield _state(stage, project, expected[stage.name])


def _state(stage: Stage[Any], project: Path, wanted: str) -> State:
    out = project / stage.writes
    size = readable_size(folder_bytes(out)) if out.exists() else ""
    progress = read_progress(out, wanted)
    try:
        attrs = read_attrs(out)
    except (SchemaMismatch, ArtifactDamaged) as error:
        return State(stage.name, "stale", size, str(error))
    if attrs is not None and attrs["fingerprint"] == wanted:
        elsewhere = f"; arrays at {attrs['store']}" if "store" in attrs else ""
        return State(stage.name, "fresh", size, f"{stage.writes}{elsewhere}")
    if progress is not None and "total" in progress:
        detail = f"{progress['done']} of {progress['total']} {progress['unit']}"
        return State(stage.name, "partial", size, detail)
    if staging_folder(out, wanted).exists():
        return State(stage.name, "partial", size, "begun; nothing checkpointed yet")
    if attrs is not None:
        return State(stage.name, "stale", size, "made from other params, images or inputs")
    return State(stage.name, "absent", size, "")


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
