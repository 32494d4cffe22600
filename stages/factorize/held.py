"""Going on from pinned factors: where each set begins, and which images keep what they had.

An image of the pinned ones keeps its coefficients, to the last bit, where none of those it has now
is further from them than `STILL` times the scale of its factor's heat maps (of several sizes: the
largest of its factor at that size). Its maps, masks and boxes are then what they were, and need not
be made again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.activations import Activations
from stages.artifacts.factorizations import Factorizations
from stages.artifacts.factors import Factors, Heat
from stages.artifacts.pinned import Pinned
from stages.artifacts.within import Within
from stages.frame.errors import StageError
from store import Ragged

if TYPE_CHECKING:
    from stages.algorithms.nmf import Factorization
    from stages.algorithms.rows import RowBlocks

STILL = 0.01
FAR = 0.1  # so much less of the energy explained is worth a word
Write = Callable[[int, NDArray[np.float32]], None]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Held:
    """What one image set takes over from pinned factors; a set that is not among them nothing.

    Attributes
    ----------
    start : dict of (k, seed) to W ``[k, channels]``
    entries : int64 [images]
        The pinned entry of each image, by content; -1: it is new.
    columns : int64 [columns]
        The pinned column of each of ours; -1: not pinned.
    coefficients : Ragged
        The pinned ones, of all rows.
    heat : Heat
        Of the heat maps, float64 ``[columns]`` each; NaN: not pinned.
    largest : float64 [sizes, columns]
        Coefficients that those of each size are shares of (`stages.algorithms.scales`); of one
        size the heat maps' scale. NaN: not pinned.
    top : float64 [columns]
        Of several sizes, what their maps are divided by; NaN: not pinned.
    explained : float64 [problems]
        Share of the energy that was explained when they were pinned.
    mean : float32 [channels] or None
        What was taken away from their rows, where they were centred.
    stability, held_out : list of (cosine, silhouette), list of float
        Of each k then; empty unless all were pinned.
    factor_stability : float64 [columns]
        The same of each factor; NaN for all unless all were pinned.
    """

    start: dict[tuple[int, int], NDArray[np.float32]]
    entries: NDArray[np.int64]
    columns: NDArray[np.int64]
    coefficients: Ragged
    heat: Heat
    largest: Floats
    top: Floats
    explained: Floats
    mean: NDArray[np.float32] | None
    stability: list[tuple[float, float]]
    held_out: list[float]
    factor_stability: Floats

    @cached_property
    def fresh(self) -> NDArray[np.int64]:
        """Which of the set's images are new since, by their place in it."""
        return np.flatnonzero(self.entries < 0)


