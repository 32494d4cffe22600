"""Writing the report: pictures painted in threads, pages rendered from templates."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from stages.artifacts.concept_maps import FULL_COLOUR
from stages.artifacts.outline import most_pixels
from stages.drawing.overlays import GAMMA
from stages.drawing.templates import page_templates
from stages.frame.memory import resources_within
from stages.frame.progress import track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from stages.report.chosen import chosen_images
from stages.report.explore import write_explore
from stages.report.left_out import left_out_lists
from stages.report.needs import report_needs
from stages.report.opened import Opened
from stages.report.packed import DATA
from stages.report.page import CARDS, SetView, collect_set, hrefs_of, many, score_tables
from stages.report.paper import Comparison, comparisons
from stages.report.params import ReportParams
from stages.report.pictures import FOLDER as PICTURES
from stages.report.pictures import PictureBook
from stages.report.scores import corloc_rows
from stages.report.tables import FOLDER as TABLES
from stages.report.tables import TableFile, write_tables
from stages.report.thumbnails import Photographs, earlier_report
from store import Staging, write_atomically
from store.artifact import write_record

TEMPLATES = Path(__file__).parent / "templates"


def write_report(params: ReportParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """Fill ``work.path`` with the pages and their pictures."""
    opened = Opened.open(inputs)
    maps = opened.heatmaps[opened.layer]
    grids = maps.maps.grid_hw.astype(np.int64)
    columns = len(maps.columns)
    cells = max(most_pixels(one.coefficients.grid_hw.astype(np.int64)) for one in opened.by_layer)
    largest = most_pixels(opened.index.sizes), most_pixels(grids)
    needs = report_needs(params, *largest, columns, cells)
    within = resources_within("report", needs, resources)
    names = list(opened.factors.sets)
    image_ids = opened.factors.image_ids
    book = PictureBook(opened.index, image_ids, params.long_side)
    hrefs = hrefs_of(opened)
    shown = opened.factors.own_sets[:CARDS] if many(opened) else names
    sets = [
        collect_set(opened, book, name, hrefs[name], params.images, params.top) for name in shown
    ]
    photographs = Photographs.wanted(opened.index, params)
    made_by = book.recipe
    earlier = earlier_report(work, PICTURES, made_by)
    with track("report", len(book.wanted), "images") as advance:
        book.paint(work.path, earlier, within, advance)
    beside = comparisons(opened, params.paper)
    tables = write_tables(work.path / TABLES, opened, beside)
    chosen = chosen_images(opened, params)
    _write_pages(opened, sets, beside, tables, chosen, work.path)
    every: Iterable[SetView] = sets
    if many(opened):  # one at a time: all would take gigabytes
        every = (collect_set(opened, None, name, hrefs[name], 0, params.top) for name in names)
    lasting = write_explore(opened, every, params, chosen, photographs, tables, work, within)
    write_record(
        work.path,
        stage="report",
        fingerprint=work.fingerprint,
        sets=names,
        images=len(opened.index.images),
        **photographs.recipes,
        **{DATA: lasting, PICTURES: made_by},
    )


def _write_pages(
    opened: Opened,
    sets: list[SetView],
    beside: list[Comparison],
    files: list[TableFile],
    chosen: Mapping[str, NDArray[np.int64]],
    folder: Path,
) -> None:
    own = [one for one in sets if one.within is None]
    names, evaluation = opened.factors.own_sets, opened.evaluation
    environment = page_templates(TEMPLATES)
    environment.filters["number"] = _number
    common = {
        "css": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "facts": opened.facts(),
        "network": opened.network["backbone"],
        "image_count": len(opened.index.images),
        "explored": {name: len(at) for name, at in chosen.items()},
        "cut": any(len(chosen[one]) < len(at) for one, at in opened.factors.sets.items()),
        "seeds": opened.seeds,
        "sets": own,
        "set_count": len(names),
        "pages": {one.name: one.href for one in sets},
        "left_out": left_out_lists(opened),
        "percentile": opened.heatmaps[opened.layer].facts["percentile"],
        "method": opened.refined[opened.layer].facts["method"],
        "binarise": opened.refined[opened.layer].facts["binarise"],
        "full_colour": FULL_COLOUR,
        "gamma": GAMMA,
        "several_sizes": isinstance(opened.network["size"], list),
        "scored": bool(evaluation.scores["object_iou"].notna().any()),
        "has_parts": any(map(evaluation.has_parts, opened.factors.sets)),
    }

    def write(template: str, path: str, **values: Any) -> None:
        html = environment.get_template(template).render(**common, **values)
        write_atomically(folder / path, html.encode("utf-8"))

    with_pages = [] if many(opened) else sets
    if len(with_pages) > 1:
        (folder / "pages").mkdir(exist_ok=True)
    place = {one.name: i for i, one in enumerate(own)}
    for number, one in enumerate(with_pages):
        if one.href == "index.html":
            continue
        around: dict[str, SetView | None] = {"before": None, "after": None}
        if one.within is None:
            i = place[one.name]
            around = {"before": own[i - 1] if i else None, "after": (*own[1:], None)[i]}
        write("set.html.j2", one.href, set=one, number=number, root="../", **around)
    figure4 = None
    if _worth_a_figure(opened):
        from stages.report.figure4 import figure4_plot  # matplotlib: few need it

        figure4 = figure4_plot(opened.evaluation.figure4)
    write(
        "index.html.j2",
        "index.html",
        root="",
        tables=score_tables(opened),
        corloc=[(layer, corloc_rows(opened, layer)) for layer in opened.factors.layers],
        exclude=opened.evaluation.exclude,
        figure4=figure4,
        form="" if many(opened) else opened.names.form(opened.factors),
        names=opened.names,
        labels=opened.evaluation.names["file"],
        comparisons=beside,
        files=files,
    )


def _worth_a_figure(opened: Opened) -> bool:
    """Figure 4 is a curve over k of several layers, sets or seeds."""
    several = (
        len(opened.factors.layers) > 1 or len(opened.factors.own_sets) > 1 or len(opened.seeds) > 1
    )
    parts = any(map(opened.evaluation.has_parts, opened.factors.own_sets))
    return several and parts and len(opened.ks) > 1


def _number(value: float, digits: int = 1) -> str:
    """A number for a table; a dash when there is none."""
    return "–" if value != value else f"{value:.{digits}f}"
