"""Image sets that are factorized within one factor of another: how they are called, what they are.

Such a set has the images of its parent, and its matrix is the parent's rows, each weighted by the
share that the factor has in its reconstruction (`stages.algorithms.nmf.shares`). It is called after
the factor, ``SET/K/FACTOR``, as factors are called wherever one needs a name; so the factors of the
set ``horses/3/2`` are ``horses/3/2/3/0`` and so on, and one of them may be divided further.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.frame.errors import StageError
from stages.frame.params import suggestion
from store.artifact import read_attrs

FORM = re.compile(r"(?s)(.+)/([1-9]\d*)/(0|[1-9]\d*)")
HOW = "name a factor as SET/K/FACTOR, such as horses/3/2: 2 of the factors 0, 1 and 2 of k = 3"


@dataclass(frozen=True)
class Within:
    """One factor of an image set, of the shown seed.

    Attributes
    ----------
    parent : str
        The image set, which may be one within a factor itself.
    k, factor : int
        Factors are numbered from 0, the strongest.
    """

    parent: str
    k: int
    factor: int

    @property
    def name(self) -> str:
        """Of the image set within the factor."""
        return f"{self.parent}/{self.k}/{self.factor}"

    @classmethod
    def read(cls, text: str) -> "Within":
        """What a text names.

        Raises
        ------
        ValueError
            When it is not of the form, or there can be no such factor.
        """
        found = FORM.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no factor; {HOW}")
        one = cls(found[1], int(found[2]), int(found[3]))
        if one.factor >= one.k:
            raise ValueError(
                f"{text}: k = {one.k} has the factors 0 to {one.k - 1}, no factor {one.factor}"
            )
        return one


def chain_of(asked: str, sets: Iterable[str]) -> list[Within]:
    """A factor of an image set, and those that it lies within, the outermost first.

    Raises
    ------
    StageError
        When there is no such image set.
    """
    known, found = list(sets), [Within.read(asked)]
    while found[0].parent not in known:
        parent = found[0].parent
        try:
            found.insert(0, Within.read(parent))
        except ValueError as error:
            unknown = f"no image set {parent!r}; {suggestion(parent, known)}"
            why = error if FORM.fullmatch(parent) else unknown
            raise StageError(f"params.yaml: factorize.within: {asked}: {why}") from error
    return found


def resolved(within: Sequence[str], sets: Iterable[str], ks: Collection[int]) -> dict[str, Within]:
    """All image sets within factors by their names, parents before what lies within them.

    One that lies deeper needs those that it lies within: they are among them, asked for or not.

    Raises
    ------
    StageError
        When there is no such image set or k, or one is called like a factor already.
    """
    known = list(sets)
    depths: dict[str, tuple[int, Within]] = {}
    for text in within:
        for depth, one in enumerate(chain_of(text, known)):
            if one.name in known:
                raise StageError(
                    f"params.yaml: factorize.within: {one.name}: an image set has this name itself"
                )
            if one.k not in ks:
                raise StageError(f"params.yaml: factorize.within: {text}: {not_asked(one.k, ks)}")
            depths.setdefault(one.name, (depth, one))
    ordered = sorted(depths.values(), key=lambda found: found[0])
    return {one.name: one for _, one in ordered}


def not_asked(k: int, ks: Collection[int]) -> str:
    """What to say of a k that is not there."""
    return f"k = {k} is not among factorize.k ({', '.join(map(str, ks))}); add it there"


def root_of(name: str, within: Mapping[str, Within]) -> str:
    """The image set of the collection that a set is, or lies within."""
    while name in within:
        name = within[name].parent
    return name


def recorded(within: Mapping[str, Within]) -> dict[str, Any]:
    """As attributes of an artifact; none where there are none, as in those of earlier versions."""
    rows = [[one.parent, one.k, one.factor] for one in within.values()]
    return {"within": rows} if rows else {}


def from_attrs(attrs: Mapping[str, Any]) -> dict[str, Within]:
    """What `recorded` wrote."""
    every = [Within(str(parent), int(k), int(factor)) for parent, k, factor in _rows(attrs)]
    return {one.name: one for one in every}


def within_of(path: Path) -> dict[str, Within]:
    """Of a published artifact of factors, without opening its arrays; empty where there is none."""
    return from_attrs(read_attrs(path) or {})


def _rows(attrs: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    rows: Sequence[Sequence[Any]] = attrs.get("within", ())
    return rows
