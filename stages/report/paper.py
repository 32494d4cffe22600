"""The paper's tables, and later work's, beside the numbers of this run.

All numbers that are not of this run are in ``paper.csv``. They stand in columns of their own, under
the network and the images they were made with: a number made with another network or other images
never shares a column with them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from stages.report.opened import Opened

NUMBERS = Path(__file__).with_name("paper.csv")
KINDS = {"raw": "DFF", "refined": "DFF-CRF"}  # of maps, and what the paper calls them
VGG = "Collins et al. 2018: VGG-19, conv5_4"
OTHERS = "Cited there, other networks or none"
# The paper's names of image sets of iCoseg, as they occur in the names of its folders.
ICOSEG = {
    "Elephants": "elephants",
    "Taj Mahal": "tajmahal",
    "Pyramids": "pyramid",
    "Gymnastics1": "gymnastics1",
    "Statue of Liberty": "liberty",
}


@dataclass(frozen=True)
class Comparison:
    """One table: named columns under groups, rows of text.

    Attributes
    ----------
    groups : list of (heading, number of columns)
    columns : list of str
        The first ones head the rows.
    heads : int
        How many head the rows.
    """

    name: str
    title: str
    groups: list[tuple[str, int]]
    columns: list[str]
    heads: int
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def frame(self) -> pd.DataFrame:
        """The table for ``tables/<name>.csv``, each column under its group's name."""
        above = [""] * self.heads + [name for name, span in self.groups for _ in range(span)]
        names = [f"{a} | {c}" if a else c for a, c in zip(above, self.columns, strict=True)]
        return pd.DataFrame(self.rows, columns=names)


def comparisons(opened: Opened, wanted: Sequence[str]) -> list[Comparison]:
    """The tables asked for, in that order."""
    numbers = pd.read_csv(NUMBERS, dtype=str, keep_default_na=False)
    return [
        make(opened, numbers[numbers["table"] == name].reset_index(drop=True))
        for name in wanted
        for make in MAKERS[name]
    ]


def _ours(opened: Opened, layer: str | None = None) -> str:
    """What made this run's numbers, for the head of its columns; by default the first layer."""
    network = opened.network
    layers = layer or opened.layer
    images = f"{len(opened.index.images):,} images"
    return f"This run: {network['backbone']}, {layers}, {opened.index.reader}, {images}"


def _match(opened: Opened, name: str) -> str | None:
    """This run's image set that the paper calls `name`."""
    if name in opened.factors.own_sets:
        return name
    word = ICOSEG.get(name)
    for mine in opened.factors.own_sets:
        if word and word in "".join(filter(str.isalnum, mine.lower())):
            return str(mine)
    return None


def _two(value: float, std: float = 0.0, digits: int = 1) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.{digits}f}" + (f" ± {std:.{digits}f}" if std > 0 else "")


def _quality(opened: Opened, k: int, measure: str) -> Callable[[str, str], str]:
    """Cells of this run: mean and deviation over the seeds, by image set and kind of maps."""
    table = opened.evaluation.quality
    table = table[(table["layer"] == opened.layer) & (table["k"] == k)]
    known = {(row["set"], row["maps"]): row for row in table.to_dict("records")}

    def cell(name: str, kind: str) -> str:
        row = known.get((name, kind))
        return "–" if row is None else _two(row[measure], row[f"{measure}_std"])

    return cell


def _cited(numbers: pd.DataFrame) -> list[str]:
    """The methods that the paper compares itself with."""
    return [name for name in dict.fromkeys(numbers["method"]) if name not in KINDS.values()]


def _cells(numbers: pd.DataFrame, methods: Sequence[str], **where: str) -> list[str]:
    for key, value in where.items():
        numbers = numbers[numbers[key] == value]
    known = dict(zip(numbers["method"], numbers["value"], strict=True))
    return [known.get(method, "–") for method in methods]


def table1(opened: Opened, numbers: pd.DataFrame) -> Comparison:
    """Object co-segmentation, k = 1: IoU in per cent."""
    whole = numbers[numbers["part"] == "whole"]
    cited = _cited(whole)
    methods = [*cited, *KINDS.values()]
    cell = _quality(opened, 1, "object_iou")
    precision = _quality(opened, 1, "object_precision")
    rows, matched = [], set()
    for name in dict.fromkeys(whole["set"]):
        mine = _match(opened, name)
        matched.add(mine)
        theirs = _cells(whole, methods, set=name)
        rows.append([_label(name, mine), *theirs, *_own(mine, cell, precision)])
    for mine in opened.factors.own_sets:
        if mine not in matched:
            rows.append([mine, *["–"] * len(methods), *_own(mine, cell, precision)])
    return Comparison(
        "table1",
        "Table 1: object co-segmentation, k = 1, IoU in per cent",
        [(OTHERS, len(cited)), (VGG, 2), (_ours(opened), 4)],
        ["image set", *methods, *KINDS.values(), "precision", "precision, CRF"],
        1,
        rows,
        [
            "The paper’s numbers in this table are of the subset of iCoseg that Vicente et al. and "
            "Rubio et al. used; those of the parts are of the whole sets.",
        ],
    )


