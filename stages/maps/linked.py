"""Maps that stay where they are: whole shards of earlier maps are linked, others written behind.

An entry whose maps are taken over (`stages.maps.earlier`) and lie wholly in such shards costs
neither reading nor writing; what was measured of it is copied.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.concept_maps import Measured
from stages.maps.earlier import EarlierMaps
from stages.maps.plan import MapPlan
from store import Layout, Ragged
from store.behind import Behind, digest_of, plan_behind

if TYPE_CHECKING:
    import zarr

NAMES = ("maps", "masks")


@dataclass(frozen=True)
class Linked:
    """Where the entries of a layer lie.

    Attributes
    ----------
    behind : (Behind, Behind) or None
        Of maps and masks; None: all entries are written, in order.
    place : int64 [entries]
        The place of each entry among those that are written; -1: it is linked.
    source : int64 [entries]
        The earlier entry of those that are linked.
    """

    behind: tuple[Behind, Behind] | None
    place: NDArray[np.int64]
    source: NDArray[np.int64]

    @classmethod
    def plan(cls, plan: MapPlan, layout: Layout, begun: str | None) -> "Linked":
        """Link what can be; go on as a run that was killed began.

        Parameters
        ----------
        begun : str, optional
            The `digest` of that run, where it has stored something.
        """
        entries, earlier = len(plan.sizes), plan.earlier
        none = cls(None, np.arange(entries), np.full(entries, -1))
        if earlier is None or begun == "":
            return none
        arrays = earlier.maps.maps, earlier.maps.bits
        source = _known(plan, earlier)
        if source is None or not all(isinstance(one, Ragged) for one in arrays):
            return none
        sizes = np.array(plan.sizes, np.int64).reshape(-1, 2)
        found = plan_behind(arrays, source, [sizes, sizes], [layout, layout])  # type: ignore[arg-type]
        if not found or earlier.boxes is None:
            return none
        maps, masks = found
        place = np.full(entries, -1)
        place[maps.tail] = np.arange(len(maps.tail))
        return cls((maps, masks), place, source)

    @property
    def digest(self) -> str:
        """By which a run that is resumed knows what it had begun; empty where nothing is linked."""
        return digest_of(self.behind) if self.behind else ""

    @property
    def count(self) -> int:
        """How many entries are linked."""
        return int((self.place < 0).sum())

    def link(self, group: "zarr.Group") -> dict[str, Any]:
        """Begin the layer's arrays; where their writers then resume."""
        for name in NAMES:
            if name in group:
                del group[name]  # begun by a run that was to go on from something else
        if not self.behind:
            return {}
        return {
            name: one.link(group.require_group(name))
            for name, one in zip(NAMES, self.behind, strict=True)
        }

    def of(self, name: str) -> Behind | None:
        """As a `store.RaggedWriter` takes it."""
        return self.behind[NAMES.index(name)] if self.behind else None

    def split(self, entries: Sequence[int], written: int) -> tuple[list[int], list[int], list[int]]:
        """Entries that are linked, that an interrupted run has written, and the others.

        Parameters
        ----------
        written : int
            How many of those that are not linked it has.
        """
        places = [(entry, int(self.place[entry])) for entry in entries]
        return (
            [entry for entry, place in places if place < 0],
            [entry for entry, place in places if 0 <= place < written],
            [entry for entry, place in places if place >= written],
        )

    def measured(
        self, plan: MapPlan, entries: Sequence[int]
    ) -> Iterator[tuple[int, list[Measured]]]:
        """What was measured of linked entries, one after the other."""
        for entry in entries:
            assert plan.earlier is not None
            one = plan.earlier.measured(int(self.source[entry]), entry)
            assert one is not None, "nothing is linked where boxes are not at hand"
            yield entry, [one]


def _known(plan: MapPlan, earlier: EarlierMaps) -> NDArray[np.int64] | None:
    """The earlier entry of each one, -1 for none; None where masks depend on what is to come."""
    if plan.made_from is None:
        return None
    found = np.full(len(plan.sizes), -1)
    for rank, entries in enumerate(plan.sets):
        thresholds = plan.given(rank)
        if thresholds is None:
            return None
        for entry in entries:
            found[entry] = earlier.find(plan.made_from[entry], thresholds)
    return found