def held_by(
    pinned: Pinned,
    activations: Activations,
    layer: str,
    whose: tuple[str, NDArray[np.int64], Within | None],
    factorizations: Factorizations,
) -> Held | None:
    """What a set takes over; None where it, or all that is asked for, is not pinned.

    Parameters
    ----------
    whose : (name, entries of the activations, the factor it lies within or None)
    """
    theirs = pinned.factors
    their_layer = _same_recipe(pinned, activations, layer)
    name, members, factor = whose
    if name not in theirs.sets or theirs.within.get(name) != factor:
        return None
    if factor and not _same_parents(factor, theirs, factorizations):
        return None
    known = [pair for pair in factorizations.problems if pair in theirs.factorizations.problems]
    if not known:
        return None
    rank, of = list(theirs.sets).index(name), theirs.at(their_layer)
    columns = np.full(len(factorizations.columns), -1, np.int64)
    explained = np.full(len(factorizations.problems), np.nan)
    start = {}
    for k, seed in known:
        there = theirs.factorizations.columns_of(k, seed)
        start[k, seed] = of.W[rank, there]
        columns[factorizations.columns_of(k, seed)] = there
        problem = theirs.factorizations.problems.index((k, seed))
        loss = of.loss[rank, problem]
        norm = of.norm[rank]
        explained[factorizations.problems.index((k, seed))] = (
            1 - loss[np.isfinite(loss)][-1] / norm if norm else np.nan
        )

    def taken(values: Floats) -> Floats:
        """Of our columns."""
        found: Floats = np.where(columns >= 0, values[..., columns], np.nan)
        return found

    heat = Heat(*(taken(one[rank]) for one in pinned.heat(their_layer)))
    coefficients, largest, top = of.coefficients, heat.scale[None], np.full(len(columns), np.nan)
    if activations.several:
        coefficients, largest, top = of.scales, taken(of.largest[rank]), taken(of.top[rank])
    stability, held_out, each = [], [], np.full(len(columns), np.nan)
    if len(known) == len(factorizations.problems):
        rows = [theirs.factorizations.ks.index(k) for k in factorizations.ks]
        stability = [(float(a), float(b)) for a, b in of.stability[rank, rows]]
        if of.tells("held_out"):  # earlier versions did not
            held_out = [float(error) for error in of.held_out[rank, rows]]
        if of.tells("factor_stability"):
            each = taken(of.factor_stability[rank])
    ids = of.coefficients.image_ids[theirs.sets[name]]
    place = {
        pinned.hashes[i].tobytes(): int(entry)
        for i, entry in zip(ids, theirs.sets[name], strict=True)
    }
    mine = activations.at(layer).image_ids[members]
    entries = np.array([place.get(activations.hashes[i].tobytes(), -1) for i in mine], np.int64)
    mean = theirs.mean(their_layer, rank)
    of_factors = heat, largest, top, explained, mean, stability, held_out, each
    return Held(start, entries, columns, coefficients, *of_factors)


def _same_parents(factor: Within, theirs: Factors, ours: Factorizations) -> bool:
    """Whether a factor, and each that it lies within, goes on from the pinned one of its name."""
    seed = ours.shown_seed
    if theirs.factorizations.shown_seed != seed:
        return False
    one: Within | None = factor
    while one is not None:
        if (one.k, seed) not in theirs.factorizations.problems:
            return False
        one = theirs.within.get(one.parent)
    return True


def refuse_other_rows(pinned: Pinned, normalise: str) -> None:
    """Raise a StageError where pinned factors are of rows that were normalised in another way."""
    theirs = pinned.factors.normalise
    if theirs != normalise:
        raise StageError(
            f"params.yaml: factorize.normalise: {normalise}: the factors of {pinned.folder.name} "
            f"were pinned with {theirs}: set it back, or leave start empty, and `dff pin` again "
            "after the run"
        )


def _same_recipe(pinned: Pinned, activations: Activations, layer: str) -> str:
    """The pinned layer whose activations are made as those of `layer` are."""

    def made(recipe: Mapping[str, Any]) -> dict[str, Any]:
        # other code may decode a little differently: who moved too far will not hold still
        return {key: value for key, value in recipe.items() if key != "code"}

    wanted = activations.recipes.get(layer)
    for name, recipe in pinned.recipes.items():
        if wanted and made(recipe) == made(wanted):
            return name
    raise StageError(
        f"params.yaml: factorize.start: {pinned.folder.name}: {layer} is not as it was when these "
        "factors were pinned: other weights, another size or other pixels; leave start empty, and "
        "`dff pin` again after the run"
    )


