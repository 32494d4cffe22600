"""What a finished run prints: the scores, what the factors are called, where the report is."""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.registry import BY_NAME
from stages.artifacts.evaluation import KINDS, Evaluation
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.index.notes import plural
from stages.naming.names import FactorNames, title
from store import ArtifactMissing


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
    quality = evaluation.quality
    if quality["object_iou"].notna().any():
        console.print(_table(quality, evaluation))
    if quality["corloc"].notna().any():
        factors = Factors.open(project / BY_NAME["factorize"].writes)
        console.print(_corloc(evaluation, factors.factorizations.shown_seed))
    if quality.empty:
        images = evaluation.metrics["images"]
        console.print(f"{images} images; no ground truth of masks or parts, so no scores")
    names = _names(evaluation)
    for line in names:
        console.print(line, soft_wrap=True)
    if quality.empty and not names:
        console.print("`dff label` writes a form in which you name what the factors show")
    failures = ImageIndex.open(project / BY_NAME["index"].writes, project).failures["kind"]
    unused = {kind: int((failures == kind).sum()) for kind in ("image", "file", "annotation")}
    unused["annotation"] += int((~evaluation.failures["scored"]).sum())
    nouns = {"image": "image", "file": "other file", "annotation": "annotation"}
    told = [plural(count, nouns[kind]) for kind, count in unused.items() if count]
    if told:
        console.print(f"not used: {', '.join(told)}; the report lists them")
    console.print(f"report: {page.resolve()}", soft_wrap=True)


def _table(quality: pd.DataFrame, evaluation: Evaluation) -> Table:
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
    for (layer, name, k), group in quality.groupby(["layer", "set", "k"], sort=False):
        scores = group.set_index("maps")[["object_iou", "part_iou"]].astype(float)
        if scores.isna().all(axis=None):
            continue
        if not evaluation.has_parts(str(name)):
            scores["part_iou"] = float("nan")
        cells = [
            "–" if pd.isna(value := scores[score][kind]) else f"{float(value):.1f}"
            for score in ("object_iou", "part_iou")
            for kind in KINDS
        ]
        table.add_row(str(layer), str(name), str(k), *cells, evaluation.share_scored(str(name)))
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


def _corloc(evaluation: Evaluation, seed: int) -> Table:
    """Per class and the mean over the classes, of one seed; hits/total in brackets."""
    table = Table("layer", "k", "set", "CorLoc % (hits/total)", "refined", box=None)
    if evaluation.exclude:
        table.title = f"boxes by shape; images left out: {evaluation.exclude}"
    chosen = evaluation.by_shape(seed)
    chosen = chosen[chosen["corloc"].notna()]
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
