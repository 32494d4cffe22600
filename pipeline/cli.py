"""The `dff` command: one command per stage, plus run, status, init and show-model."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.compare import compare
from pipeline.dvc import DvcError, ensure_repository, repro
from pipeline.init import PRESETS, write_params
from pipeline.label import blank_labels, ensure_labels, evaluate_labels, label_automatically
from pipeline.params import ParamsError, check_root, read_params
from pipeline.registry import BY_NAME, STAGES
from pipeline.resources import ResourceError, make_resources
from pipeline.run_alone import run_alone
from pipeline.status import stage_states
from pipeline.summary import print_summary
from stages.datasets import DatasetError
from stages.frame.errors import StageError
from stages.frame.execute import execute
from stages.frame.params import user_path
from stages.frame.resources import Resources
from stages.frame.stage import Stage
from store import StoreError

# What a user can cause and mend: one line and exit code 1. Everything else keeps its traceback.
USER_ERRORS = (
    DatasetError,
    DvcError,
    ParamsError,
    ResourceError,
    StageError,
    StoreError,
)

app = typer.Typer(
    name="dff",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Deep Feature Factorization: find the concepts that images share.\n\n"
        "Start with `dff init PHOTOGRAPHS`, look through params.yaml, then `dff run`. The report "
        "is artifacts/report/index.html. Stages run one by one with the commands named after "
        "them, in this order: " + ", ".join(stage.name for stage in STAGES) + "."
    ),
)

Project = Annotated[
    Path, typer.Option("--project", "-C", help="Folder with params.yaml.", show_default="here")
]
Device = Annotated[str, typer.Option(envvar="DFF_DEVICE", help="auto, cpu, cuda or cuda:N.")]
Workers = Annotated[
    int, typer.Option(envvar="DFF_WORKERS", min=0, help="Threads or processes; 0: one per core.")
]
Memory = Annotated[
    str, typer.Option(envvar="DFF_MEMORY", help="Budget such as 8GiB; auto: half of what is free.")
]
Cluster = Annotated[
    str, typer.Option(envvar="DFF_CLUSTER", help="Address of a dask scheduler (densecrf).")
]
STORE_HELP = "Folder or fsspec URL (s3://bucket/prefix) to put activations into."
REUSE_HELP = "Take over rows of images that earlier extractions have seen."
Store = Annotated[str, typer.Option(envvar="DFF_STORE", help=STORE_HELP)]


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is no accident: one line, and the exit code that shells give it."""
    try:
        yield
    except BaseException as error:
        # Libraries that are interrupted while they close a file may raise something else over it.
        under: BaseException | None = error
        while under is not None and not isinstance(under, KeyboardInterrupt):
            under = under.__context__
        if under is None:
            raise
        print("dff: interrupted; the work so far is kept, run it again to go on", file=sys.stderr)
        raise typer.Exit(130) from error


def _help(stage: Stage[Any]) -> str:
    reads = ", ".join(str(path) for path in stage.reads.values()) or "your images"
    return (
        f"{stage.summary}\n\n"
        f"Reads {reads}; writes {stage.writes}. Its params are the section `{stage.name}` of "
        "params.yaml. Run again after an interruption, it goes on where it stopped."
    )


def _run_stage(stage: Stage[Any], project: Path, resources: Resources) -> None:
    params = read_params(project)[stage.name]
    with interruptible():
        out = execute(stage, params, project, resources)
    print(out)


def _stage_command(stage: Stage[Any]) -> None:
    @app.command(stage.name, help=_help(stage), rich_help_panel="Stages")
    def command(
        project: Project = Path(),
        device: Device = "auto",
        workers: Workers = 0,
        memory: Memory = "auto",
        cluster: Cluster = "",
        store: Annotated[
            str,
            typer.Option(envvar="DFF_STORE", help=STORE_HELP, hidden=stage.name != "extract"),
        ] = "",
        reuse: Annotated[
            bool,
            typer.Option(envvar="DFF_REUSE", help=REUSE_HELP, hidden=stage.name != "extract"),
        ] = True,
    ) -> None:
        _run_stage(stage, project, make_resources(device, workers, memory, cluster, store, reuse))


PREVIEW_HELP = (
    "\n\nWith --preview, only a picture is made: what the current params do to the images named "
    "(names in the index, or paths), in a moment and without touching the artifact."
)


