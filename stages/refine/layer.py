"""The maps of one layer as tasks for a refiner: what is read, and what that takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.parts import Parts, Shares, figure_of, parts_of
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.image_index import ImageIndex
from stages.artifacts.outline import Shapes, most_pixels
from stages.frame.memory import Needs
from stages.frame.resources import Resources
from stages.frame.sent import fields_alone
from stages.maps.memory import map_needs
from stages.refine.refiners.refiner import BatchRefiner, Refiner, Size, Task, libraries_of

# What refining takes per value of a map: heat, probability and both filters' sum, each with a
# copy, q, q in rows, and two of those that wait.
VALUE_BYTES = 10 * 4
# Per pixel of an image in its own size: decoded, turned, converted, resized.
PIXEL_BYTES = 3 * 3
# Per pixel of its maps: the image as bytes and as float32.
GUIDE_BYTES = 2 * 3 * 4


Heat = tuple[NDArray[Any], NDArray[np.float64]]


@dataclass(frozen=True)
class LayerTasks:
    """One task per entry of a layer's maps, to be read for a refiner.

    Attributes
    ----------
    refiner : Refiner
        The chosen one.
    maps : ConceptMaps
        The heat maps.
    set_of : sequence of int
        Each entry's image set, by its place among the sets.
    columns : sequence of int
        Those that are refined.
    certain : float
        See `certain_at`; 0 for nothing of the kind.
    apart : bool
        See `settled`.
    """

    refiner: Refiner
    index: ImageIndex
    maps: ConceptMaps
    set_of: Sequence[int] | NDArray[np.int32]
    columns: Sequence[int]
    certain: float = 0.0
    apart: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return fields_alone(replace(self, set_of=np.array(self.set_of, np.int32)))

    @classmethod
    def of_all(
        cls,
        refiner: Refiner,
        index: ImageIndex,
        maps: ConceptMaps,
        set_of: Sequence[int],
        certain: float = 0.0,
        apart: bool = False,
    ) -> "LayerTasks":
        """Tasks of every column."""
        return cls(refiner, index, maps, set_of, range(maps.maps.channels), certain, apart)

    @cached_property
    def groups(self) -> tuple[slice, ...]:
        """Places among `columns` of each factorization: neighbours, for columns go by these."""
        owners = [self.maps.columns[column][:2] for column in self.columns]
        starts = [i for i, owner in enumerate(owners) if i == 0 or owner != owners[i - 1]]
        return tuple(map(slice, starts, [*starts[1:], len(owners)]))

    def heat(self, entry: int) -> Heat:
        """An entry's heat maps ``[h, w, columns]`` in whole numbers, and where masks begin."""
        columns = list(self.columns)
        levels = self.maps.maps.map(entry)
        thresholds = self.maps.thresholds[self.set_of[entry]]
        if columns != list(range(levels.shape[2])):
            levels, thresholds = levels[..., columns], thresholds[columns]
        return levels, thresholds

    def certain_at(self, entry: int, heat: Heat | None = None) -> NDArray[np.uint8]:
        """Where heat maps are so high that no refinement will be believed to the contrary.

        Refinement sometimes gives up the middle of an object that looks like the ground around it.
        Boxes go around these places, too; masks are left as they are.

        Parameters
        ----------
        heat
            As `heat` gives it, where that was read already.

        Returns
        -------
        uint8 [h * w, ceil(columns / 8)]
            Bits as from `stages.algorithms.masks.pack_masks`: heat of at least `certain` times the
            map's largest, and of at least the mask's threshold.

        Notes
        -----
        A share of the image's own largest heat, as boxes are drawn around class activation maps
        (Zhou et al. 2016), and not a multiple of the set's threshold: maps of one set differ much
        in height, and a fixed level takes the whole neighbourhood of the object in one image and
        nothing of it in the next. The threshold keeps images out that do not show the factor.
        """
        from stages.algorithms.whole_numbers import near_largest  # compiled

        levels, thresholds = heat or self.heat(entry)
        # nothing is certain of a factor that is absent, nor, of heat alone, which part it is
        sure = thresholds > 0
        if self.apart:
            for one in self.parts:
                sure[one.columns] = False
        return near_largest(levels, self.certain, thresholds * np.iinfo(levels.dtype).max, sure)

    @cached_property
    def parts(self) -> list[Parts]:
        """The factorizations whose masks are to be apart."""
        return parts_of([self.maps.columns[column] for column in self.columns])

    @cached_property
    def shares(self) -> list[Shares]:
        """What each image set tells of the columns."""
        maps, columns = self.maps, list(self.columns)
        of_sets = (maps.thresholds, maps.strength, maps.within)
        return [
            Shares(thresholds, strength, figure_of(within, self.parts))
            for thresholds, strength, within in zip(
                *(one[:, columns] for one in of_sets), strict=True
            )
        ]

    def settled(
        self, entry: int, levels: NDArray[np.uint8], heat: Heat | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Refined maps ``[h * w, columns]`` in which the factors of one k share out the pixels, and
        their masks; see `stages.algorithms.apart`.

        Parameters
        ----------
        heat
            As `heat` gives it, where that was read already.
        """
        from stages.algorithms.apart import apart  # compiled

        warm, _ = heat or self.heat(entry)
        rows = warm.reshape(-1, warm.shape[2])
        return apart(levels, rows, self.shares[self.set_of[entry]], self.parts)

    def task(self, entry: int, heat: Heat | None = None) -> Task:
        """Read an entry's image and heat maps.

        Parameters
        ----------
        heat
            As `heat` gives it, where that was read already.

        Raises
        ------
        StageError
            When the image is gone or has changed since the index was made.
        """
        from stages.algorithms.whole_numbers import probabilities  # compiled

        levels, thresholds = heat or self.heat(entry)
        return Task(self.image(entry), probabilities(levels, thresholds), self.groups)

    def image(self, entry: int) -> NDArray[np.uint8]:
        """An entry's image at the size of its maps, ``[h, w, 3]``; errors as `task`."""
        image_id = int(self.maps.maps.image_ids[entry])
        h, w = (int(side) for side in self.maps.maps.grid_hw[entry])
        return self.index.rgb_at(image_id, (h, w))

    def needs(self, resources: Resources, entries: Sequence[int] | None = None) -> Needs:
        """What refining all or some entries takes; a worker is an image in work."""
        some = slice(None) if entries is None else list(entries)
        photographs = self.index.sizes[self.maps.maps.image_ids[some]]
        sizes = self.maps.maps.grid_hw[some].astype(np.int64)
        columns = self.maps.maps.channels
        return refine_needs(self.refiner, photographs, sizes, columns, resources)


def refine_needs(
    refiner: Refiner, photographs: Shapes, maps: Shapes, columns: int, resources: Resources
) -> Needs:
    """What refining takes.

    Parameters
    ----------
    photographs, maps : int64 [entries, 2]
        (height, width) of the files, and of their maps.
    """
    sizes = {(int(h), int(w)) for h, w in maps}
    own = max((bytes_at(refiner, size, columns) for size in sizes), default=0)
    image = PIXEL_BYTES * most_pixels(photographs) + own
    loaded = libraries_of(refiner, device_of(refiner, resources))
    return map_needs(maps, columns, VALUE_BYTES, image, refiner.remedy, loaded)


def device_of(refiner: Refiner, resources: Resources) -> str:
    """Where it refines: a GPU for those that can use one."""
    return resources.torch_device() if isinstance(refiner, BatchRefiner) else "cpu"


def bytes_at(refiner: Refiner, size: Size, columns: int) -> int:
    """What an image of this size needs besides its maps' values."""
    return GUIDE_BYTES * size[0] * size[1] + refiner.bytes_per_image(size, columns)
