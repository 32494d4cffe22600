"""dvc.yaml, made from the stages: `python -m pipeline.dvc_yaml` writes the one of this checkout.

Dependencies are the artifacts that a stage reads, the files that its params name, and the code that
it imports (`stages.frame.code`): the files themselves in a checkout; elsewhere a digest of them,
which a stage of its own writes.
"""

import json
from pathlib import Path

import pipeline
from pipeline.registry import STAGES
from stages.frame.code import code_digest
from stages.frame.errors import StageError
from stages.frame.params import user_path
from stages.naming.labels import ensure_labels
from store import write_atomically

DVC = "dvc.yaml"
CODE = "artifacts/code.json"  # of a project that is no checkout
GITIGNORE = "/artifacts/\n/transformed/\n/exports/\n"  # DVC and this program look after these
TEMPLATES = Path(__file__).parent / "templates"
HEADING = """\
# Made by `python -m pipeline.dvc_yaml` from the stages of pipeline/registry.py; a test compares.
# DVC removes an artifact before it runs the stage, which puts the earlier one back from its kept
# copy (docs/store.md): a failed or interrupted run loses nothing. What a stage needs besides is in
# params.yaml. index is always asked: it alone knows which files of a folder count, and it reads
# again only those that have changed.
stages:
"""
PROJECT_HEADING = f"""\
# Written by `dff init --dvc`. Two stages are always asked: code, what code each of the others runs
# now, so that another version of dff runs again what it does in another way; and index, which alone
# knows which files of a folder count.
stages:
  code:
    cmd: dff code {CODE}
    always_changed: true
    outs:
      - {CODE}
"""


def dvc_yaml() -> str:
    """The text of the checkout's dvc.yaml: every stage, then metrics and plots."""
    plots = [_template(name) for name in ("dvc_plots.yaml", "dvc_figure4.yaml")]
    return HEADING + _stages(in_checkout=True) + "\n" + "".join(plots)


def project_yaml() -> str:
    """The text for a project in a folder of its own.

    Without Figure 4, whose template would have to lie in ``.dvc``: `dff compare` draws it.
    """
    return PROJECT_HEADING + _stages(in_checkout=False) + "\n" + _template("dvc_plots.yaml")


def write_project_yaml(project: Path, labels: str, *, force: bool) -> Path:
    """Put dvc.yaml beside a project's params.yaml, and what it names; returns its path.

    Raises
    ------
    StageError
        When there is another dvc.yaml, which `force` does not allow to replace.
    """
    path = project / DVC
    text = project_yaml()
    if path.exists() and not force and path.read_text(encoding="utf-8") != text:
        raise StageError(f"{path}: is there already, and is another one; --force replaces it")
    write_atomically(path, text.encode())
    ensure_labels(user_path(labels, project))
    if not (ignored := project / ".gitignore").exists():
        write_atomically(ignored, GITIGNORE.encode())
    return path


def write_code(path: Path) -> None:
    """Store which code each stage runs, as JSON; unchanged code gives the very same file."""
    digests = {stage.name: code_digest(stage.run.__module__) for stage in STAGES}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"dff": pipeline.__version__} | digests, indent=1).encode())


def _stages(*, in_checkout: bool) -> str:
    lines = []
    for stage in STAGES:
        deps = [path.as_posix() for path in stage.reads.values()]
        deps += [f"${{{stage.name}.{name}}}" for name in stage.files]
        deps += stage.code if in_checkout else ()
        lines += [f"  {stage.name}:", f"    cmd: dff {stage.name}", "    params:"]
        lines += [f"      - {stage.name}"]
        if not in_checkout:
            lines += [f"      - {CODE}:", f"          - {stage.name}"]
        lines += ["    deps:", *(f"      - {path}" for path in deps)] if deps else []
        if stage.always:
            lines += ["    always_changed: true"]
        lines += ["    outs:", f"      - {stage.writes.as_posix()}"]
    return "\n".join(lines) + "\n"


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    write_atomically(Path(DVC), dvc_yaml().encode())
