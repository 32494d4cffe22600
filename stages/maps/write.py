"""Writing maps of concepts, their masks, thresholds and boxes, for heatmaps, refine, transform.

The artifacts' form is said in `stages.artifacts.concept_maps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import cached_property, partial
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.masks import binarise, exact_percentile, pack_masks
from stages.artifacts.concept_maps import ConceptMaps, MeasuredWriter
from stages.frame.compiling import told_of_compiling
from stages.frame.parallel import ordered_map
from stages.frame.progress import note, track
from stages.maps.finished import Finished, measured
from stages.maps.linked import Linked
from stages.maps.memory import SHARD_BYTES
from stages.maps.plan import Compute, Made, MapPlan, Percentile, Rows, Source, Taken, Whole
from store import Ragged, RaggedWriter, Staging, StoreError, plan_layout, whole_entries
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
    """
    with told_of_compiling():
        return _Writing(group, plan, compute, work, key, advance).run()


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
    ) -> None:
        self.group, self.plan, self.compute = group, plan, compute
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
        self.linked = Linked.plan(plan, self.layout, begun)
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
        for rank, entries in enumerate(self.plan.sets):
            thresholds = self._thresholds(rank, entries)
            linked, kept, fresh = self.linked.split(entries, first)
            self.taken += len(linked)
            finish = partial(self._finish, thresholds)
            written = self._in_order(kept, finish, self._computing(fresh, thresholds))
            for _, those in merge(
                self.linked.measured(self.plan, linked),
                ((finished.first, finished.measured) for finished in written),
                key=itemgetter(0),
            ):
                for one in those:
                    measures.append(one)
                self._computed(len(those))
        self.maps.close()
        self.bits.close()
        measures.close()
        found = np.array(self.state["thresholds"], dtype=np.float64)
        if self.plan.made_from is not None:
            ConceptMaps.made_from.write(self.group, self.plan.made_from)
        ConceptMaps.thresholds.write(self.group, found.reshape(-1, self.plan.columns))

    def _computing(self, entries: Sequence[int], thresholds: NDArray[np.float64]) -> Iterator[Made]:
        """Each entry's maps: where an earlier run has them, or what is computed now."""
        earlier, made_from = self.plan.earlier, self.plan.made_from
        known = {}
        if earlier is not None and made_from is not None:
            found = {entry: earlier.find(made_from[entry], thresholds) for entry in entries}
            known = {entry: there for entry, there in found.items() if there >= 0}
        self.taken += len(known)
        if earlier is not None and known:
            _ = earlier.boxes  # read once, before threads ask for it
        missing = [entry for entry in entries if entry not in known]
        computed = self._made(missing, thresholds) if missing else iter(())
        there = -1  # the last entry of those that came together
        for entry in entries:
            if entry in known:
                yield entry, Taken(known[entry])
            elif entry > there:
                made = next(computed)
                there = entry + len(made.measured) - 1 if isinstance(made, Finished) else entry
                yield entry, made

    def _made(
        self, entries: Sequence[int], thresholds: NDArray[np.float64]
    ) -> Iterator[Rows | Whole | Finished]:
        if isinstance(self.compute, Source):
            return self.compute.finished(entries, thresholds)
        return iter(self.compute(entries))

    def _in_order(
        self,
        kept: Sequence[int],
        finish: Callable[[Made], Finished],
        computed: Iterable[Made],
    ) -> Iterator[Finished]:
        """Entries from disk, then those that are computed and written now."""
        yield from ordered_map(self._from_disk, kept, workers=self.plan.workers)
        for finished in ordered_map(finish, computed, workers=self.plan.workers):
            start = int(self.bits.offsets[self.linked.place[finished.first]])
            self.maps.append(start, finished.levels)
            self.bits.append(start, finished.bits)
            yield finished

    def _finish(self, thresholds: NDArray[np.float64], computed: Made) -> Finished:
        """An entry's shares as whole numbers, masks and boxes."""
        entry, shares = computed
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
                shares = next(self._made([entry], thresholds))
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
        return self._measured(entry, levels, bits, around)

    def _measured(
        self,
        entry: int,
        levels: NDArray[Any],
        bits: NDArray[np.uint8],
        around: NDArray[np.uint8] | None = None,
    ) -> Finished:
        if around is None and self.plan.around:
            around = self.plan.around(entry)
        of = measured(entry, levels, bits, self.plan.sizes[entry], around)
        return Finished(entry, levels, bits, [of])

    def _from_disk(self, entry: int) -> Finished:
        levels, bits = (
            array.rows(int(array.offsets[entry]), int(array.offsets[entry + 1]))
            for array in self._on_disk
        )
        return self._measured(entry, levels, bits)

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
                partial(self._percentile, entries),
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
