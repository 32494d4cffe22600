"""What the templates need, collected from the artifacts; pictures are ordered on the way."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from stages.artifacts.factors import Drift
from stages.artifacts.within import Within
from stages.drawing.colours import css
from stages.report.concepts import Concepts, open_concepts
from stages.report.explore_meaning import meaning_of
from stages.report.opened import Opened
from stages.report.pictures import Picture, PictureBook
from stages.report.plots import choice_plot, family_plot, loss_plot, quality_plot
from stages.report.scores import (
    CoverageTable,
    ScoreRow,
    coverage_table,
    factor_scores,
    mean_rows,
    score_rows,
)

# With more image sets than these, pages of theirs would be millions of pictures: the page to
# explore shows each of them all the same, and the first page some.
MANY = 200
CARDS = 60
OVERVIEW_IMAGES = 6
OVERVIEW_KS = 5


@dataclass(frozen=True)
class Shown:
    """An image of a set, as the galleries show it."""

    name: str  # below the collection's root
    photo: Picture
    heat: Picture
    masks: Picture

    @property
    def label(self) -> str:
        """The file's name without its folders."""
        return PurePosixPath(self.name).name


@dataclass(frozen=True)
class Top:
    """One of the images where a factor is strongest."""

    name: str
    picture: Picture

    @property
    def label(self) -> str:
        """The file's name without its folders."""
        return PurePosixPath(self.name).name


@dataclass(frozen=True)
class FactorView:
    """One factor: its name if it has one, its colour, numbers and strongest images."""

    number: int
    name: str
    cosine: float  # with the factor that got the name; 0 without one
    colour: str
    energy: float  # per cent of the factors' energy
    stability: float  # mean cosine with its counterparts in other runs; NaN: not measured
    nonzero: float  # per cent of its coefficients
    mask_start: float  # per cent of full colour
    hint: str  # what it looks like to the network; empty where nobody knows
    importance: list[tuple[str, float, float]]  # class, total index and its error, per cent
    raw: dict[Hashable, Any] | None  # rows of scores.parquet, where there is ground truth
    refined: dict[Hashable, Any] | None
    strongest: list[int]  # positions in the set of the images where it is strongest
    top: list[Top]  # pictures of these
    inside: str  # the image set within it, where it is divided further


@dataclass(frozen=True)
class KView:
    """One factorization: (layer, set, k)."""

    k: int
    factors: list[FactorView]
    images: list[Shown]
    coverage: CoverageTable | None
    explained: float
    drift: Drift | None
    error: float
    updates: int


@dataclass(frozen=True)
class ChoiceView:
    """What helps to choose k; None of it for a single k."""

    suggested: int | None
    reason: str  # for that k, or for none
    rows: list[dict[Hashable, Any]]  # of choice.csv
    plot: Markup | None  # None where stability was not measured
    family: Markup


@dataclass(frozen=True)
class LayerView:
    """One image set at one layer."""

    number: int
    name: str
    ks: list[KView]
    overview: list[int]  # positions among the shown images
    rows: list[ScoreRow]
    loss: Markup
    quality: Markup | None
    quality_of: str  # part_iou, figure_iou or object_iou: what the plot shows
    choice: ChoiceView | None

    @property
    def strips(self) -> list[KView]:
        """The factorizations that the overview shows: evenly spread when there are many."""
        return [self.ks[i] for i in spread(len(self.ks), OVERVIEW_KS)]


@dataclass(frozen=True)
class SetView:
    """One image set."""

    name: str
    href: str
    count: int
    annotated: bool
    has_parts: bool
    shown: int
    layers: list[LayerView]
    within: Within | None  # the factor that it lies within


def hrefs_of(opened: Opened) -> dict[str, str]:
    """Each image set's page, from the report's folder: the first one's is the report's, where the
    collection has no other."""
    own = opened.factors.own_sets
    alone = own[0] if len(own) == 1 else None
    page = "explore.html#/s{}" if many(opened) else "pages/set-{:03d}.html"
    return {
        name: "index.html" if name == alone else page.format(rank)
        for rank, name in enumerate(opened.factors.sets)
    }


def many(opened: Opened) -> bool:
    """Whether the image sets are too many for a page each."""
    return len(opened.factors.sets) > MANY


