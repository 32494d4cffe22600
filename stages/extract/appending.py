"""Going on from the last extraction: whole shards are linked, the rest is written behind them.

Entries keep the order of an extraction from nothing (`stages.extract.plan.disk_order`), whatever
lies where on disk: later stages read the same rows in the same order (`store.behind`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import zarr
from numpy.typing import NDArray

from stages.extract.grids import entry_grids
from stages.extract.plan import Order
from stages.extract.reuse import Earlier, Known
from stages.frame.progress import note
from store import Layout, Staging, StoreError
from store.artifact import layer_key
from store.behind import Behind, digest_of, plan_behind

Grids = Mapping[str, NDArray[np.int64]]  # by layer (h, w) of each image at each size


@dataclass(frozen=True)
class Appending:
    """What of an order is written by this run.

    Attributes
    ----------
    places : int64 [m]
        Positions in the whole order.
    order : Order
        Those alone, as `grids` are theirs.
    behind : mapping of layer to Behind
        Where shards are linked; empty for a run that writes everything.
    """

    places: NDArray[np.int64]
    order: Order
    grids: Grids
    behind: Mapping[str, Behind] = field(default_factory=dict)

    @classmethod
    def plan(
        cls,
        order: Order,
        hashes: Sequence[bytes],
        grids: Grids,
        layouts: Mapping[str, Layout],
        earlier: Sequence[Earlier],
        work: Staging,
    ) -> "Appending":
        """Link what the last complete extraction has; go on as a run that was killed began.

        Parameters
        ----------
        hashes : sequence of bytes [n]
            SHA-256 of each image of the order.
        layouts : mapping of layer to Layout
        """
        begun = work.progress.get("behind", "") if work.progress.get("stored") else None
        last = [one for one in earlier if one.complete][:1] if begun != "" else []
        found: list[Behind] = []
        if last:
            known = Known.of(last, hashes, grids)
            entries = last[0].each(hashes, np.where(known.source == 0, known.entry, -1))
            shapes = [entry_grids(grids[layer]) for layer in layouts]
            ours = [last[0].layers[layer] for layer in layouts]
            found = plan_behind(ours, entries, shapes, list(layouts.values()))
        behind = dict(zip(layouts, found, strict=True)) if found else {}
        places = found[0].tail if found else np.arange(len(order.image_ids))
        part = Order(
            tuple(order.image_ids[i] for i in places), tuple(order.shapes[i] for i in places)
        )
        planned = cls(places, part, {layer: one[places] for layer, one in grids.items()}, behind)
        if begun is not None and begun != planned.digest:
            work.restart()  # what it was to go on from is gone, or another now
        return planned

    def linked(self, group: zarr.Group, work: Staging) -> bool:
        """`link`; False, and all is to be begun anew, where what would be taken over is damaged."""
        try:
            self.link(group, work)
        except StoreError as error:
            note(f"extract: not reusing earlier rows: {error}")
            work.restart()
            return False
        return True

    def link(self, group: zarr.Group, work: Staging) -> None:
        """Put the shards in place and on record, but for layers that are on record already."""
        stored = dict(work.progress.get("stored", {}))
        for layer in self.grids:
            key = f"{layer_key(layer)}/maps"
            if layer in stored:
                continue
            if key in group:
                del group[key]  # begun by a run that was to go on from something else
            if layer in self.behind:
                stored[layer] = self.behind[layer].link(group.require_group(key))
        work.checkpoint(stored=stored, behind=self.digest)

    @property
    def digest(self) -> str:
        """By which a run that is resumed knows what it had begun; empty where nothing is linked."""
        return digest_of(list(self.behind.values())) if self.behind else ""
