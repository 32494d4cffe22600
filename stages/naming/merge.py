"""Putting the names of one labels file into another: of both people's changes none is lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stages.artifacts.factors import Factors
from stages.frame.errors import StageError
from stages.naming.labels import Labels, Names
from stages.naming.names import FactorNames, Named, resolve, title


@dataclass(frozen=True)
class Change:
    """The name of one factor, as it was and as it becomes.

    Attributes
    ----------
    image_set : str
    k, factor : int
    old, new : names
        Empty for none.
    asked : bool
        Whether the name that goes is one that the file knows, or none: somebody who saw it changed
        it. Else it is another name, of which who wrote the file knew nothing.
    """

    image_set: str
    k: int
    factor: int
    old: Names
    new: Names
    asked: bool

    def __str__(self) -> str:
        old, new = (repr(title(one)) if one else "no name" for one in (self.old, self.new))
        return f"{self.image_set}, k = {self.k}, factor {self.factor}: {old} becomes {new}"


@dataclass(frozen=True)
class Merged:
    """What `merge` found.

    Attributes
    ----------
    names : FactorNames
        Of both files, those of the one that is merged in where they differ.
    changes : sequence of Change
    sure : dict of (image set, k) to cosines
        Of the factors that names of the file went to, where the file named others.
    lost : tuple of str
        Names of the file that no factor has: a line each.
    """

    names: FactorNames
    changes: Sequence[Change]
    sure: Mapping[tuple[str, int], Sequence[float]]
    lost: tuple[str, ...]


def merge(present: Labels, brought: Labels, factors: Factors) -> Merged:
    """Bring the names of a file into those that there are, factor by factor.

    A factor gets the file's name; one that the file has no name for keeps its own, unless the file
    says that it once had that one (`Labels.before`). A name that the file has as it was before
    gives way to what is there now: somebody else changed it. Image sets and k that the file does
    not have stay as they are.

    Parameters
    ----------
    present : Labels
        The project's.
    brought : Labels
        The file's, of any factors: resolved as `stages.naming.names.resolve` does.

    Raises
    ------
    StageError
        When the file has names, and not one is of a factor that there is.
    """
    # what says nothing of its factors is taken at its word
    brought, present = (
        replace(one, factors=factors.fingerprint) if one.silent else one
        for one in (brought, present)
    )
    theirs, now = resolve(brought, factors), resolve(present, factors)
    if brought.counts[0] and not theirs.sets:
        why = theirs.notes[0] if theirs.notes else "no factor has any of its names"
        raise StageError(f"{brought.path}: {why}")
    # notes of what the names were are those of the names themselves
    was = resolve(replace(brought, sets=brought.before), factors)
    sets = {name: dict(by_k) for name, by_k in now.sets.items()}
    if theirs.layer != now.layer:
        sets = {}
    changes: list[Change] = []
    for name in factors.sets:
        for k in factors.factorizations.ks:
            given = theirs.sets.get(name, {}).get(k)
            had = was.sets.get(name, {}).get(k)
            if given is None and had is None:
                continue
            here = now.sets.get(name, {}).get(k) if theirs.layer == now.layer else None
            found, changed = _merged(name, k, here, given, had)
            changes += changed
            sets.setdefault(name, {})[k] = found
    if theirs.layer != now.layer:
        changes += _left_behind(now)
    seen = {
        name: now.seen.get(name, frozenset()) | theirs.seen.get(name, frozenset())
        for name in factors.sets
        if name in now.seen or name in theirs.seen
    }
    names = FactorNames(theirs.layer, theirs.seed, sets, seen, now.notes)
    foreign = brought.factors != factors.fingerprint
    sure = {
        (name, k): [one for one in named.cosines if one]
        for name, by_k in theirs.sets.items()
        for k, named in by_k.items()
        if foreign
    }
    return Merged(names, changes, sure, theirs.notes)


def _merged(
    image_set: str, k: int, here: Named | None, given: Named | None, had: Named | None
) -> tuple[Named, list[Change]]:
    """The names of one factorization, and what changes in them."""
    none = Named([()] * k, [0.0] * k)
    here, given, had = here or none, given or none, had or none
    names, cosines, changes = [], [], []
    for factor in range(k):
        old, new, before = here.names[factor], given.names[factor], had.names[factor]
        if old == new or new == before:  # a file that has not changed it brings nothing
            names.append(old)
            cosines.append(here.cosines[factor])
            continue
        names.append(new)
        cosines.append(given.cosines[factor])
        changes.append(Change(image_set, k, factor, old, new, not old or old == before))
    return Named(names, cosines), changes


def _left_behind(names: FactorNames) -> list[Change]:
    """The names of a layer of which a file, which has those of one, has no more."""
    return [
        Change(image_set, k, factor, one, (), False)
        for image_set, by_k in names.sets.items()
        for k, named in by_k.items()
        for factor, one in enumerate(named.names)
        if one
    ]