def in_order(opened: Opened) -> list[str]:
    """The image sets, each followed by those that lie within its factors."""
    within, found = opened.factors.within, []

    inside: dict[str, list[str]] = {}
    for name, one in within.items():
        inside.setdefault(one.parent, []).append(name)

    def add(name: str) -> None:
        found.append(name)
        for one in inside.get(name, ()):
            add(one)

    for name in opened.factors.own_sets:
        add(name)
    return found


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` positions out of `count`, evenly spread, both ends among them."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, wanted)).round()})


def by_content(contents: NDArray[np.uint8], wanted: int) -> list[int]:
    """At most `wanted` positions of images, by their SHA-256 ``[n, 32]``: from all over, and mostly
    the same ones when images come and go."""
    first = np.ascontiguousarray(contents[:, :8]).view(">u8").ravel()
    return sorted(np.argsort(first, kind="stable")[:wanted].tolist())


def collect_set(
    opened: Opened, book: PictureBook | None, name: str, href: str, images: int, top: int
) -> SetView:
    """Everything about one image set; orders its pictures from the book, and of many sets only
    those of a card. Without a book it has no pictures and no plots."""
    entries = opened.factors.sets[name]
    images = min(images, OVERVIEW_IMAGES) if many(opened) else images
    contents = opened.index.hashes[opened.factors.image_ids[entries]]
    chosen = [int(entries[i]) for i in by_content(contents, images if book else 0)]
    has_parts = opened.evaluation.has_parts(name)
    layers = [
        _layer(opened, book, number, layer, name, chosen, top, has_parts)
        for number, layer in enumerate(opened.factors.layers)
    ]
    scored = [row for at in opened.factors.layers for row in opened.rows("scores", at, name)]
    annotated = any(row["object_iou"] == row["object_iou"] for row in scored)
    within = opened.factors.within.get(name)
    return SetView(name, href, len(entries), annotated, has_parts, len(chosen), layers, within)


def _layer(
    opened: Opened,
    book: PictureBook | None,
    number: int,
    layer: str,
    name: str,
    chosen: list[int],
    top: int,
    has_parts: bool,
) -> LayerView:
    losses = opened.rows("loss", layer, name)
    quality = opened.rows("quality", layer, name)
    rows = score_rows(opened, layer, [name])
    fits = {row.k: row for row in rows}
    updates: dict[int, int] = {}
    for row in losses:
        if row["seed"] == opened.seed:
            updates[row["k"]] = max(updates.get(row["k"], 0), row["update"])
    ks = []
    concepts_of = open_concepts(opened, layer, name)
    whole = not many(opened)  # or else a card: the largest k's pictures alone
    for k, concepts in concepts_of.items():
        pictured = book if whole or (k == max(concepts_of) and number == 0) else None
        ks.append(
            KView(
                k=k,
                factors=_factors(
                    opened, book if whole else None, number, layer, name, concepts, top
                ),
                images=[_shown(opened, pictured, number, entry, concepts) for entry in chosen]
                if pictured
                else [],
                coverage=coverage_table(opened, layer, name, k),
                explained=fits[k].explained,
                drift=opened.factors.drift(layer, name, k, opened.seed),
                error=fits[k].error,
                updates=int(updates.get(k, 0)),
            )
        )
    # the object's: of the figure's factors together where it is known of every k which they are
    of_object = "figure_iou" if _known(quality, "figure_iou") else "object_iou"
    column = "part_iou" if has_parts else of_object
    curves: dict[str, list[dict[Hashable, Any]]] = {}
    for row in quality:
        curves.setdefault(str(row["maps"]), []).append(row)
    return LayerView(
        number=number,
        name=layer,
        ks=ks,
        overview=spread(len(chosen), OVERVIEW_IMAGES),
        rows=rows,
        loss=loss_plot(losses, opened.ks) if whole else Markup(),
        quality=quality_plot(curves, column)
        if whole and len(curves) == 2 and len(opened.ks) > 1 and _known(quality, column)
        else None,
        quality_of=column,
        choice=_choice(opened, layer, name, concepts_of),
    )


def _known(rows: Sequence[Mapping[Hashable, Any]], column: str) -> bool:
    """Whether a number is there in each."""
    return all(row[column] == row[column] for row in rows)


def _choice(
    opened: Opened, layer: str, name: str, concepts_of: Mapping[int, Concepts]
) -> ChoiceView | None:
    if len(concepts_of) < 2:
        return None
    table = opened.rows("choice", layer, name)
    links = [row for row in opened.rows("links", layer, name) if row["seed"] == opened.seed]
    chosen = [row for row in table if row["suggested"]]
    colours = {k: concepts.colours for k, concepts in concepts_of.items()}
    return ChoiceView(
        suggested=int(chosen[0]["k"]) if chosen else None,
        reason=str((chosen or table)[0]["reason"]),
        rows=sorted(table, key=lambda row: row["k"]),
        plot=choice_plot(table) if _known(table, "stability") and not many(opened) else None,
        family=Markup() if many(opened) else family_plot(links, colours),
    )


def _image_name(opened: Opened, book: PictureBook, entry: int) -> str:
    return opened.images[int(book.image_ids[entry])]


def _shown(opened: Opened, book: PictureBook, layer: int, entry: int, concepts: Concepts) -> Shown:
    if many(opened):  # masks are not on a card
        photo, heat = book.photo(entry), book.heat(entry, layer, concepts)
        return Shown(_image_name(opened, book, entry), photo, heat, photo)
    return Shown(
        name=_image_name(opened, book, entry),
        photo=book.photo(entry),
        heat=book.heat(entry, layer, concepts),
        masks=book.masks(entry, layer, concepts),
    )


def _factors(
    opened: Opened,
    book: PictureBook | None,
    number: int,
    layer: str,
    name: str,
    concepts: Concepts,
    top: int,
) -> list[FactorView]:
    scores = factor_scores(opened, layer, name, concepts.k)
    scores = {key: row for key, row in scores.items() if row["best_part"]}
    entries = opened.factors.sets[name]
    starts = concepts.mask_starts()
    titles = opened.names.texts(layer, name, concepts.k, opened.seed)
    named = opened.names.named(layer, name, concepts.k, opened.seed)
    meaning = meaning_of(opened.explained, layer, name, concepts.k)
    views = []
    for factor in range(concepts.k):
        strongest = concepts.top_images(factor, top)
        views.append(
            FactorView(
                number=factor,
                name=titles[factor],
                cosine=named.cosines[factor] if named else 0.0,
                colour=css(concepts.colours[factor]),
                energy=100 * float(concepts.energy[factor]),
                stability=float(concepts.stability[factor]),
                nonzero=100 * float(concepts.nonzero[factor]),
                mask_start=100 * min(1.0, float(starts[factor])),
                hint=", ".join(meaning["hints"][factor]) if meaning else "",
                importance=[
                    (of["name"], _percent(of["total"][factor]), _percent(of["error"][factor]))
                    for of in (meaning["classes"] if meaning else ())
                ],
                raw=scores.get((factor, "raw")),
                refined=scores.get((factor, "refined")),
                strongest=strongest,
                top=[
                    Top(
                        _image_name(opened, book, entry),
                        book.spotlight(entry, number, concepts, factor),
                    )
                    for entry in (int(entries[i]) for i in strongest)
                ]
                if book
                else [],
                inside=_inside(opened, name, concepts.k, factor),
            )
        )
    return views


def _percent(share: float | None) -> float:
    return math.nan if share is None else 100 * share


def _inside(opened: Opened, name: str, k: int, factor: int) -> str:
    inside = Within(name, k, factor).name
    return inside if inside in opened.factors.within else ""


def score_tables(opened: Opened) -> list[tuple[str, list[ScoreRow]]]:
    """(layer, rows) for the first page: all sets, of many the first ones, under the mean of all
    when there are several.

    Those within factors come after their parent, and are not of the mean.
    """
    own, tables = set(opened.factors.own_sets), []
    for layer in opened.factors.layers:
        rows = score_rows(opened, layer, in_order(opened))
        of_own = [row for row in rows if row.name in own]
        if many(opened):
            rows = rows[: CARDS * len(opened.ks)]
        means = mean_rows(of_own, "mean over sets") if len(own) > 1 else []
        tables.append((layer, means + rows))
    return tables
