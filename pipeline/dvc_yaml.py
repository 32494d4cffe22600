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
# `persist` leaves an earlier artifact in place until the stage renames the new one onto it, so a
# failed or interrupted run loses nothing. What a stage needs besides is in params.yaml.
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
        lines += ["    outs:", f"      - {stage.writes.as_posix()}:", "          persist: true"]
    return HEADING + "\n".join(lines) + "\n\n" + PLOTS.read_text(encoding="utf-8")


if __name__ == "__main__":
    write_atomically(Path(DVC), dvc_yaml().encode())
