"""`dff init`: a complete params.yaml for a folder of photographs, the demo or a data set."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.params import PARAMS, ParamsError, build, render
from pipeline.registry import STAGES
from stages.algorithms.shipped import LOCAL, MODULE, module_file
from stages.frame.params import user_path
from store import write_atomically

Sections = dict[str, dict[str, Any]]

# Sizes at which `--quality best` has the network see each photograph.
QUALITIES: dict[str, Sections] = {"usual": {}, "best": {"extract": {"size": (224, 416)}}}
VGG19 = {"backbone": "vgg19", "weights": "DEFAULT", "layers": ("conv5_4",)}
ICOSEG = {"dataset": "icoseg"}

# What a preset changes from the defaults; the defaults themselves are the demo.
PRESETS: dict[str, Sections] = {
    "demo": {},
    "folder": {"index": {"dataset": "folder"}, "extract": VGG19},
    # Table 1, Figures 1 and 3
    "icoseg": {
        "index": ICOSEG,
        "extract": VGG19,
        "report": {"paper": ("table1",)},
    },
    # Table 2
    "voc2007": {
        "index": {"dataset": "voc"},
        "extract": VGG19,
        "factorize": {"k": (1,)},
        "report": {"paper": ("table2",)},
    },
    # the class-agnostic protocol of later work
    "voc2007-agnostic": {
        "index": {"dataset": "voc", "voc": {"together": True, "exclude": "none"}},
        "extract": VGG19,
        "factorize": {"k": (1, 2, 3)},
        "report": {"paper": ("agnostic",)},
    },
    # Table 3: five images per class are looked at (`dff label --auto`), the others scored
    "pascal-parts-coarse": {
        "index": {
            "dataset": "pascal_part",
            "pascal_part": {"merge": "coarse"},
            "sets": ("cow", "horse"),
        },
        "extract": VGG19,
        "factorize": {"k": (3,)},
        "report": {"paper": ("table3",)},
    },
    # Table 4, Figure 5
    "pascal-parts": {
        "index": {"dataset": "pascal_part"},
        "extract": VGG19,
        "report": {"paper": ("table4",)},
    },
    # Figure 4: random starts, whose spread the figure shows
    "figure4": {
        "index": ICOSEG,
        "extract": {
            **VGG19,
            "layers": ("conv3_4", "conv4_4", "conv5_1", "conv5_2", "conv5_3", "conv5_4"),
        },
        "factorize": {
            "k": tuple(range(1, 11)),
            "seeds": tuple(range(5)),
            "init": "random",
            "stability_runs": 0,
        },
        "refine": {"method": "none"},
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
    if not user_path(str(root), Path()).is_dir():
        raise ParamsError(f"{root}: no such folder (nor is it a preset: {', '.join(PRESETS)})")
    sections["index"]["root"] = str(root)
    return sections


def _seen_from(project: Path, path: str) -> str:
    """A path as params.yaml must name it: relative ones are relative to the project folder."""
    given = user_path(path, Path())
    if given.is_absolute():
        return path
    # as they are on disk: behind a link, `..` is another folder than it is written
    return os.path.relpath(given.resolve(), project.resolve())


def _backbone_seen_from(project: Path, backbone: str) -> str:
    """As `_seen_from` for a network that is a folder or a file; other names as they are."""
    if backbone.startswith(LOCAL):
        return LOCAL + _seen_from(project, backbone.removeprefix(LOCAL))
    if path := module_file(backbone):
        function = backbone.rpartition(":")[2]
        return f"{MODULE}{_seen_from(project, str(path))}:{function}"
    return backbone


def _weights_seen_from(project: Path, weights: str) -> str:
    """As `_seen_from`; other names of weights (``DEFAULT``, ``random:0``) as they are."""
    if user_path(weights, Path()).is_file():
        return _seen_from(project, weights)
    if Path(weights).suffix or os.sep in weights:
        raise ParamsError(f"{weights}: no such file of weights (--weights)")
    return weights


def _refuse_among(photographs: Path, project: Path, command: Sequence[str]) -> None:
    """Keep the project's own files from lying among the photographs, and becoming some."""
    root = user_path(str(photographs), Path()).resolve()
    if project.resolve().is_relative_to(root):
        beside = os.path.relpath(root.with_name(f"{root.name}-dff"))
        again = shlex.join(["dff", "init", *command, "--project", beside])
        raise ParamsError(
            f"{photographs}: the project's own files would lie among the photographs; make it "
            f"beside them: `{again}`, then `dff run --project {shlex.quote(beside)}`"
        )


