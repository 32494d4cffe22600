"""What becomes of the entries of one layer: computed or taken over, then as they go to disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.masks import binarise, pack_masks
from stages.frame.progress import note
from stages.maps.finished import Finished, measured
from stages.maps.plan import Compute, Made, MapPlan, Rows, Source, Taken, Whole
from store import StoreError

Floats = NDArray[np.float64]
Known = Mapping[int, int]  # entry -> that of earlier maps


@dataclass(frozen=True, eq=False)
class Making:
    """Makes entries by a plan, in any thread or process.

    Attributes
    ----------
    plan : MapPlan
    compute : callable or Source
        See `stages.maps.write.write_maps`.
    """

    plan: MapPlan
    compute: Compute | Source

    def __reduce__(self) -> tuple[Any, ...]:
        # what the plan has of every entry is told of those that are asked for
        sizes = np.array(self.plan.sizes, np.int32).reshape(-1, 2)
        none = np.empty((0, 0))
        sent = replace(
            self.plan, sizes=sizes, image_ids=(), sets=(), thresholds=none, made_from=None
        )
        return type(self), (sent, self.compute)

    def known(self, entries: Sequence[int], thresholds: Floats) -> dict[int, int]:
        """Which of the entries earlier maps have."""
        earlier, made_from = self.plan.earlier, self.plan.made_from
        if earlier is None or made_from is None:
            return {}
        found = {entry: earlier.find(made_from[entry], thresholds) for entry in entries}
        return {entry: there for entry, there in found.items() if there >= 0}

    def made(self, entries: Sequence[int], thresholds: Floats, known: Known) -> Iterator[Made]:
        """Each entry's maps: where an earlier run has them, or what is computed now."""
        if self.plan.earlier is not None and known:
            _ = self.plan.earlier.boxes  # read once, before threads ask for it
        missing = [entry for entry in entries if entry not in known]
        computed = self._computed(missing, thresholds) if missing else iter(())
        there = -1  # the last entry of those that came together
        for entry in entries:
            if entry in known:
                yield entry, Taken(known[entry])
            elif entry > there:
                made = next(computed)
                there = entry + len(made.measured) - 1 if isinstance(made, Finished) else entry
                yield entry, made

    def _computed(
        self, entries: Sequence[int], thresholds: Floats
    ) -> Iterator[Rows | Whole | Finished]:
        if isinstance(self.compute, Source):
            return self.compute.finished(entries, thresholds)
        return iter(self.compute(entries))

    def finish(self, thresholds: Floats, made: Made) -> Finished:
        """An entry's shares as whole numbers, masks and boxes."""
        entry, shares = made
        if isinstance(shares, Taken):
            try:
                assert self.plan.earlier is not None
                earlier = self.plan.earlier
                levels, bits = earlier.rows(shares.entry)
                if (known := earlier.measured(shares.entry, entry)) is not None:
                    return Finished(entry, levels, bits, [known])
                shares = Whole(levels, bits, settled=True)
            except StoreError as error:
                note(f"not taking over earlier maps: {error}")
                shares = next(self._computed([entry], thresholds))
        if isinstance(shares, Finished):
            return shares
        if isinstance(shares, Whole):
            levels, bits, around = shares.levels, shares.bits, shares.around
            settled = shares.settled
        else:
            from stages.algorithms.heatmap import quantise

            bits = pack_masks(binarise(shares, thresholds, axis=1))
            levels, around, settled = quantise(shares, self.plan.dtype), None, False
        if self.plan.settle and not settled:
            levels, bits = self.plan.settle(entry, levels)
        return self.measured(entry, levels, bits, around)

    def measured(
        self,
        entry: int,
        levels: NDArray[Any],
        bits: NDArray[np.uint8],
        around: NDArray[np.uint8] | None = None,
    ) -> Finished:
        """An entry as it lies on disk, with what is measured of it."""
        if around is None and self.plan.around:
            around = self.plan.around(entry)
        h, w = (int(side) for side in self.plan.sizes[entry])
        return Finished(entry, levels, bits, [measured(entry, levels, bits, (h, w), around)])
