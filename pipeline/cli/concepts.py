"""Commands for the concepts that were found: name them, find them elsewhere, take them away."""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from pipeline.cli.app import Cluster, Device, Memory, Project, Workers, app, told_late


@app.command(rich_help_panel="Concepts")
def transform(
    photographs: Annotated[Path, typer.Argument(help="Folder of photographs, or one photograph.")],
    k: Annotated[int, typer.Option("--k", help="Number of factors.")],
    set: Annotated[
        str,
        typer.Option(
            "--set", help="Image set whose factors are used.", show_default="the only one"
        ),
    ] = "",
    layer: Annotated[str, typer.Option(help="Layer; by default the first.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder to make.", show_default="transformed/SET-kK")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another result.")] = False,
    project: Project = Path(),
    device: Device = "auto",
    workers: Workers = 0,
    memory: Memory = "auto",
    cluster: Cluster = "",
) -> None:
    """Find the concepts of an image set in photographs that were not in it.

    The factors stay as they are; only coefficients are found for the new photographs. Writes a page
    with pictures of them all, masks as PNG files, concepts.parquet and boxes.parquet as evaluate
    writes them, heatmaps.zarr and refined.zarr. Asked again, it brings the result up to date.
    """
    from pipeline.resources import make_resources
    from pipeline.transform import transform_photographs

    resources = make_resources(device, workers, memory, cluster)
    page = transform_photographs(project, photographs, set, k, layer, out, resources, force=force)
    print(page)


@app.command(rich_help_panel="Concepts")
def pin(
    project: Project = Path(),
    freeze: Annotated[
        bool,
        typer.Option("--freeze", help="Never change them: new photographs are only looked at."),
    ] = False,
) -> None:
    """Keep the concepts that were found, for photographs that come later.

    The next `dff run` goes on from them: factors, colours and names stay in their order, and heat
    maps, masks and boxes are made for what is new or has changed. Sets factorize.start (and freeze)
    in params.yaml; an empty start begins from nothing again.
    """
    from pipeline.pin import pin as pin_project

    print(pin_project(project, freeze=freeze))


@app.command(rich_help_panel="Concepts")
def label(
    project: Project = Path(),
    auto: Annotated[
        bool, typer.Option("--auto", help="Name them by coverage on a few annotated images.")
    ] = False,
    images: Annotated[int, typer.Option(min=1, help="For --auto: images looked at, per set.")] = 5,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Take the names of a file, such as the page to explore saves."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace names that are there.")] = False,
    workers: Workers = 0,
    memory: Memory = "auto",
) -> None:
    """Name the factors: write labels.yaml, whose names are shown everywhere.

    Alone it writes a place for every factor of the first layer and seed, to be filled in by hand
    while looking at the report; names that are there are carried over to the factors that there are
    now. With --auto the names come from coverage (eq. 7) on the raw masks of a few images of each
    set; evaluate then runs on all the others, and prints its scores. With --from the names of a
    file are checked and merged into those that are there: what has no name in it keeps its own.
    """
    from pipeline.label import bring_names, label_factors
    from pipeline.params import read_params
    from pipeline.resources import make_resources
    from stages.frame.errors import StageError

    if source is not None and auto:
        raise StageError("dff label: --from and --auto each say the names; give one of them")
    resources = make_resources("cpu", workers, memory, "")
    params = read_params(project)["evaluate"]
    if source is not None:
        bring_names(project, params, source, force=force)
        return
    label_factors(project, params, images, resources, auto=auto, force=force)


def _tell_formats(command: TyperCommand) -> None:
    from pipeline.export import FORMATS

    format = next(one for one in command.params if one.name == "format")
    format.help = FORMATS  # type: ignore[attr-defined]  # an option has one


