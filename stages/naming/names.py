"""The name of every factor: what labels.yaml says, carried over to the factors there are now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.factors import Factors
from stages.frame.params import suggestion
from stages.naming.labels import Directions, Labels, Matrix, Names, labels_text, read_labels
from stages.naming.match import SAME, match, nearest

SHOWN = 3  # images of a kind that a note names


@dataclass(frozen=True)
class Named:
    """The names of one factorization's factors.

    Attributes
    ----------
    names : sequence of names, one per factor
    cosines : sequence of float
        Of each factor with the one that got its name; 1 where it is that one, 0 without a name.
    """

    names: Sequence[Names]
    cosines: Sequence[float]


@dataclass(frozen=True)
class FactorNames:
    """Names of the factors of one layer and seed, those that pictures show.

    Attributes
    ----------
    layer : str
    seed : int
    sets : dict of image set to {k: Named}
        Only of factorizations with a name.
    seen : dict of image set to image names
        These were looked at, and do not count in the scores.
    notes : tuple of str
        What a person should know: names that are used no more, and why.
    """

    layer: str
    seed: int
    sets: Mapping[str, Mapping[int, Named]] = field(default_factory=dict)
    seen: Mapping[str, frozenset[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, layer: str, image_set: str, k: int, seed: int) -> Sequence[Names] | None:
        """The names of a factorization's factors; None where it has none."""
        named = self.named(layer, image_set, k, seed)
        return None if named is None else named.names

    def named(self, layer: str, image_set: str, k: int, seed: int) -> Named | None:
        """The names of a factorization's factors with their cosines; None where it has none."""
        if (layer, seed) != (self.layer, self.seed):
            return None
        return self.sets.get(image_set, {}).get(k)

    def texts(self, layer: str, image_set: str, k: int, seed: int) -> list[str]:
        """What a factorization's factors are called, one line each; empty without a name."""
        return [title(names) for names in self.of(layer, image_set, k, seed) or [()] * k]

    @property
    def lowest(self) -> float:
        """The smallest cosine of a name with the factor it was given to."""
        every = [named for by_k in self.sets.values() for named in by_k.values()]
        return min((one for named in every for one in named.cosines if one), default=1.0)

    def form(self, factors: Factors) -> str:
        """A labels file with a place for every factor of the layer and seed, names filled in."""
        of = factors.factorizations
        named = {
            name: {k: self.of(self.layer, name, k, self.seed) or [()] * k for k in of.ks}
            for name in factors.sets
        }
        seen = {name: sorted(images) for name, images in self.seen.items()}
        directions = directions_of(factors, self.layer, self.seed)
        return labels_text(self.layer, self.seed, factors.fingerprint, named, directions, seen)

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON, for `from_record`."""
        return {
            "layer": self.layer,
            "seed": self.seed,
            "sets": [
                [name, k, [list(names) for names in named.names], list(named.cosines)]
                for name, by_k in self.sets.items()
                for k, named in by_k.items()
            ],
            "seen": {name: sorted(images) for name, images in self.seen.items()},
            "notes": list(self.notes),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "FactorNames":
        """Names as an artifact recorded them."""
        sets: dict[str, dict[int, Named]] = {}
        for name, k, names, cosines in record["sets"]:
            sets.setdefault(name, {})[int(k)] = Named([tuple(one) for one in names], cosines)
        seen = {name: frozenset(images) for name, images in record["seen"].items()}
        return cls(record["layer"], record["seed"], sets, seen, tuple(record["notes"]))


def title(names: Names) -> str:
    """The names of one factor on one line."""
    return " + ".join(names)


def directions_of(factors: Factors, layer: str, seed: int) -> Directions:
    """Rows of W of one layer and seed, by image set and k."""
    of, W = factors.factorizations, factors.at(layer).W
    return {
        name: {k: W[rank, of.columns_of(k, seed)] for k in of.ks}
        for rank, name in enumerate(factors.sets)
    }


def read_names(path: Path, factors: Factors) -> FactorNames:
    """The names that a labels file has for these factors; see `resolve`.

    Raises
    ------
    StageError
        When the file is not of the form of `stages.naming.labels`.
    """
    return resolve(read_labels(path), factors)


def resolve(labels: Labels, factors: Factors) -> FactorNames:
    """Whose names these are now.

    Factors of the fingerprint that the file has, or of a file that has none, keep their places.
    Others get the name of the factor whose direction is theirs: matched one to one, set by set and
    k by k, with a cosine of at least `SAME`. A k that the file does not have takes the names of the
    nearest one that has some. Nothing is refused: what cannot be named is said.
    """
    return _Resolving(labels, factors).run()


class _Resolving:
    def __init__(self, labels: Labels, factors: Factors) -> None:
        self.labels, self.factors = labels, factors
        self.of = factors.factorizations
        self.layer = labels.layer if labels.layer is not None else factors.layers[0]
        self.seed = labels.seed if labels.seed is not None else self.of.shown_seed
        self.notes: list[str] = []
        # a file that says nothing of its factors is taken at its word
        self.same = labels.silent or labels.factors == factors.fingerprint

    def run(self) -> FactorNames:
        shown = self.of.shown_seed
        if not self.labels.sets:
            return FactorNames(self.factors.layers[0], shown)
        if self.layer not in self.factors.layers:
            self._note(f"layer {self.layer!r}", self.layer, self.factors.layers)
            return FactorNames(self.factors.layers[0], shown, notes=tuple(self.notes))
        if self.labels.silent and self.labels.counts[0]:
            self.notes.append(
                "names are given to factors by their numbers, for the file does not say whose they "
                "are; `dff label` adds that"
            )
        sets = {}
        for name in self.labels.sets:
            if name not in self.factors.sets:
                self._note(f"image set {name!r}", name, list(self.factors.sets))
            elif by_k := self._set(name):
                sets[name] = by_k
        return FactorNames(self.layer, shown, sets, self._seen(), tuple(self.notes))

    def _set(self, name: str) -> dict[int, Named]:
        given = self.labels.sets[name]
        if self.same:
            for k in given:
                if k not in self.of.ks:
                    self._note(f"sets.{name}: k {k}", str(k), [str(one) for one in self.of.ks])
        found = {}
        for k in self.of.ks:
            if k not in given and self.same:
                continue  # somebody left it out
            having = [one for one in ([k] if k in given else given) if any(given[one])]
            if not having:
                continue
            source = nearest(k, having)
            named = self._named(name, source, k)
            if named is not None and any(named.names):
                found[k] = named
        return found

    def _named(self, name: str, source: int, k: int) -> Named | None:
        names = self.labels.sets[name][source]
        if self.same and self.seed == self.of.shown_seed:
            return Named(names, [1.0 if one else 0.0 for one in names])
        before = self._directions(name, source)
        where = f"{name}, k = {k}"
        if before is None:
            self.notes.append(
                f"{where}: its names were given to other factors, and the file does not have their "
                "directions, so they are not used; take out its line `factors:` if they still hold"
            )
            return None
        W = self.factors.at(self.layer).W
        rank = list(self.factors.sets).index(name)
        now = W[rank, self.of.columns_of(k)]
        kept = [j for j, one in enumerate(names) if one]
        try:
            found, cosines = match(before[kept], now)
        except ValueError:
            self.notes.append(f"{where}: its names were given at a layer of other channels")
            return None
        mine: list[Names] = [()] * k
        alike = [0.0] * k
        for j, at, cosine in zip(kept, found, cosines, strict=True):
            if at >= 0:
                mine[at], alike[at] = names[j], cosine
            elif source <= k:  # with fewer factors than were named some must be missing
                why = f"below {SAME}" if cosine < SAME else "but that one is more like another"
                self.notes.append(
                    f"{where}: no factor is {title(names[j])!r} any more; the most similar one has "
                    f"a cosine of {cosine:.2f}, {why}"
                )
        return Named(mine, alike)

    def _directions(self, name: str, k: int) -> Matrix | None:
        if self.same and self.seed in self.of.seeds and k in self.of.ks:
            rank = list(self.factors.sets).index(name)
            return np.asarray(self.factors.at(self.layer).W[rank, self.of.columns_of(k, self.seed)])
        return self.labels.directions.get(name, {}).get(k)

    def _seen(self) -> dict[str, frozenset[str]]:
        found = {}
        for name, images in self.labels.seen.items():
            if name not in self.factors.sets:
                self._note(f"seen: image set {name!r}", name, list(self.factors.sets))
                continue
            ids = self.factors.image_ids[self.factors.sets[name]]
            members = [self.factors.images[int(i)] for i in ids]
            gone = sorted(images - set(members))
            for image in gone[:SHOWN]:
                self._note(f"seen.{name}: image {image!r}", image, members)
            found[name] = images - set(gone)
        return found

    def _note(self, what: str, value: str, known: Sequence[str]) -> None:
        self.notes.append(f"{what} is not there, so it is left alone; {suggestion(value, known)}")
