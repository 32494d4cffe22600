"""What a finished run prints: the scores, what the factors are called, where the report is."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from pipeline.meaning import meaning_lines
from pipeline.registry import BY_NAME
from stages.artifacts.evaluation import KINDS, REFINED, Evaluation, object_measure
from stages.artifacts.factors import Factors
from stages.artifacts.tables import read_rows
from stages.artifacts.within import within_of
from stages.index.notes import plural
from stages.naming.names import FactorNames, title
from store import ArtifactMissing

if TYPE_CHECKING:
    import pandas as pd

GROUP, SHOWN = ("layer", "set", "k"), ("object_iou", "part_iou")  # columns of the tables
TOGETHER = ("matched_iou", "nmi", "ari", "overlap")  # those of all factors of a k together


def print_summary(project: Path) -> None:
    """Print the table of scores and the report's address.

    Raises
    ------
    ArtifactMissing
        When the pipeline has not run yet.
    """
    page = project / BY_NAME["report"].writes / "index.html"
    if not page.exists():
        raise ArtifactMissing(f"{page}: not there yet; run `dff run`")
    console = Console(markup=False, highlight=False)
    evaluation = Evaluation.open(project / BY_NAME["evaluate"].writes)
    # not as tables: every run that finds all fresh prints this
    quality = Evaluation.quality.rows(
        evaluation.folder, *GROUP, "maps", *SHOWN, "corloc", *TOGETHER, "figure_iou"
    )
    # a part of a factor is not compared with whole objects here: the report has these numbers
    within = within_of(project / BY_NAME["factorize"].writes)
    quality = [row for row in quality if row["set"] not in within]
    for row in quality:
        row["object_iou"] = row[object_measure(row)]
    if any(row["object_iou"] is not None for row in quality):
        console.print(_table(quality, evaluation))
    if any(row["nmi"] is not None for row in quality):
        console.print(_together(quality))
    if any(row["corloc"] is not None for row in quality):
        factors = Factors.open(project / BY_NAME["factorize"].writes)
        seed = factors.factorizations.shown_seed
        shaped = evaluation.by_shape(seed)
        shaped = shaped[shaped["corloc"].notna() & ~shaped["set"].isin(list(within))]
        console.print(_corloc(shaped, evaluation.exclude))
        console.print(_all_boxes(shaped))
    scored = any(row[name] is not None for row in quality for name in (*SHOWN, "corloc"))
    if not scored:
        images = evaluation.metrics["images"]
        console.print(f"{images} images; no ground truth of masks or parts, so no scores")
    if within:
        console.print(
            f"divided further: {', '.join(within)}; the report shows into what", soft_wrap=True
        )
    names = _names(evaluation)
    for line in names:
        console.print(line, soft_wrap=True)
    if not scored and not names:
        console.print("`dff label` writes a form in which you name what the factors show")
    for line in meaning_lines(project):
        console.print(line, soft_wrap=True)
    failures = read_rows(project / BY_NAME["index"].writes / "failures.parquet", "kind")
    kinds = [row["kind"] for row in failures]
    kinds += [
        "annotation"
        for row in Evaluation.failures.rows(evaluation.folder, "scored")
        if not row["scored"]
    ]
    nouns = {"image": "image", "file": "other file", "annotation": "annotation"}
    told = [plural(kinds.count(kind), noun) for kind, noun in nouns.items() if kind in kinds]
    if told:
        console.print(f"not used: {', '.join(told)}; the report lists them")
    console.print(f"report: {page.resolve()}", soft_wrap=True)


def _table(quality: list[dict[str, Any]], evaluation: Evaluation) -> Table:
    table = Table(
        "layer",
        "set",
        "k",
        "object IoU %",
        "refined",
        "best-part IoU %",
        "refined",
        "of images",
        box=None,
    )
    groups: dict[tuple[str, str, int], dict[str, dict[str, Any]]] = {}
    for row in quality:
        layer, name, k = (row[column] for column in GROUP)
        groups.setdefault((layer, name, k), {})[row["maps"]] = row
    for (layer, name, k), by_kind in groups.items():
        scores = [by_kind[kind][score] for score in SHOWN for kind in KINDS]
        if all(value is None for value in scores):
            continue
        if not evaluation.has_parts(name):
            scores[len(KINDS) :] = [None] * len(KINDS)
        cells = ["–" if value is None else f"{value:.1f}" for value in scores]
        table.add_row(layer, name, str(k), *cells, evaluation.share_scored(name))
    return table


def _together(quality: list[dict[str, Any]]) -> Table:
    """How the refined masks of one k divide the object into its parts, all of them together."""
    headers = ("matched IoU %", "NMI %", "ARI %", "overlap %")
    table = Table("layer", "set", "k", *headers, box=None, title="parts, refined masks")
    for row in quality:
        if row["maps"] == REFINED and row["nmi"] is not None:
            cells = [f"{row[name]:.1f}" for name in TOGETHER]
            table.add_row(row["layer"], row["set"], str(row["k"]), *cells)
    return table


def _names(evaluation: Evaluation) -> list[str]:
    """A line per factorization with names, and what there is to say of them."""
    names = FactorNames.from_record(evaluation.names)
    lines = []
    for image_set, by_k in names.sets.items():
        for k, named in by_k.items():
            told = [
                f"{factor} {title(one) or '–'}{f' (cosine {cosine:.2f})' if 0 < cosine < 1 else ''}"
                for factor, (one, cosine) in enumerate(zip(named.names, named.cosines, strict=True))
            ]
            lines.append(f"names of {image_set}, k = {k}: {', '.join(told)}")
    return lines + [f"{evaluation.names['file']}: {line}" for line in names.notes]


def _corloc(chosen: "pd.DataFrame", exclude: str) -> Table:
    """Per class and the mean over the classes, of one seed; hits/total in brackets."""
    table = Table("layer", "k", "set", "CorLoc % (hits/total)", "refined", box=None)
    if exclude:
        table.title = f"boxes by shape; images left out: {exclude}"
    for (layer, k), group in chosen.groupby(["layer", "k"], sort=False):
        for name, rows in group.groupby("set", sort=False):
            by_kind = rows.set_index("maps")
            cells = [
                f"{row['corloc']:.2f} ({row['hits']}/{row['boxed']})"
                for row in (by_kind.loc[kind] for kind in KINDS)
            ]
            table.add_row(str(layer), str(k), str(name), *cells)
        means = group.groupby("maps")["corloc"].mean()
        cells = [f"{float(means[kind]):.2f}" for kind in KINDS]
        table.add_row(str(layer), str(k), "mean", *cells)
    return table


def _all_boxes(chosen: "pd.DataFrame") -> Table:
    """All boxes of the same factors: average precision, and what the whole list finds."""
    heads = ("box AP %", "refined", "precision/recall %", "refined")
    table = Table("layer", "k", "set", *heads, box=None)
    measures = ["box_ap", "box_precision", "box_recall"]
    for (layer, k), group in chosen.groupby(["layer", "k"], sort=False):
        rows = [
            (str(name), one.set_index("maps")) for name, one in group.groupby("set", sort=False)
        ]
        for name, by_kind in [*rows, ("mean", group.groupby("maps")[measures].mean())]:
            ap, precision, recall = (by_kind[measure].map(_number) for measure in measures)
            cells = [ap[kind] for kind in KINDS]
            cells += [f"{precision[kind]}/{recall[kind]}" for kind in KINDS]
            table.add_row(str(layer), str(k), name, *cells)
    return table


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"
