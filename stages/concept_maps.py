"""Maps of concepts on images, as heatmaps and refine write them and evaluate and report read them.

Both artifacts have one shape: per layer a ragged array ``maps`` uint16 with one entry per
(set, image) and one column per (k, seed, factor), and ``thresholds`` float64 ``[sets, columns]`` in
the same unit. The mask of a concept is where its map reaches its threshold; a threshold of 0 (a
concept that is absent from most of the set) gives an empty mask.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from stages.algorithms.masks import ValueHistogram, binarise
from stages.stage import Resources, StageError
from store import (
    Artifact,
    Ragged,
    RaggedWriter,
    Staging,
    plan_layout,
    whole_entries,
    write_array,
)

# A quarter of the store's usual shard: refining what fits takes seconds, and a crash costs a shard.
SHARD_BYTES = 16 * 2**20

Values = NDArray[np.uint16]
Thresholds = Callable[[ValueHistogram], NDArray[np.float64]]


@dataclass(frozen=True)
class ConceptMaps:
    """The maps of one layer, open for reading."""

    artifact: Artifact
    layer: str

    @cached_property
    def maps(self) -> Ragged:
        """uint16, one entry per (set, image), ``[h, w, columns]``."""
        return self.artifact.ragged(self.layer)

    @cached_property
    def thresholds(self) -> NDArray[np.float64]:
        """``[sets, columns]``, in the unit of the maps."""
        return self.artifact.layer_array(self.layer, "thresholds")

    @cached_property
    def columns(self) -> list[tuple[int, int, int]]:
        """(k, seed, factor) of each column."""
        return [tuple(column) for column in self.artifact.attrs["columns"]]

    def columns_of(self, k: int, seed: int) -> list[int]:
        """Columns of one factorization, strongest factor first."""
        return [i for i, column in enumerate(self.columns) if column[:2] == (k, seed)]

    def shares(self, entry: int, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """Maps of one entry in [0, 1] of the set's maximum, float32 ``[columns, h, w]``."""
        from stages.algorithms.heatmap import LEVELS

        return self._sized(entry, size) / np.float32(LEVELS)

    def masks(
        self, entry: int, set_rank: int, size: tuple[int, int] | None = None
    ) -> NDArray[np.bool_]:
        """Masks of one entry, bool ``[columns, h, w]``, at the maps' own or another size."""
        return binarise(self._sized(entry, size), self.thresholds[set_rank])

    def _sized(self, entry: int, size: tuple[int, int] | None) -> NDArray[np.float32]:
        import torch

        from stages.algorithms.heatmap import upsample

        values = self.maps.map(entry)
        h, w, columns = values.shape
        rows = torch.from_numpy(values.reshape(-1, columns).astype(np.float32))
        return upsample(rows, (h, w), size or (h, w)).numpy()


def write_maps(
    group: zarr.Group,
    sizes: Sequence[tuple[int, int]],
    image_ids: Sequence[int],
    sets: Sequence[Sequence[int]],
    columns: int,
    compute: Callable[[Sequence[int]], Iterator[Values]],
    thresholds: Thresholds,
    work: Staging,
    key: str,
    advance: Callable[[int], None],
) -> None:
    """Write the maps of all entries in order, and the thresholds of each set.

    Parameters
    ----------
    group : zarr.Group
        The layer's group.
    sizes : sequence of (h, w)
        One per entry.
    sets : sequence of sequences of entries
        Together all entries, in order.
    compute : callable
        Yields uint16 ``[h * w, columns]`` for each of the entries asked for.
    thresholds : callable
        The set's thresholds from the histogram of all its values.
    work, key
        Where the progress is recorded, and under which name.
    advance : callable
        Called once per entry.
    """
    resume = work.progress.get(key, {"rows": 0})
    flushed = int(resume["rows"])
    maps = group.require_group("maps")
    writer = RaggedWriter(
        maps,
        np.array(sizes),
        np.array(image_ids),
        columns,
        np.uint16,
        layout=plan_layout(sum(h * w for h, w in sizes), 2 * columns, shard_bytes=SHARD_BYTES),
        resume=resume,
        on_flush=lambda stored: work.checkpoint(
            **{key: stored},
            done=whole_entries(writer.offsets, stored["rows"]),
            total=len(sizes),
            unit="maps",
        ),
    )
    on_disk = Ragged.open(maps)
    first = int(np.searchsorted(writer.offsets[1:], flushed, side="right"))
    computed = compute(range(first, len(sizes)))
    found = []
    for entries in sets:
        histogram = ValueHistogram(columns)
        for entry in entries:
            start, stop = int(writer.offsets[entry]), int(writer.offsets[entry + 1])
            if entry < first:
                values = on_disk.rows(start, stop)
            else:
                values = next(computed)
                writer.append(start, values)
            histogram.add(values)
            advance(1)
        found.append(thresholds(histogram))
    writer.close()
    write_array(group, "thresholds", np.array(found, dtype=np.float64).reshape(-1, columns))


def workers_within(
    resources: Resources, sizes: Sequence[tuple[int, int]], columns: int, value_bytes: int
) -> int:
    """How many maps may be in work at once, so that they stay within the memory budget.

    Parameters
    ----------
    value_bytes : int
        What one value of one map needs at the worst moment, temporaries included.

    Raises
    ------
    StageError
        When not even one fits; the line gives both numbers.
    """
    largest = max((h * w for h, w in sizes), default=1) * columns * value_bytes
    # `ordered_map` has up to two results per worker under way, and the writer holds a shard twice
    fitting = (resources.memory - 2 * SHARD_BYTES) // (2 * largest)
    if fitting < 1:
        raise StageError(
            f"the maps of the largest image need about {2 * (largest + SHARD_BYTES) / 2**20:.0f} "
            f"MiB, the budget is {resources.memory / 2**20:.0f} MiB: lower heatmaps.long_side, ask "
            "for fewer k and seeds, or raise --memory"
        )
    return min(resources.workers, int(fitting))


def entry_sets(artifact: Artifact) -> list[list[int]]:
    """Each set's entries, in the order of the sets."""
    return [entries.tolist() for entries in artifact.sets.values()]


def inherited_attrs(artifact: Artifact) -> dict[str, Any]:
    """What an artifact of maps takes over from the one it is made from."""
    return {
        "layers": artifact.layers,
        "images": artifact.images,
        "sets": artifact.sets,
        "problems": artifact.attrs["problems"],
        "columns": artifact.attrs["columns"],
    }
