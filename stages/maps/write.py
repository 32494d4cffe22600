"""Writing maps of concepts, their masks, thresholds and boxes, for heatmaps, refine, transform.

The artifacts' form is said in `stages.artifacts.concept_maps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import cached_property, partial
from heapq import merge
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.masks import exact_percentile
from stages.artifacts.concept_maps import ConceptMaps, Measured, MeasuredWriter
from stages.frame.compiling import told_of_compiling
from stages.frame.parallel import ordered_map
from stages.frame.progress import note, track
from stages.maps.finished import Finished
from stages.maps.linked import Linked
from stages.maps.made_there import MOST, Range, Spreading, There
from stages.maps.making import Making
from stages.maps.memory import SHARD_BYTES
from stages.maps.plan import Compute, MapPlan, Percentile, Rows, Source
from store import Ragged, RaggedWriter, Staging, plan_layout, whole_entries
from store.writer import Background

if TYPE_CHECKING:
    import zarr

Advance = Callable[[Fraction], None]


@contextmanager
def track_images(label: str, images: int, layers: int = 1) -> Iterator[Advance]:
    """Show progress in images: one is done when its maps are, in every pass and at every layer."""
    done = Fraction()
    with track(label, images, "images") as advance:

        def finished(share: Fraction) -> None:
            nonlocal done
            before, done = done, done + share / layers
            if whole := int(done) - int(before):
                advance(whole)

        yield finished


def note_taken(label: str, taken: int, images: int) -> None:
    """Say how many images' maps are what they were."""
    if taken:
        note(f"{label}: {taken} of {images} images are as they were, their maps are taken over")


def write_maps(
    group: zarr.Group,
    plan: MapPlan,
    compute: Compute | Source,
    work: Staging,
    key: str,
    advance: Advance,
    there: There | None = None,
) -> int:
    """Write the maps of all entries in order; goes on where an earlier run stopped.

    Returns how many were taken over from earlier maps.

    Parameters
    ----------
    group : zarr.Group
        The layer's group.
    compute : callable or Source
        Yields shares, float32 ``[h * w, columns]`` in [0, 1], for each of the entries asked for;
        the same ones whenever it is asked. Where the thresholds are given it may yield `Whole`
        or `Finished`.
    work, key
        Where the progress is recorded, and under which name.
    advance : callable
        Told of the share of an image's work at this layer that is done, pass by pass; see
        `track_images`.
    there : There, optional
        Where they are made, if not here. The same bytes, and the same record of progress.
    """
    with told_of_compiling():
        return _Writing(group, plan, compute, work, key, advance, there).run()


