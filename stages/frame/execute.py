"""Running one stage: inputs -> staging folder -> published artifact, or a kept copy of it."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stages.frame.cluster import RECORD, clustered
from stages.frame.code import code_digest
from stages.frame.errors import StageError
from stages.frame.fingerprint import digest, fingerprint
from stages.frame.parallel import note_unused
from stages.frame.progress import note
from stages.frame.rates import record_rate
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, P, Stage
from store import ArtifactMissing, Staging
from store.artifact import elsewhere, read_attrs
from store.kept import copy_at, find_kept, keep, kept_copies, listing, put_back
from store.publication import staged, working_on


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
    """Run one stage and publish its artifact; goes on where a killed run stopped.

    An artifact that was made before, from the same and by the same code, is brought back from its
    kept copy instead, unless ``resources.reuse`` is False.
    """
    inputs = gather_inputs(stage, project)
    if stage.forget and not resources.reuse:
        stage.forget(project)
    made = _made_from(stage, params, inputs, resources)
    out = project / stage.writes
    with working_on(out):
        if resources.reuse and _is_brought_back(stage, out, made):
            return out
        if not out.exists():
            # DVC has removed it: readers, and whoever is left with a failed run, have the last one
            for copy in kept_copies(out)[:1]:
                put_back(copy, out)
        note_unused(stage, resources)
        with staged(out, made["fingerprint"]) as work:
            resumed, began = bool(work.progress), time.monotonic()
            _run(stage, params, inputs, work, resources)
            seconds = time.monotonic() - began
            if gather_inputs(stage, project).fingerprints != inputs.fingerprints:
                raise StageError(
                    f"{stage.name}: one of its inputs was replaced while it ran; run it again"
                )
        if _identities(inputs.paths) == made["inputs"]:
            _keep(stage, out, made)
    if not resumed:
        record_rate(out, _photographs(out, inputs), seconds)
    return out


def _run(stage: Stage[P], params: P, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """On the cluster, where there is one that the stage can use."""
    address = resources.cluster if stage.clustered else None
    (work.scratch / RECORD).unlink(missing_ok=True)  # who did what, of a run before
    with clustered(address, work.scratch / RECORD, who=stage.name) as spread:
        stage.run(params, inputs, work, replace(resources, spread=spread))


def _photographs(out: Path, inputs: Inputs) -> int:
    """Of how many photographs an artifact is, as it or those it was made from say."""
    for path in (*inputs.paths.values(), out):
        images = (read_attrs(path) or {}).get("images")
        if images:
            return images if isinstance(images, int) else len(images)
    return 0


def bring_back(stage: Stage[P], params: P, project: Path, resources: Resources) -> bool:
    """What `execute` does when the artifact was made before; False, and nothing done, when not."""
    made = _made_from(stage, params, gather_inputs(stage, project), resources)
    out = project / stage.writes
    with working_on(out):
        return _is_brought_back(stage, out, made)


def made_otherwise(stage: Stage[Any], project: Path) -> str:
    """Why a published artifact of the right fingerprint is to be made again, or nothing.

    The fingerprint does not know the code that made an artifact, nor that of its inputs; the kept
    copy does, where there is one.
    """
    copy = copy_at(project / stage.writes)
    if copy is None or "code" not in copy.made:
        return ""
    if copy.made["code"] != code_digest(stage.run.__module__):
        return "made by other code"
    paths = {name: project / path for name, path in stage.reads.items()}
    if copy.made["inputs"] != _identities(paths):
        return "its inputs were made anew since"
    return ""


def _made_from(stage: Stage[P], params: P, inputs: Inputs, resources: Resources) -> dict[str, Any]:
    """All that decides what an artifact is, its fingerprint and what that does not know."""
    sources = stage.sources(params, inputs.project) if stage.sources else ""
    return {
        "fingerprint": fingerprint(stage, params, inputs.fingerprints, sources),
        "code": code_digest(stage.run.__module__),
        "inputs": _identities(inputs.paths),
        "store": resources.store or "",
    }


def _identities(paths: Mapping[str, Path]) -> dict[str, str]:
    """Which artifacts lie there: other code makes others under the same fingerprint."""
    return {name: digest(listing(path)) for name, path in paths.items()}


def _is_brought_back(stage: Stage[Any], out: Path, made: Mapping[str, Any]) -> bool:
    """Whether a kept copy of what is to be made is published now.

    One that only says where its arrays are does not count: they may be gone, or others.
    """
    copy = find_kept(out, made)
    if copy is None or elsewhere(copy.artifact):
        return False
    if listing(out) == copy.files:
        note(f"{stage.name}: up to date")
        return True
    if put_back(copy, out):
        note(f"{stage.name}: was made before, brought back from its kept copy")
        return True
    return False


def _keep(stage: Stage[Any], out: Path, made: Mapping[str, Any]) -> None:
    try:
        keep(out, made)
    except OSError as error:
        reason = error.strerror or error
        note(f"{stage.name}: no copy is kept ({reason}); going back will compute it again")