def _own(mine: str | None, *measures: Callable[[str, str], str]) -> list[str]:
    if mine is None:
        return ["–"] * (2 * len(measures))
    return [measure(mine, kind) for measure in measures for kind in KINDS]


def table2(opened: Opened, numbers: pd.DataFrame) -> Comparison:
    """Co-localization on VOC 2007, k = 1: CorLoc in per cent."""
    cited = _cited(numbers)
    methods = [*cited, *KINDS.values()]
    names = [name for name in dict.fromkeys(numbers["set"]) if name != "mean"]
    names += [name for name in opened.factors.own_sets if name not in names]
    hits = _corloc(opened, 1)
    rows = [
        [name, *_cells(numbers, methods, set=name), *(hits(name, kind) for kind in KINDS)]
        for name in names
    ]
    means = [_mean(opened, kind) for kind in KINDS]
    rows.append(["mean", *_cells(numbers, methods, set="mean"), *means])
    return Comparison(
        "table2",
        "Table 2: co-localization, k = 1, CorLoc in per cent (hits/total)",
        [(OTHERS, len(cited)), (VGG, 2), (_ours(opened), 2)],
        ["class", *methods, *KINDS.values()],
        1,
        rows,
        [
            "Images left out of a class (index.exclude): "
            f"{opened.evaluation.exclude or 'none'}. "
            "The paper’s own numbers of images match no reading of its rule.",
            "A hit: the box around the largest component of the mask has an IoU above 0.5 with any "
            "box of the class. The mean is over the classes of this run alone.",
        ],
    )


def _chosen(opened: Opened, k: int) -> pd.DataFrame:
    table = opened.evaluation.by_shape(opened.seed, opened.layer)
    return table[(table["k"] == k) & table["set"].isin(opened.factors.own_sets)]


def _corloc(opened: Opened, k: int) -> Callable[[str, str], str]:
    known = {(row["set"], row["maps"]): row for row in _chosen(opened, k).to_dict("records")}

    def cell(name: str, kind: str) -> str:
        row = known.get((name, kind))
        if row is None or not row["boxed"]:
            return "–"
        return f"{row['corloc']:.2f} ({row['hits']}/{row['boxed']})"

    return cell


def _mean(opened: Opened, kind: str) -> str:
    chosen = _chosen(opened, 1)
    if opened.index.together:
        return "–"  # one set of all classes has no mean over classes
    return _two(float(chosen.loc[chosen["maps"] == kind, "corloc"].mean()), digits=2)


def agnostic(opened: Opened, numbers: pd.DataFrame) -> Comparison:
    """Single-object discovery on VOC 2007 trainval, without classes: CorLoc in per cent."""
    rows = [
        [row["method"], row["note"], row["set"], row["value"]] for row in numbers.to_dict("records")
    ]
    for k in opened.ks if opened.index.together else ():
        for name in opened.factors.own_sets:
            for kind, label in KINDS.items():
                cell = _corloc(opened, k)(name, kind)
                rows.append([f"{label}, k = {k}", _ours(opened), name, cell])
    return Comparison(
        "agnostic",
        "Later work: class-agnostic CorLoc on VOC 2007 trainval, per cent",
        [("", 1)],
        ["method", "source", "images", "CorLoc"],
        3,
        rows,
        [
            "One box per image, all trainval images at once, nothing left out; a hit with any "
            "annotated box of any class counts. Table 2 factorizes each class alone, leaves out "
            "images, and counts boxes of that class only: the two columns cannot be compared. "
            "The cited methods look at one image at a time and use self-supervised transformers.",
            "DFF’s box is that of the factor taken for the object by shape alone."
            if opened.index.together
            else "This run has one set per class; `dff init voc2007-agnostic` makes one of all.",
        ],
    )