class _Writing:
    """One layer while it is written."""

    def __init__(
        self,
        group: zarr.Group,
        plan: MapPlan,
        compute: Compute | Source,
        work: Staging,
        key: str,
        advance: Advance,
        there: There | None,
    ) -> None:
        self.group, self.plan, self.compute, self.there = group, plan, compute, there
        self.making = Making(plan, compute)
        self.taken = 0
        self.threads = ExitStack()
        # Compressing takes longer than anything else here: it is not for the thread that appends.
        encoders, storing = (
            self.threads.enter_context(ThreadPoolExecutor(n)) for n in (plan.workers, 1)
        )
        self.background = Background(encoders, storing)
        self.work, self.key, self.advance = work, key, advance
        self.state: dict[str, Any] = {"thresholds": [], **work.progress.get(key, {})}
        rows = sum(h * w for h, w in plan.sizes)
        # One layout in rows for both arrays, so that their shards end at the same entries.
        self.layout = plan_layout(
            rows,
            np.dtype(plan.dtype).itemsize * plan.columns,
            shard_bytes=SHARD_BYTES,
            most_rows=max((h * w for h, w in plan.sizes), default=1),
        )
        begun = self.state.get("behind", "") if "masks" in self.state else None
        # workers write all: what they are sent knows of no entries elsewhere
        self.linked = Linked.plan(plan, self.layout, begun if there is None else "")
        if begun is not None and begun != self.linked.digest:
            # what it was to go on from is gone, or another now
            self.state, begun = {"thresholds": []}, None
        if begun is None:
            self.state |= {**self.linked.link(group), "behind": self.linked.digest}
        self.maps = self._writer("maps", plan.columns, plan.dtype, self._maps_flushed)
        self.bits = self._writer("masks", -(-plan.columns // 8), np.uint8, self._masks_flushed)
        self._maps_state: dict[str, Any] = self.state.get("maps", {})
        self._checkpoint()

    def _writer(
        self, name: str, channels: int, dtype: Any, flushed: Callable[[dict[str, Any]], None]
    ) -> RaggedWriter:
        # what is interpolated is smooth; refined maps and masks are flat but for edges
        return RaggedWriter(
            self.group.require_group(name),
            np.array(self.plan.sizes),
            np.array(self.plan.image_ids),
            channels,
            dtype,
            layout=self.layout,
            behind=self.linked.of(name),
            images="smooth" if dtype == np.uint16 else "flat",
            handed_over=True,
            resume=self.state.get(name),
            on_flush=flushed,
            background=self.background,
        )

    def _maps_flushed(self, stored: dict[str, Any]) -> None:
        # On record only with the masks of the same rows, which come next.
        self._maps_state = stored

    def _masks_flushed(self, stored: dict[str, Any]) -> None:
        self.state |= {"maps": self._maps_state, "masks": stored}
        self._checkpoint()

    def _checkpoint(self) -> None:
        done = whole_entries(self.bits.offsets, self.state.get("masks", {"rows": 0})["rows"])
        done = max(done, 0) + self.linked.count
        self.work.checkpoint(
            **{self.key: self.state}, done=done, total=len(self.plan.sizes), unit="images"
        )

    def _computed(self, maps: int = 1) -> None:
        """So many maps were computed, each in one of the passes."""
        self.advance(Fraction(maps, self.plan.passes))

    def run(self) -> int:
        """Write everything that is not there yet; see `write_maps`."""
        with self.threads:
            self._run()
        return self.taken

    def _run(self) -> None:
        first = int(np.searchsorted(self.bits.offsets[1:], self.bits.flushed, side="right"))
        measures = MeasuredWriter(self.group, self.plan.columns)

        def take(found: Sequence[Measured]) -> None:
            for one in found:
                measures.append(one)
            self._computed(len(found))

        if self.there is not None:
            making = Making(self.plan, self.there.compute)
            spreading = Spreading(self.there, making, self.maps, self.bits, take)
            spreading.run(self._ranges(first, take, self.there.cluster.slots))
        else:
            for rank, entries in enumerate(self.plan.sets):
                thresholds = self._thresholds(rank, entries)
                for those in self._in_order(entries, first, thresholds):
                    take(those)
        self.maps.close()
        self.bits.close()
        measures.close()
        found = np.array(self.state["thresholds"], dtype=np.float64)
        if self.plan.made_from is not None:
            ConceptMaps.made_from.write(self.group, self.plan.made_from)
        ConceptMaps.thresholds.write(self.group, found.reshape(-1, self.plan.columns))

    def _ranges(
        self, first: int, take: Callable[[Sequence[Measured]], None], slots: int
    ) -> Iterator[Range]:
        """Entries for tasks, some at a time; `take` gets what is measured of those on disk."""
        most = max(1, min(MOST, -(-len(self.plan.sizes) // (4 * slots))))
        for rank, entries in enumerate(self.plan.sets):
            thresholds = self._thresholds(rank, entries)
            _, kept, fresh = self.linked.split(entries, first)
            for finished in self._kept(kept):
                take(finished.measured)
            known = self._known(fresh, thresholds)
            for at in range(0, len(fresh), most):
                some = fresh[at : at + most]
                yield some, {one: known[one] for one in some if one in known}, thresholds

    def _known(self, entries: Sequence[int], thresholds: NDArray[np.float64]) -> dict[int, int]:
        known = self.making.known(entries, thresholds)
        self.taken += len(known)
        return known

    def _in_order(
        self, entries: Sequence[int], first: int, thresholds: NDArray[np.float64]
    ) -> Iterator[Sequence[Measured]]:
        """What is measured of entries that are linked, on disk, or computed and written now."""
        linked, kept, fresh = self.linked.split(entries, first)
        self.taken += len(linked)
        written = (
            (one.first, one.measured)
            for one in chain(self._kept(kept), self._written(fresh, thresholds))
        )
        together = merge(self.linked.measured(self.plan, linked), written, key=itemgetter(0))
        yield from (measured for _, measured in together)

    def _written(self, fresh: Sequence[int], thresholds: NDArray[np.float64]) -> Iterator[Finished]:
        """Entries that are computed and written now."""
        computed = self.making.made(fresh, thresholds, self._known(fresh, thresholds))
        finish = partial(self.making.finish, thresholds)
        for finished in ordered_map(finish, computed, workers=self.plan.workers):
            start = int(self.bits.offsets[self.linked.place[finished.first]])
            self.maps.append(start, finished.levels)
            self.bits.append(start, finished.bits)
            yield finished

    def _kept(self, kept: Sequence[int]) -> Iterator[Finished]:
        """Those that an earlier run has written."""
        yield from ordered_map(self._from_disk, kept, workers=self.plan.workers)

    def _from_disk(self, entry: int) -> Finished:
        levels, bits = (
            array.rows(int(array.offsets[entry]), int(array.offsets[entry + 1]))
            for array in self._on_disk
        )
        return self.making.measured(entry, levels, bits)

    @cached_property
    def _on_disk(self) -> tuple[Ragged, Ragged]:
        maps, masks = (self.group.require_group(name) for name in ("maps", "masks"))
        return Ragged.open(maps), Ragged.open(masks)

    def _thresholds(self, rank: int, entries: Sequence[int]) -> NDArray[np.float64]:
        """A set's thresholds: given, recorded by an earlier run, or counted now."""
        known: list[list[float]] = self.state["thresholds"]
        if rank < len(known):
            self._computed((self.plan.passes - 1) * len(entries))
            return np.array(known[rank])
        rule = self.plan.thresholds
        if not isinstance(rule, Percentile):
            found = rule[rank]
        else:
            found = rule.thresholds(
                rank,
                partial(self._percentile, entries, rule.of_set(rank)),
                partial(self._computed, (self.plan.passes - 1) * len(entries)),
            )
        known.append(found.tolist())
        if isinstance(self.plan.thresholds, Percentile):
            # by the thread that records what is stored: never two at once
            self.background.storing.submit(self._checkpoint).result()
        return found

    def _percentile(self, entries: Sequence[int], q: float) -> NDArray[np.float64]:
        if isinstance(self.compute, Source):
            return self.compute.percentile(entries, q, self._computed)
        compute = self.compute

        def once() -> Iterator[Rows]:
            for rows in compute(entries):
                assert isinstance(rows, np.ndarray), "percentiles are of the exact values"
                yield rows
                self._computed()

        return exact_percentile(once, self.plan.columns, q)