@app.command("export", cls=told_late(_tell_formats), rich_help_panel="Concepts")
def export_concepts(
    format: Annotated[str, typer.Option(help="What to write.")],
    maps: Annotated[str, typer.Option(help="raw or refined.")] = "refined",
    k: Annotated[
        int, typer.Option(min=0, help="Number of factors; 0: the largest that has names.")
    ] = 0,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="Image set, or SET/K/FACTOR; by default all.")
    ] = None,
    layer: Annotated[str, typer.Option(help="Layer; by default the first.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder to make.", show_default="exports/FORMAT")
    ] = None,
    least_area: Annotated[
        float, typer.Option(help="Leave out components of a smaller share of the image.")
    ] = 0.001,
    semantic: Annotated[
        bool, typer.Option("--semantic", help="One object per image and concept, not several.")
    ] = False,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="For coco: polygons, not run lengths.")
    ] = False,
    heat: Annotated[
        bool, typer.Option("--heat", help="For masks: heat maps as 16-bit PNG, too.")
    ] = False,
    images: Annotated[
        str, typer.Option(help="For yolo, voc: link, copy or none.", show_default="link")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    project: Project = Path(),
    workers: Workers = 0,
    memory: Memory = "auto",
    cluster: Cluster = "",
) -> None:
    """Write masks and boxes of the concepts as a data set for other programs.

    Of one layer, one k and its first seed. Concepts are called as labels.yaml calls them, else
    SET/K/FACTOR. The folder appears when it is complete. See docs/export.md for the formats.
    """
    from pipeline.export import export_project
    from pipeline.resources import make_resources
    from stages.frame.progress import note

    options = {
        "semantic": semantic or None,
        "polygons": polygons or None,
        "heat": heat or None,
        "images": images or None,
    }
    try:
        path = export_project(
            project,
            format,
            options,
            maps=maps,
            k=k,
            sets=set or [],
            layer=layer,
            least_area=least_area,
            out=out or project / "exports" / format,
            resources=make_resources("cpu", workers, memory, cluster),
            force=force,
        )
    except KeyboardInterrupt as error:
        note("dff: interrupted; nothing was exported")
        raise typer.Exit(130) from error
    print(path)


@app.command(rich_help_panel="Concepts")
def find(
    concept: Annotated[
        str, typer.Option(help="A name of labels.yaml, or a factor's number, 0 the strongest.")
    ],
    set: Annotated[str, typer.Option("--set", help="Image set.", show_default="the only one")] = "",
    k: Annotated[
        int, typer.Option(min=0, help="Number of factors; 0: the largest with the concept.")
    ] = 0,
    layer: Annotated[str, typer.Option(help="Layer; by default the first.")] = "",
    top: Annotated[int, typer.Option(min=1, help="So many images at most.")] = 20,
    project: Project = Path(),
) -> None:
    """List the images of a set that show a concept, strongest first.

    One line an image: its name, a tab, and the concept's mean strength on it, a share of its
    largest value in the set. The same and more is in artifacts/evaluation/concepts.parquet.
    """
    from pipeline.find import only_set
    from pipeline.results import open_results

    results = open_results(project)
    found = results.find(set or only_set(results.sets), concept, k, layer=layer or None)
    for image, strength in found.head(top).items():
        print(f"{image}\t{strength:.4f}")


@app.command("figure", rich_help_panel="Concepts")
def draw_figure(
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Names in the index; the columns.", show_default="the first five"),
    ] = None,
    set: Annotated[str, typer.Option("--set", help="Image set.", show_default="the first")] = "",
    k: Annotated[
        list[int] | None,
        typer.Option("--k", help="Number of factors, a row; repeatable; by default all."),
    ] = None,
    maps: Annotated[
        str, typer.Option(help="refined: masks with outlines; raw: colours by strength.")
    ] = "refined",
    layer: Annotated[str, typer.Option(help="Layer; by default the first.")] = "",
    out: Annotated[Path, typer.Option(help="A .pdf, .svg or .png.")] = Path("figure3.pdf"),
    dpi: Annotated[
        int, typer.Option(min=30, max=2400, help="Photographs have at most so many pixels an inch.")
    ] = 300,
    height: Annotated[float, typer.Option(min=0.2, max=20, help="Of a row, inches.")] = 1.1,
    project: Project = Path(),
) -> None:
    """Draw the paper's Figure 3: photographs under their concepts, a row for each k.

    The legend has the names of labels.yaml, as of the last evaluation. In a PDF or SVG text stays
    text, and photographs keep their own resolution.
    """
    from pipeline.figure import format_of, save_figure
    from pipeline.results import open_results

    format_of(out)
    opened = open_results(project)
    figure = opened.figure(
        set or opened.sets[0],
        k or (),
        images or (),
        maps=maps,  # type: ignore[arg-type]  # it checks
        layer=layer or None,
        height=height,
        dpi=dpi,
    )
    print(save_figure(figure, out, dpi))
