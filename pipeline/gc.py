"""`dff gc`: dropping kept copies of earlier artifacts."""

from pathlib import Path

from pipeline.registry import STAGES
from pipeline.status import readable_size
from store.kept import drop, kept_copies, own_bytes, superfluous
from store.publication import working_on


def collect(project: Path, keep: int, *, dry_run: bool) -> str:
    """Drop all but `keep` kept copies of each artifact; says how many, and what that frees.

    Raises
    ------
    StagingLocked
        When a stage is running; those before it are done then.
    """
    outs = [project / stage.writes for stage in STAGES]
    chosen = {out: superfluous(out, keep) for out in outs}
    folders = [folder for some in chosen.values() for folder in some]
    freed = readable_size(own_bytes(folders))
    if not dry_run:
        for out, some in chosen.items():
            if some:
                with working_on(out):
                    drop(some)
    said = "would drop" if dry_run else "dropped"
    return f"{said} {_copies(len(folders))}: {freed}, besides what is shared with other links"


def kept_line(project: Path) -> str:
    """What `dff status` says of the kept copies; nothing when there are none."""
    folders = [copy.folder for stage in STAGES for copy in kept_copies(project / stage.writes)]
    if not folders:
        return ""
    size = readable_size(own_bytes(folders))
    return f"{_copies(len(folders))} kept to go back to: {size} of their own; `dff gc` drops them"


def _copies(count: int) -> str:
    return f"{count} {'copy' if count == 1 else 'copies'}"