def _refine_command() -> None:
    @app.command("refine", help=_help(BY_NAME["refine"]) + PREVIEW_HELP, rich_help_panel="Stages")
    def command(
        images: Annotated[list[str] | None, typer.Argument(help="For --preview.")] = None,
        preview: Annotated[
            bool, typer.Option("--preview", help="Make a contact sheet of IMAGES only.")
        ] = False,
        k: Annotated[
            int, typer.Option(min=0, help="For --preview: number of factors; 0: the largest.")
        ] = 0,
        set: Annotated[
            str, typer.Option("--set", help="For --preview: image set, if not the first.")
        ] = "",
        out: Annotated[
            Path | None,
            typer.Option(help="For --preview.", show_default="artifacts/refine-preview.png"),
        ] = None,
        project: Project = Path(),
        device: Device = "auto",
        workers: Workers = 0,
        memory: Memory = "auto",
        cluster: Cluster = "",
    ) -> None:
        resources = make_resources(device, workers, memory, cluster)
        if not preview:
            if images or k or set or out:
                raise ParamsError("IMAGES, --k, --set and --out go with --preview")
            _run_stage(BY_NAME["refine"], project, resources)
            return
        if not images:
            raise ParamsError("--preview: name one or more images")
        # imported here: the other commands need no pictures
        from pipeline.preview import preview as contact_sheet

        params = read_params(project)["refine"]
        target = out or project / "artifacts/refine-preview.png"
        with interruptible():
            print(contact_sheet(project, params, images, k, set, target, resources))


for _stage in STAGES:
    if _stage.name == "refine":
        _refine_command()
    else:
        _stage_command(_stage)


@app.command(rich_help_panel="Pipeline")
def run(
    project: Project = Path(),
    device: Device = "auto",
    workers: Workers = 0,
    memory: Memory = "auto",
    cluster: Cluster = "",
    store: Store = "",
    force: Annotated[bool, typer.Option(help="Run every stage again, fresh or not.")] = False,
) -> None:
    """Run every stage that is not up to date, and print the scores.

    The same as `dvc repro`, after checking params.yaml and with the resources given here. In a
    folder without dvc.yaml the stages run one after the other, but for those that are fresh. A run
    that was interrupted goes on where it stopped.
    """
    params = read_params(project)
    check_root(project, params["index"].root)
    # refuse bad ones before the first stage
    checked = make_resources(device, workers, memory, cluster, store)
    alone = not (project / "dvc.yaml").exists()
    if not alone:
        ensure_repository(project)
    ensure_labels(user_path(params["evaluate"].labels, project))
    resources = {
        "DFF_DEVICE": device,
        "DFF_WORKERS": str(workers),
        "DFF_MEMORY": memory,
        "DFF_CLUSTER": cluster,
        "DFF_STORE": checked.store or "",
        "DFF_REUSE": "0" if force else "1",
    }
    with interruptible():
        if alone:
            run_alone(project, resources, force=force)
        else:
            repro(project, resources, force=force)
    print_summary(project)


@app.command(rich_help_panel="Pipeline")
def transform(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    set: Annotated[str, typer.Option("--set", help="Image set whose factors are used.")],
    k: Annotated[int, typer.Option("--k", help="Number of factors.")],
    layer: Annotated[str, typer.Option(help="Layer; by default the first.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Where to.", show_default="transformed/SET-kK")
    ] = None,
    project: Project = Path(),
    device: Device = "auto",
    workers: Workers = 0,
    memory: Memory = "auto",
) -> None:
    """Find the concepts of an image set in photographs that were not in it.

    The factors stay as they are; only coefficients are found for the new photographs. Writes
    heatmaps.zarr, a picture of each photograph, and a page of them all.
    """
    # imported here: the other commands need neither templates nor pictures
    from pipeline.transform import transform_folder

    resources = make_resources(device, workers, memory, "")
    name = re.sub(r"[^\w.-]", "_", set).strip(".") or "set"
    target = out or project / "transformed" / f"{name}-k{k}"
    with interruptible():
        page = transform_folder(project, folder, set, k, layer, target, resources)
    print(page)