class Carrying:
    """Coefficients of one set on their way to disk; those of images that hold still are exchanged.

    Parameters
    ----------
    held : Held
    cells : int64 [images, sizes]
        Rows of each image of the set at each size.
    write : callable
        As `Sweep.finish` takes it.
    """

    def __init__(self, held: Held, cells: NDArray[np.int64], write: Write) -> None:
        self.held, self.write, self.cells = held, write, cells
        self.offsets = np.concatenate([[0], np.cumsum(cells.sum(axis=1))])
        self.kept = 0  # images that hold still
        columns = len(held.columns)
        self.HtH = np.zeros((columns, columns))  # of the new images alone
        self._image = 0
        self._waiting: list[NDArray[np.float32]] = []

    def __call__(self, row: int, block: NDArray[np.float32]) -> None:
        """Take the next rows; those of images that are complete go on."""
        self._waiting.append(block.copy())
        end = row + len(block)
        stop = int(np.searchsorted(self.offsets, end, side="right")) - 1
        if stop == self._image:
            return
        rows = np.concatenate(self._waiting)
        first = int(self.offsets[self._image])
        whole = int(self.offsets[stop]) - first
        self._waiting = [rows[whole:]]
        images = range(self._image, stop)
        self._image = stop
        self.write(first, self._exchanged(rows[:whole], images))

    def _exchanged(self, rows: NDArray[np.float32], images: range) -> NDArray[np.float32]:
        held = self.held
        sizes = np.diff(self.offsets[images.start : images.stop + 1])
        entries = held.entries[images.start : images.stop]
        new = rows[np.repeat(entries < 0, sizes)]
        self.HtH += new.T @ new.astype(np.float64)
        known = np.flatnonzero(entries >= 0)
        if not len(known):
            return rows
        of = held.coefficients.offsets
        spans = [(int(of[entry]), int(of[entry + 1])) for entry in entries[known]]
        common = np.flatnonzero(held.columns >= 0)
        before = held.coefficients.read_dense(spans)[:, held.columns[common]]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])[known]
        places = np.concatenate(
            [np.arange(a, a + n) for a, n in zip(starts, sizes[known], strict=True)]
        )
        cells = self.cells[images.start : images.stop][known]
        at = np.repeat(np.tile(np.arange(cells.shape[1]), len(known)), cells.ravel())
        reach = STILL * held.largest[:, common][at]
        beyond = (abs(rows[np.ix_(places, common)] - before) > reach).any(axis=1)
        owners = np.repeat(np.arange(len(known)), sizes[known])
        moved = np.bincount(owners, beyond, minlength=len(known)) > 0
        self.kept += int((~moved).sum())
        still = ~moved[owners]
        rows[np.ix_(places[still], common)] = before[still]
        return rows

    def explained(
        self, rows: "RowBlocks", results: Sequence["Factorization"], factorizations: Factorizations
    ) -> Floats:
        """Share of the new images' ``||A||_F^2`` that each problem explains; NaN without any.

        With H the least-squares solution, ``||A - HW||^2 = ||A||^2 - ||HW||^2``.

        Parameters
        ----------
        rows : RowBlocks
            Of the new images.
        """
        norm = sum(_squares(block) for block in rows.blocks())
        found = np.full(len(results), np.nan)
        for at, one in enumerate(results):
            mine = factorizations.columns_of(one.k, one.seed)
            W = one.factors.astype(np.float64)
            if norm:
                found[at] = (self.HtH[np.ix_(mine, mine)] * (W @ W.T)).sum() / norm
        return found


def drift_line(
    name: str,
    images: int,
    carried: tuple[int, int],
    explained: Floats,
    factorizations: Factorizations,
) -> str:
    """What a person should know of a set that went on from pinned factors."""
    kept, fresh = carried
    line = f"factorize: {name}: {kept} of {images - fresh} pinned images hold still"
    if not fresh:
        return line
    at = int(np.argmax([k for k, _ in factorizations.problems]))
    then, now = explained[at]
    k = factorizations.problems[at][0]
    line += f"; new: {fresh}, explained to {now:.0%}"
    if np.isfinite(then):
        line += f", the pinned ones were to {then:.0%} (k = {k})"
        if now < then - FAR:
            line += ": they hold something else; start: '' finds concepts of all"
    return line


def _squares(block: Any) -> float:
    values = np.asarray(getattr(block, "data", block) if hasattr(block, "indptr") else block)
    return float(np.square(values, dtype=np.float64).sum())