def table3(opened: Opened, numbers: pd.DataFrame) -> Comparison:
    """Semi-automatically labelled parts, k = 3: IoU in per cent."""
    cited = _cited(numbers)
    methods = [*cited, *KINDS.values()]
    labels = opened.evaluation.labels[(opened.evaluation.labels["k"] == 3)]
    known = {(r["set"], r["label"], r["maps"]): r for r in labels.to_dict("records")}
    keys = list(dict.fromkeys(zip(numbers["set"], numbers["part"], strict=True)))
    keys += [key for key in dict.fromkeys((s, p) for s, p, _ in known) if key not in keys]
    rows = []
    for name, part in keys:
        mine = [known.get((name, part, kind)) for kind in KINDS]
        ours = ["–" if one is None else _two(one["iou"], digits=2) for one in mine]
        rows.append([name, part, *_cells(numbers, methods, set=name, part=part), *ours])
    counts = sorted({int(r["images"]) for r in known.values()})
    layer = str(labels["layer"].iloc[0]) if len(labels) else None
    return Comparison(
        "table3",
        "Table 3: semi-automatic labelling, k = 3, IoU in per cent",
        [("Fully supervised, cited there", len(cited)), (VGG, 2), (_ours(opened, layer), 2)],
        ["class", "part", *methods, *KINDS.values()],
        2,
        rows,
        [
            f"Factors are named in labels.yaml; scores are of the {counts[-1]} or fewer images per "
            "class that were not looked at."
            if counts
            else "No factor is named yet: `dff label --auto` names them from five images per class."
        ],
    )


def table1_parts(opened: Opened, numbers: pd.DataFrame) -> Comparison:
    """Part co-segmentation of the paper's five sets, k = 2 to 4: IoU in per cent."""
    return Comparison(
        "table1-parts",
        "Table 1: part co-segmentation, IoU in per cent",
        [(VGG, 1), (_ours(opened), 2)],
        ["image set", "k", "DFF", *KINDS.values()],
        2,
        _part_rows(opened, numbers[numbers["part"] != "whole"], (2, 3, 4)),
    )


def table4(opened: Opened, numbers: pd.DataFrame) -> Comparison:
    """Parts that belong to factors by coverage, k = 1 to 4: IoU in per cent."""
    return Comparison(
        "table4",
        "Table 4: parts of factors, IoU in per cent",
        [(VGG, 1), (_ours(opened), 2)],
        ["class", "k", "DFF", *KINDS.values()],
        2,
        _part_rows(opened, numbers, (1, 2, 3, 4)),
        [
            "Our copy of the paper’s Table 4 is damaged: its columns aeroplane and bird share most "
            "of their numbers. Look it up before relying on these.",
            "Ours are the parts that belong to a factor by coverage, as in the paper."
            if opened.evaluation.labels.empty
            else "Ours are the names in labels.yaml where it has some, else the parts by coverage.",
        ],
    )


def _part_rows(opened: Opened, numbers: pd.DataFrame, ks: Sequence[int]) -> list[list[str]]:
    """By set and k, the parts of each factor and their IoU: the paper's, raw and refined ones."""
    scores = opened.evaluation.scores
    scores = scores[(scores["layer"] == opened.layer) & (scores["seed"] == opened.seed)]
    theirs_of = {name: _match(opened, name) for name in dict.fromkeys(numbers["set"])}
    pairs: list[tuple[str, str | None]] = list(theirs_of.items())
    pairs += [(name, name) for name in opened.factors.own_sets if name not in theirs_of.values()]
    rows = []
    for name, own in pairs:
        for k in ks:
            theirs = numbers[(numbers["set"] == name) & (numbers["k"] == str(k))]
            mine = scores[(scores["set"] == own) & (scores["k"] == k)]
            if theirs.empty and mine.empty:
                continue
            paper = ", ".join(f"{r['part']} {r['value']}" for r in theirs.to_dict("records"))
            rows.append(
                [_label(name, own), str(k), paper or "–", *(_parts(mine, kind) for kind in KINDS)]
            )
    return rows


def _label(name: str, own: str | None) -> str:
    return name if own in (None, name) else f"{name} ({own})"


def _parts(scores: pd.DataFrame, kind: str) -> str:
    """``head/neck 41, leg 20``: the parts of each factor and their IoU."""
    rows = scores[scores["maps"] == kind].sort_values("factor").to_dict("records")
    return ", ".join(f"{r['parts'] or 'no part'} {_two(r['parts_iou'])}" for r in rows) or "–"


Maker = Callable[[Opened, pd.DataFrame], Comparison]
MAKERS: dict[str, tuple[Maker, ...]] = {
    "table1": (table1, table1_parts),
    "table2": (table2,),
    "agnostic": (agnostic,),
    "table3": (table3,),
    "table4": (table4,),
}
