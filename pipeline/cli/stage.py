"""Commands named after the stages."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from pipeline.cli.app import (
    STORE_HELP,
    Cluster,
    Device,
    Memory,
    Project,
    Reuse,
    Workers,
    app,
    told_late,
)
from pipeline.summaries import SUMMARIES

if TYPE_CHECKING:
    from stages.frame.resources import Resources


def _told(name: str, more: str = "") -> type[TyperCommand]:
    """The command of a stage, whose help says what it reads and writes."""

    def tell(command: TyperCommand) -> None:
        from pipeline.registry import BY_NAME

        stage = BY_NAME[name]
        reads = ", ".join(str(path) for path in stage.reads.values()) or "your images"
        command.help = (
            f"{SUMMARIES[name]}\n\n"
            f"Reads {reads}; writes {stage.writes}. Its params are the section `{name}` of "
            f"params.yaml. Run again after an interruption, it goes on where it stopped.{more}"
        )

    return told_late(tell)


def _run_stage(name: str, project: Path, resources: "Resources") -> None:
    from pipeline.params import read_params
    from pipeline.registry import BY_NAME
    from stages.frame.cluster import local_cluster
    from stages.frame.execute import execute

    params = read_params(project)[name]
    with local_cluster(resources.cluster or "", resources.memory) as cluster:
        out = execute(BY_NAME[name], params, project, replace(resources, cluster=cluster or None))
    print(out)


def _stage_command(name: str) -> None:
    @app.command(name, cls=_told(name), help=SUMMARIES[name], rich_help_panel="Stages")
    def command(
        project: Project = Path(),
        device: Device = "auto",
        workers: Workers = 0,
        memory: Memory = "auto",
        cluster: Cluster = "",
        store: Annotated[
            str,
            typer.Option(envvar="DFF_STORE", help=STORE_HELP, hidden=name != "extract"),
        ] = "",
        reuse: Reuse = True,
    ) -> None:
        from pipeline.resources import make_resources

        _run_stage(name, project, make_resources(device, workers, memory, cluster, store, reuse))


PREVIEW_HELP = (
    "\n\nWith --preview, only a picture is made: what the current params do to the images named "
    "(names in the index, or paths), in a moment and without touching the artifact."
)


def _refine_command() -> None:
    told = _told("refine", PREVIEW_HELP)

    @app.command("refine", cls=told, help=SUMMARIES["refine"], rich_help_panel="Stages")
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
        reuse: Reuse = True,
    ) -> None:
        from pipeline.params import ParamsError, read_params
        from pipeline.registry import BY_NAME
        from pipeline.resources import make_resources

        resources = make_resources(device, workers, memory, cluster, reuse=reuse)
        if not preview:
            if images or k or set or out:
                raise ParamsError("IMAGES, --k, --set and --out go with --preview")
            _run_stage("refine", project, resources)
            return
        if not images:
            raise ParamsError("--preview: name one or more images")
        from stages.frame.params import user_path
        from stages.refine.preview import preview as write_preview

        params = read_params(project)
        labels = user_path(params["evaluate"].labels, project)
        target = out or project / "artifacts/refine-preview.png"
        factors = project / BY_NAME["factorize"].writes
        page = write_preview(
            project, params["refine"], images, k, set, factors, labels, target, resources
        )
        print(page)


WITHIN_HELP = (
    "\n\nWith --within SET/K/FACTOR, what one factor explains is factorized again, to find what it "
    "is made of: its rows, each weighted by the factor's share, as one more image set of that "
    "name. params.yaml says so from then on; `dff run` then makes its maps, and the report shows "
    "it below its factor."
)


def _factorize_command() -> None:
    told = _told("factorize", WITHIN_HELP)

    @app.command("factorize", cls=told, help=SUMMARIES["factorize"], rich_help_panel="Stages")
    def command(
        within: Annotated[
            list[str] | None,
            typer.Option(help="SET/K/FACTOR, such as horses/3/2; repeatable; none: none any more."),
        ] = None,
        k: Annotated[
            list[int] | None,
            typer.Option(
                help="For --within: added to factorize.k, if it is not there; repeatable."
            ),
        ] = None,
        project: Project = Path(),
        device: Device = "auto",
        workers: Workers = 0,
        memory: Memory = "auto",
        cluster: Cluster = "",
        store: Annotated[str, typer.Option(envvar="DFF_STORE", help=STORE_HELP, hidden=True)] = "",
        reuse: Reuse = True,
    ) -> None:
        from pipeline.params import ParamsError
        from pipeline.resources import make_resources

        resources = make_resources(device, workers, memory, cluster, store, reuse)
        if k and not within:
            raise ParamsError("--k goes with --within; factorize.k in params.yaml is for all sets")
        if within:
            from pipeline.divide import divide

            divide(project, within, k or [])
        _run_stage("factorize", project, resources)


for _name in SUMMARIES:
    if _name == "refine":
        _refine_command()
    elif _name == "factorize":
        _factorize_command()
    else:
        _stage_command(_name)