def _is_someones(path: Path) -> bool:
    """Whether params.yaml is there and is not the one the project ships with."""
    return path.exists() and path.read_text(encoding="utf-8") != demo_params()


def demo_params() -> str:
    """The params.yaml of the embedded default."""
    return render(PRESETS["demo"], "Written by `dff init demo`.")


def write_params(
    project: Path,
    what: str,
    root: Path | None,
    *,
    backbone: str = "",
    weights: str = "",
    layers: Sequence[str] = (),
    quality: str = "usual",
    force: bool = False,
) -> Path:
    """Write params.yaml for a preset or a folder; return its path. Makes the project's folder.

    Parameters
    ----------
    quality : str
        One of `QUALITIES`.

    Raises
    ------
    ParamsError
        For an unknown preset or quality, a missing folder, or a params.yaml that `force` does not
        allow to replace.
    """
    path = project / PARAMS
    sections = preset(what, root)
    if quality not in QUALITIES:
        raise ParamsError(f"--quality {quality}: choose one of {', '.join(QUALITIES)}")
    for name, values in QUALITIES[quality].items():
        sections[name] = {**sections.get(name, {}), **values}
    extract = sections.setdefault("extract", {})
    if what != "demo":
        given = sections["index"]["root"]
        named = {
            "--backbone": [backbone],
            "--weights": [weights],
            "--layer": layers,
            "--quality": [quality] if quality != "usual" else [],
        }
        options = [part for name, of in named.items() for one in of if one for part in (name, one)]
        command = [what, *([str(root)] if root else []), *options]
        _refuse_among(Path(given), project, command)
        sections["index"]["root"] = _seen_from(project, given)
    if weights:
        weights = _weights_seen_from(project, weights)
    if backbone:
        extract["backbone"] = _backbone_seen_from(project, backbone)
        if not (weights and layers):
            weights, layers = _usual(backbone, weights, layers)
        extract.setdefault("size", _side(backbone))
    if weights:
        extract["weights"] = weights
    if layers:
        extract["layers"] = tuple(layers)
    if backbone and _signed(backbone, layers):
        sections.setdefault("factorize", {}).setdefault("nonneg", "H")
    text = render(sections, f"Written by `dff init {what}`.")
    if not force and _is_someones(path):
        if path.read_text(encoding="utf-8") == text:
            return path
        raise ParamsError(
            f"{path}: is there already, and says other things than this would write; `dff run` "
            "goes by it, --force replaces it"
        )
    content = yaml.safe_load(text)
    for stage in STAGES:  # what is written must be what `dff run` accepts
        build(stage, content[stage.name])
    if backbone or layers:
        # as it is named here: the project's folder may not be there yet
        _check_network(backbone or content["extract"]["backbone"], content["extract"]["layers"])
    try:
        project.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise ParamsError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def _usual(backbone: str, weights: str, layers: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Weights and layers that were given, or else what is usual for a network."""
    from stages.algorithms.backbone import BackboneError, default_layer, family_of

    try:
        layers = layers or [default_layer(backbone)]
        return weights or family_of(backbone).usual_weights, layers
    except BackboneError as error:
        raise ParamsError(f"{error} (`dff show-model`, --layer)") from error


def _signed(backbone: str, layers: Sequence[str]) -> list[str]:
    """Which of the layers have values below zero, so that W must be allowed to have some."""
    from stages.algorithms.backbone import BackboneError, signed_layers

    try:
        return signed_layers(backbone, layers)
    except BackboneError as error:
        raise ParamsError(f"{error} (`dff show-model`, --layer)") from error


def _side(backbone: str) -> int:
    """Pixels of the side that a network was trained at; some take no other."""
    from stages.algorithms.backbone import family_of

    return family_of(backbone).side(backbone)


def _check_network(backbone: str, layers: Sequence[str]) -> None:
    from stages.algorithms.backbone import BackboneError, resolve_layer

    try:
        for layer in layers:
            resolve_layer(backbone, layer)
    except BackboneError as error:
        raise ParamsError(f"{error} (`dff show-model`, --layer)") from error