@app.command(rich_help_panel="Pipeline")
def label(
    project: Project = Path(),
    auto: Annotated[
        bool, typer.Option("--auto", help="Name them by coverage on a few annotated images.")
    ] = False,
    images: Annotated[int, typer.Option(min=1, help="For --auto: images looked at, per set.")] = 5,
    force: Annotated[bool, typer.Option(help="Replace labels that are there.")] = False,
    workers: Workers = 0,
    memory: Memory = "auto",
) -> None:
    """Name the factors: write labels.yaml, which evaluate uses instead of coverage.

    Alone it writes a file with every factor of the first layer and seed, to be filled in by hand
    while looking at the report. With --auto the names come from coverage (eq. 7) on the raw masks
    of a few images of each set; evaluate then runs on all the others, and prints its scores.
    """
    resources = make_resources("cpu", workers, memory, "")
    with interruptible():
        params = read_params(project)["evaluate"]
        if auto:
            path = label_automatically(project, params, images, resources, force=force)
            print(path)
            evaluate_labels(project, params, resources)
        else:
            print(blank_labels(project, params, force=force))


@app.command("compare", rich_help_panel="Pipeline")
def compare_projects(
    projects: Annotated[list[Path], typer.Argument(help="Folders of projects that were run.")],
    out: Annotated[Path, typer.Option(help="Name of the two files, without suffix.")] = Path(
        "figure4"
    ),
) -> None:
    """Draw the paper's Figure 4: mean best-part IoU over k, of several networks and layers.

    Writes OUT.csv and OUT.png, and prints the table. Dashed lines are raw maps; bands show one
    standard deviation over the seeds.
    """
    print(compare(projects, out))


@app.command(rich_help_panel="Pipeline")
def show(project: Project = Path()) -> None:
    """Print where the report is, and the scores."""
    print_summary(project)


@app.command(rich_help_panel="Pipeline")
def status(project: Project = Path()) -> None:
    """Say of each stage whether its artifact is fresh, stale, partial or absent, and its size.

    A partial stage goes on from there when it is run again.
    """
    table = Table("stage", "state", "size", "detail", box=None, pad_edge=False)
    for state in stage_states(project):
        table.add_row(state.name, state.state, state.size, state.detail)
    Console(markup=False).print(table)


@app.command("show-model", rich_help_panel="Setting up")
def show_model(
    name: Annotated[
        str, typer.Argument(help="demo, vgg19, or a torchvision classification model.")
    ],
) -> None:
    """List the layers of a network that can be tapped.

    Name one in `extract.layers`, by alias or node name. Factorization needs values >= 0: choose
    layers marked yes.
    """
    # imported here: torch takes seconds, which no other command of this module needs
    from stages.algorithms.backbone import BackboneError, describe_layers

    try:
        layers = describe_layers(name)
    except BackboneError as error:
        raise ParamsError(str(error)) from error
    table = Table("alias", "node", "channels", "stride", ">= 0", box=None, pad_edge=False)
    for layer in layers:
        sign = "yes" if layer.non_negative else "no"
        stride = f"{layer.stride:g}"
        table.add_row(layer.alias or "", layer.node, str(layer.channels), stride, sign)
    Console(width=None if sys.stdout.isatty() else 120, markup=False).print(table)


@app.command(rich_help_panel="Setting up")
def init(
    what: Annotated[
        str,
        typer.Argument(
            help="A folder of photographs, or a preset followed by its folder: "
            + ", ".join(PRESETS)
            + "."
        ),
    ],
    root: Annotated[Path | None, typer.Argument(help="Folder of the preset's data set.")] = None,
    project: Project = Path(),
    backbone: Annotated[str, typer.Option(help="Network; see show-model.")] = "",
    weights: Annotated[str, typer.Option(help="DEFAULT, or a weights file.")] = "",
    layer: Annotated[list[str] | None, typer.Option(help="Layer to tap; repeatable.")] = None,
    force: Annotated[bool, typer.Option(help="Replace an existing params.yaml.")] = False,
) -> None:
    """Write a params.yaml.

    `dff init PHOTOGRAPHS` is for a folder with one folder of photographs per image set (or just
    photographs: one set). `dff init demo` is the embedded default; the other presets are for data
    sets that were downloaded. Nothing is copied or changed but params.yaml.
    """
    path = write_params(
        project, what, root, backbone=backbone, weights=weights, layers=layer or [], force=force
    )
    print(f"wrote {path}; look through it, then: dff run")


def main() -> None:
    """Entry point: errors that a user can mend become one line."""
    try:
        app()
    except USER_ERRORS as error:
        # one line, whatever a library put into its message
        print(f"dff: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
