"""Running one stage: inputs -> staging folder -> published artifact."""

from pathlib import Path
from typing import Any

from stages.frame.errors import StageError
from stages.frame.fingerprint import fingerprint
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, P, Stage
from store import ArtifactMissing, staging
from store.artifact import read_attrs


def gather_inputs(stage: Stage[Any], project: Path) -> Inputs:
    """Find the artifacts a stage reads.

    Raises
    ------
    ArtifactMissing
        When one is not there; the line names the stage to run first.
    """
    paths = {name: project / path for name, path in stage.reads.items()}
    found = {}
    for name, path in paths.items():
        attrs = read_attrs(path)
        if attrs is None:
            raise ArtifactMissing(
                f"{stage.reads[name]}: not there yet; run `dff {name}` first, or `dff run` for all"
            )
        found[name] = str(attrs["fingerprint"])
    return Inputs(project, paths, found)


def execute(stage: Stage[P], params: P, project: Path, resources: Resources) -> Path:
    """Run one stage and publish its artifact; goes on where a killed run stopped."""
    inputs = gather_inputs(stage, project)
    sources = stage.sources(params, project) if stage.sources else ""
    out = project / stage.writes
    with staging(out, fingerprint(stage, params, inputs.fingerprints, sources)) as work:
        stage.run(params, inputs, work, resources)
        if gather_inputs(stage, project).fingerprints != inputs.fingerprints:
            raise StageError(
                f"{stage.name}: one of its inputs was replaced while it ran; run it again"
            )
    return out
