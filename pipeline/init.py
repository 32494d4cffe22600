"""`dff init`: a complete params.yaml for a folder of photographs, the demo or a data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.params import PARAMS, ParamsError, build, render
from pipeline.registry import STAGES
from store import write_atomically

Sections = dict[str, dict[str, Any]]

VGG19 = {"backbone": "vgg19", "weights": "DEFAULT", "layers": ("conv5_4",)}

# What a preset changes from the defaults; the defaults themselves are the demo.
PRESETS: dict[str, Sections] = {
    "demo": {},
    "folder": {"index": {"dataset": "folder"}, "extract": VGG19},
    "icoseg": {"index": {"dataset": "icoseg"}, "extract": VGG19},
    "voc2007": {
        "index": {"dataset": "voc"},
        "extract": VGG19,
        "factorize": {"k": (1,)},
    },
    "pascal-parts": {
        "index": {"dataset": "pascal_part"},
        "extract": VGG19,
        "factorize": {"k": (1, 2, 3)},
    },
}


def preset(what: str, root: Path | None) -> Sections:
    """The sections of a preset, or of the folder of photographs that `what` names.

    Raises
    ------
    ParamsError
        When there is neither such a preset nor such a folder.
    """
    if what not in PRESETS:
        if root is not None:
            raise ParamsError(f"{what!r}: unknown preset, choose one of {', '.join(PRESETS)}")
        what, root = "folder", Path(what)
    sections = {name: dict(values) for name, values in PRESETS[what].items()}
    if what == "demo":
        return sections
    if root is None:
        raise ParamsError(f"dff init {what} ROOT: name the folder of the data set too")
    if not root.is_dir():
        raise ParamsError(f"{root}: no such folder (nor is it a preset: {', '.join(PRESETS)})")
    sections["index"]["root"] = str(root)
    return sections


def write_params(
    project: Path,
    what: str,
    root: Path | None,
    *,
    backbone: str = "",
    weights: str = "",
    layers: Sequence[str] = (),
    force: bool = False,
) -> Path:
    """Write params.yaml for a preset or a folder; return its path.

    Raises
    ------
    ParamsError
        For an unknown preset, a missing folder, or a params.yaml that `force` does not allow to
        replace.
    """
    path = project / PARAMS
    sections = preset(what, root)
    extract = sections.setdefault("extract", {})
    if backbone:
        extract["backbone"] = backbone
    if weights:
        extract["weights"] = weights
    if layers:
        extract["layers"] = tuple(layers)
    for stage in STAGES:
        defaults = {f: v for f, v in vars(stage.params()).items()}
        build(
            stage,
            {
                k: list(v) if isinstance(v, tuple) else v
                for k, v in (defaults | sections.get(stage.name, {})).items()
            },
        )
    if path.exists() and not force:
        raise ParamsError(f"{path}: is there already; --force replaces it")
    heading = f"Written by `dff init {what}`."
    write_atomically(path, render(sections, heading).encode())
    return path
