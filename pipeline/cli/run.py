"""Commands of the whole pipeline: run it, see what it would do and where it stands."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import Cluster, Device, Memory, Project, Store, Workers, app


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
    from pipeline.dvc import ensure_repository, repro, uses_dvc
    from pipeline.run_alone import run_alone
    from pipeline.run_project import prepared, started
    from stages.frame.progress import note

    resources = prepared(project, device, workers, memory, cluster, store, force=force)
    with_dvc = uses_dvc(project)
    if (project / "dvc.yaml").exists():
        ensure_repository(project)
        if not with_dvc:
            note("no git repository: the stages run one after the other, without DVC")
    with started(resources) as environment:  # the processes of all stages have one cluster
        if with_dvc:
            repro(project, environment, force=force)
        else:
            run_alone(project, environment, force=force)
    _print_summary(project)


@app.command(rich_help_panel="Pipeline")
def plan(
    project: Project = Path(),
    device: Device = "auto",
    workers: Workers = 0,
    memory: Memory = "auto",
) -> None:
    """Say what a run would do, before anything runs: images, bytes, memory, workers, time.

    Bytes of arrays are those before compression. Peak memory is that of the stage's process and
    what it starts, with as many workers as fit the budget. Times are those of the last run, for
    this number of photographs.
    """
    from pipeline.plan import print_plan
    from pipeline.resources import make_resources

    print_plan(project, make_resources(device, workers, memory, ""))


@app.command(rich_help_panel="Pipeline")
def show(project: Project = Path()) -> None:
    """Print where the report is, and the scores."""
    _print_summary(project)


@app.command(rich_help_panel="Pipeline")
def status(project: Project = Path()) -> None:
    """Say of each stage whether its artifact is fresh, stale, partial or absent, and its size.

    A partial stage goes on from there when it is run again.
    """
    from rich.console import Console
    from rich.table import Table

    from pipeline.gc import kept_line
    from pipeline.status import stage_states

    table = Table("stage", "state", "size", "detail", box=None, pad_edge=False)
    for state in stage_states(project):
        table.add_row(state.name, state.state, state.size, state.detail)
    Console(markup=False).print(table)
    if line := kept_line(project):
        print(line)


@app.command(rich_help_panel="Pipeline")
def gc(
    keep: Annotated[int, typer.Option(min=0, help="Copies left of each artifact.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    project: Project = Path(),
) -> None:
    """Drop the kept copies of earlier artifacts; that of the current one stays.

    Every stage keeps copies of the last three artifacts it made (DFF_KEEP=N: of N, 0: none), as
    links that take no room while the artifact or DVC's cache has the same files. They bring back
    what was made before, in seconds.
    """
    from pipeline.gc import collect

    print(collect(project, keep, dry_run=dry_run))


@app.command("compare", rich_help_panel="Pipeline")
def compare_projects(
    projects: Annotated[list[Path], typer.Argument(help="Folders of projects that were run.")],
    out: Annotated[Path, typer.Option(help="Name of the picture: .pdf, .svg or .png.")] = Path(
        "figure4"
    ),
) -> None:
    """Draw the paper's Figure 4: mean best-part IoU over k, of several networks and layers.

    Writes it (without a suffix OUT.png) and OUT.csv beside it, and prints the table. Dashed lines
    are raw maps; bands show one standard deviation over the seeds.
    """
    from pipeline.compare import compare

    print(compare(projects, out))


@app.command("beside", rich_help_panel="Pipeline")
def show_beside(
    a: Annotated[str, typer.Argument(help="A project, a report's folder, or a revision.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("beside"),
    names: Annotated[
        tuple[str, str] | None,
        typer.Option(help="What they are called; by default as their folders and revisions."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier comparison.")] = False,
    project: Project = Path(),
) -> None:
    """Compare two runs in the browser: what differs, and every image with a swipe between them.

    Writes a folder with both reports and a page, OUT/index.html, that opens from disk; it may be
    zipped and sent. What is no folder is a revision or an experiment of the project (`dvc exp show`
    lists them), whose report is taken from DVC's cache. Image sets and images are the same when
    their names are.
    """
    from pipeline.beside import beside

    print(beside((a, b), project, out, names or (), force=force))


def _print_summary(project: Path) -> None:
    from pipeline.summary import print_summary

    print_summary(project)
