"""Commands for setting up a project."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from pipeline.cli.app import Project, Workers, app, told_late


@app.command("show-model", rich_help_panel="Setting up")
def show_model(
    name: Annotated[
        str,
        typer.Argument(
            help="demo, vgg19 or another of torchvision, timm/NAME, hf-hub:ORG/NAME, "
            "local-dir:FOLDER, module:FILE.py:FUNCTION."
        ),
    ],
    weights: Annotated[
        str, typer.Option(help="Weights to read and to give the digest of: a name, or a file.")
    ] = "",
) -> None:
    """List the layers of a network that can be tapped, and say whose weights it has.

    Name one in `extract.layers`, by alias or node name. A non-negative factorization needs values
    >= 0: choose layers marked yes. Stride is in pixels, of a patch where layers are tokens; 0 for
    what has one value for a whole image.
    """
    from pipeline.models import print_model
    from pipeline.params import ParamsError
    from stages.algorithms.backbone import BackboneError

    try:
        print_model(name, weights)
    except BackboneError as error:
        raise ParamsError(str(error)) from error


def _tell_presets(command: TyperCommand) -> None:
    from pipeline.init import PRESETS

    known = ", ".join(name for name in PRESETS if name != "demo")
    what = next(one for one in command.params if one.name == "what")
    what.help = f"{WHAT}: {known}."  # type: ignore[attr-defined]  # an argument of Typer's has one


WHAT = "A folder of photographs; demo; or a data set followed by its folder"


@app.command(cls=told_late(_tell_presets), rich_help_panel="Setting up")
def init(
    what: Annotated[str, typer.Argument(help=WHAT)],
    root: Annotated[Path | None, typer.Argument(help="Folder of the preset's data set.")] = None,
    project: Project = Path(),
    backbone: Annotated[str, typer.Option(help="Network; see show-model.")] = "",
    weights: Annotated[str, typer.Option(help="DEFAULT, or a weights file.")] = "",
    layer: Annotated[list[str] | None, typer.Option(help="Layer to tap; repeatable.")] = None,
    quality: Annotated[
        str,
        typer.Option(
            help="usual; or best: the network sees every photograph twice, at 224 and at 416 "
            "pixels; masks and boxes fit better, extract and factorize take four to five times as "
            "long and as much disk."
        ),
    ] = "usual",
    dvc: Annotated[
        bool, typer.Option("--dvc", help="Write a dvc.yaml for the project, too.")
    ] = False,
    force: Annotated[
        bool, typer.Option(help="Replace params.yaml, and dvc.yaml with --dvc.")
    ] = False,
) -> None:
    """Write a params.yaml.

    `dff init PHOTOGRAPHS` is for a folder with one folder of photographs per image set (or just
    photographs: one set). `dff init demo` is the embedded default; the other presets are for data
    sets that were downloaded. Photographs are neither copied nor changed. With --dvc the project is
    one for DVC, too: `git init`, `dvc init`, and `dvc repro` runs it.
    """
    from pipeline.init import write_params
    from pipeline.params import read_params

    path = write_params(
        project,
        what,
        root,
        backbone=backbone,
        weights=weights,
        layers=layer or [],
        quality=quality,
        force=force,
    )
    if not dvc:
        print(f"wrote {path}; look through it, then: dff run{_with(project)}")
        return
    from pipeline.dvc_yaml import write_project_yaml

    labels = read_params(project)["evaluate"].labels
    other = write_project_yaml(project, labels, force=force)
    print(f"wrote {path} and {other}; look through it, then: git init && dvc init && dvc repro")


@app.command("compile", rich_help_panel="Setting up")
def compile_loops(workers: Workers = 0) -> None:
    """Compile the loops that a usual run needs, once for this machine.

    Without it the first run of a stage does, which takes longer: several processes share the work
    here. They are kept in the program's own folders, or in the user's cache where those cannot be
    written to; NUMBA_CACHE_DIR names another place.
    """
    from pipeline.ahead import compile_ahead

    print(compile_ahead(workers))


def _with(project: Path) -> str:
    """The option that says where a project is, for a command to be typed here."""
    return "" if project == Path() else f" --project {shlex.quote(str(project))}"


@app.command("code", hidden=True)
def write_code_digests(
    path: Annotated[Path, typer.Argument(help="JSON file to write.")],
) -> None:
    """Write which code every stage runs now, as digests, for DVC to compare.

    A dvc.yaml of `dff init --dvc` runs it first, so that a stage runs again when another version of
    this program does it in another way, and only then.
    """
    from pipeline.dvc_yaml import write_code

    write_code(path)
