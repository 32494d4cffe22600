"""dvc.yaml, made from the stages: `python -m pipeline.dvc_yaml` writes the one of this checkout.

Dependencies are the artifacts that a stage reads, the files that its params name, and the code that
it imports (`stages.frame.code`).
"""

from pathlib import Path

from pipeline.registry import STAGES
from store import write_atomically

DVC = "dvc.yaml"
PLOTS = Path(__file__).parent / "templates" / "dvc_plots.yaml"
HEADING = """\
# Made by `python -m pipeline.dvc_yaml` from the stages of pipeline/registry.py; a test compares.
# DVC removes an artifact before it runs the stage, which puts the earlier one back from its kept
# copy (docs/store.md): a failed or interrupted run loses nothing. What a stage needs besides is in
# params.yaml. index is always asked: it alone knows which files of a folder count, and it reads
# again only those that have changed.
stages:
"""


def dvc_yaml() -> str:
    """The text of dvc.yaml: every stage, then metrics and plots."""
    lines = []
    for stage in STAGES:
        deps = [path.as_posix() for path in stage.reads.values()]
        deps += [f"${{{stage.name}.{name}}}" for name in stage.files]
        lines += [f"  {stage.name}:", f"    cmd: dff {stage.name}", "    params:"]
        lines += [f"      - {stage.name}", "    deps:"]
        lines += [f"      - {path}" for path in (*deps, *stage.code)]
        if stage.always:
            lines += ["    always_changed: true"]
        lines += ["    outs:", f"      - {stage.writes.as_posix()}"]
    return HEADING + "\n".join(lines) + "\n\n" + PLOTS.read_text(encoding="utf-8")


if __name__ == "__main__":
    write_atomically(Path(DVC), dvc_yaml().encode())
