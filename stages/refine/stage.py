"""refine: heat maps + images -> refined maps, by mean-field inference in a dense CRF.

Writes ``refined.zarr`` (see `stages.artifacts.concept_maps`): values are q, the refined probability
of the factor at that pixel, on disk ``round(255 q)``; masks and percentiles are of the exact q.
Working size is that of the heat maps.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.concept_maps import ConceptMaps, entry_sets, inherited_attrs, workers_within
from stages.artifacts.image_index import ImageIndex
from stages.frame.errors import StageError
from stages.frame.parallel import ordered_map, torch_threads_kept
from stages.frame.progress import track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from stages.images.decode import ImageError, decode_resized
from stages.maps.write import Compute, MapPlan, Percentile, Rows, write_maps
from stages.refine.params import RefineParams
from store import Staging, create_artifact, open_artifact
from store.artifact import layer_key

if TYPE_CHECKING:
    from torch import Tensor

# What refining takes per value of a map: heat, probability and both filters' sum, each with a
# copy, q, q in rows, and two of those that wait.
VALUE_BYTES = 10 * 4
# Per pixel of an image in its own size: decoded, turned, converted, resized.
PIXEL_BYTES = 3 * 3
# Per pixel of its maps: the image as bytes and as float32, and a lattice of pydensecrf's.
GUIDE_BYTES = 2 * 3 * 4
LATTICE_BYTES = 500
PROCESS = 150 * 2**20


@dataclass(frozen=True)
class Task:
    """One entry's image and unary probabilities, at the size of its maps."""

    image: NDArray[np.uint8]  # [h, w, 3]
    probability: NDArray[np.float32]  # [columns, h, w]


@dataclass(frozen=True)
class Refiner:
    """Refines the maps of one layer.

    Attributes
    ----------
    maps : ConceptMaps
        The heat maps.
    set_of : sequence of int
        Each entry's image set, by its place among the sets.
    columns : sequence of int
        Those that are refined.
    """

    params: RefineParams
    index: ImageIndex
    maps: ConceptMaps
    set_of: Sequence[int]
    columns: Sequence[int]

    @classmethod
    def of_all(
        cls, params: RefineParams, index: ImageIndex, maps: ConceptMaps, set_of: Sequence[int]
    ) -> "Refiner":
        """A refiner of every column."""
        return cls(params, index, maps, set_of, range(maps.maps.channels))

    def task(self, entry: int) -> Task:
        """Read an entry's image and heat maps.

        Raises
        ------
        StageError
            When the image is gone or has changed since the index was made.
        """
        import torch

        from stages.algorithms.mean_field import unary

        torch.set_num_threads(1)
        columns = list(self.columns)
        heat = torch.from_numpy(self.maps.shares(entry)[columns])  # [columns, h, w]
        thresholds = torch.from_numpy(self.maps.thresholds[self.set_of[entry]][columns])
        return Task(self.image(entry), unary(heat, thresholds).numpy())

    def image(self, entry: int) -> NDArray[np.uint8]:
        """An entry's image at the size of its maps, ``[h, w, 3]``; errors as `task`."""
        image_id = int(self.maps.maps.image_ids[entry])
        h, w = (int(side) for side in self.maps.maps.grid_hw[entry])
        try:
            return decode_resized(self.index.read(image_id), (h, w))
        except ImageError as error:
            raise StageError(
                f"{self.index.names[image_id]}: {error}; it decoded when the index was made: is "
                "this another version of Pillow? `dff run` checks them anew"
            ) from error

    def refined(self, entries: Sequence[int], resources: Resources) -> Iterator[Rows]:
        """Refined probabilities of each entry, float32 ``[h * w, columns]``, in order."""
        method, workers = self.params.method, resources.workers
        if method == "densecrf":
            tasks = ordered_map(self.task, entries, workers=workers)
            one = partial(dense_crf_of, self.params)
            yield from map(
                _rows,
                ordered_map(
                    one, tasks, workers=workers, kind="processes", cluster=resources.cluster
                ),
            )
        elif method == "none" or (device := resources.torch_device()) == "cpu":
            # Each worker takes an image from its file to its rows: reading, decoding and inference
            # of several overlap.
            yield from ordered_map(self._on_cpu, entries, workers=workers)
        else:
            from stages.refine.device import DeviceRefiner

            yield from DeviceRefiner(self, device, resources).rows(entries)

    def computing(self, resources: Resources) -> Compute:
        """`refined`, again and again; where a GPU can make whole numbers and masks, these."""
        if self.params.method != "guided" or (device := resources.torch_device()) == "cpu":
            return partial(self.refined, resources=resources)
        from stages.refine.device import DeviceRefiner

        on_device = DeviceRefiner(self, device, resources)
        return on_device.whole if self.params.binarise == "half" else on_device.rows

    def _on_cpu(self, entry: int) -> Rows:
        return _rows(self.of_task(self.task(entry), "cpu"))

    def of_task(self, task: Task, device: str) -> NDArray[np.float32]:
        """Refined probabilities ``[columns, h, w]`` of one image, in this process."""
        if self.params.method == "none":
            return task.probability
        if self.params.method == "densecrf":
            return dense_crf_of(self.params, task)
        return self.guided([task], device)[0]

    def guided(self, tasks: Sequence[Task], device: str) -> list[NDArray[np.float32]]:
        """Refined probabilities ``[columns, h, w]`` of images of one size, at once."""
        import torch

        guides = torch.from_numpy(np.stack([task.image for task in tasks])).to(device)
        p = torch.from_numpy(np.stack([task.probability for task in tasks])).to(device)
        with torch.inference_mode():
            q = self.inferred(guides.permute(0, 3, 1, 2).float() / 255, p)
        return list(q.cpu().numpy())

    def inferred(self, guides: "Tensor", p: "Tensor", few_kernels: bool | None = None) -> "Tensor":
        """Refined probabilities of images of one size, on their device.

        Parameters
        ----------
        guides : Tensor [b, 3, h, w] float32, RGB in [0, 1]
        p : Tensor [b, columns, h, w] float32
        few_kernels : bool, optional
            As `stages.algorithms.mean_field.mean_field`.

        Returns
        -------
        Tensor [b, columns, h, w] float32
        """
        import torch

        from stages.algorithms.bilateral import ColourTerm
        from stages.algorithms.mean_field import mean_field

        params = self.params
        colour = ColourTerm(
            params.colour_weight, params.colour_sigma, params.colour_reach, params.colour_cells
        )
        refine = partial(
            mean_field,
            guides,
            radius=max(1, round(params.radius * max(guides.shape[-2:]))),
            eps=params.eps,
            weight=params.weight,
            iterations=params.iterations,
            joint=params.joint,
            colour=colour,
            working_side=params.working_side,
            few_kernels=few_kernels,
        )
        # Only joint inference cares which columns belong together; apart, all go at once.
        if params.joint:
            q = torch.empty_like(p)
            for problem in self.maps.artifact.attrs["problems"]:
                of_one = self.maps.columns_of(*problem)
                places = [i for i, column in enumerate(self.columns) if column in of_one]
                if places:  # neighbours: columns go by factorization
                    some = slice(places[0], places[-1] + 1)
                    q[:, some] = refine(p[:, some])
        else:
            q = refine(p)
        # A factor that is absent stays absent, whatever the floor of the probabilities.
        return q * (p > 0).flatten(2).any(dim=2)[..., None, None]

    def bytes_per_image(self, entries: Sequence[int] | None = None) -> int:
        """What the largest image, of all or of some entries, needs besides its maps' values."""
        some = slice(None) if entries is None else list(entries)
        sizes = self.maps.maps.grid_hw[some]
        pixels = int(sizes.prod(axis=1, dtype=np.int64).max(initial=1))
        ids = self.maps.maps.image_ids[some]
        source = int(self.index.sizes[ids].prod(axis=1).max(initial=0))
        needed = PIXEL_BYTES * source + GUIDE_BYTES * pixels
        if self.params.method == "densecrf":
            return needed + LATTICE_BYTES * pixels + PROCESS
        side = self.params.working_side or int(sizes.max())
        worked = min(pixels, side**2)
        # kernel, exponent and features, and a dozen float64 of the guided filter
        return needed + worked * (3 * 4 * min(self.params.colour_cells**2, worked) + 12 * 8)


def _rows(q: NDArray[np.float32]) -> Rows:
    """``[columns, h, w]`` as ``[h * w, columns]``."""
    return np.ascontiguousarray(q.reshape(len(q), -1).T)


def dense_crf_of(params: RefineParams, task: Task) -> NDArray[np.float32]:
    """`stages.algorithms.dense_crf` under these params, ``[columns, h, w]``."""
    from stages.algorithms.dense_crf import dense_crf

    q = dense_crf(
        task.image,
        task.probability,
        iterations=params.iterations,
        gaussian_sxy=params.gaussian_sxy,
        gaussian_compat=params.gaussian_compat,
        bilateral_sxy=params.bilateral_sxy,
        bilateral_srgb=params.bilateral_srgb,
        bilateral_compat=params.bilateral_compat,
    )
    q[~(task.probability > 0).any(axis=(1, 2))] = 0
    return q


def run(params: RefineParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    heatmaps = open_artifact(inputs["heatmaps"])
    index = ImageIndex.open(inputs["index"], inputs.project, heatmaps)
    group = create_artifact(
        work.path,
        owner=work,
        stage="refine",
        fingerprint=work.fingerprint,
        **inherited_attrs(heatmaps),
        method=params.method,
        binarise=params.binarise,
        params=dataclasses.asdict(params),
    )
    sets = entry_sets(heatmaps)
    set_of = [rank for rank, entries in enumerate(sets) for _ in entries]
    passes = 3 if params.binarise == "percentile" else 1
    total = passes * len(set_of) * len(heatmaps.layers)
    with track("refine", total, "maps") as advance, torch_threads_kept():
        for layer in heatmaps.layers:
            maps = ConceptMaps(heatmaps, layer)
            refiner = Refiner.of_all(params, index, maps, set_of)
            sizes = [(int(h), int(w)) for h, w in maps.maps.grid_hw]
            columns = maps.maps.channels
            workers = workers_within(
                resources, sizes, columns, VALUE_BYTES, refiner.bytes_per_image()
            )
            within = replace(resources, workers=workers)
            plan = MapPlan(
                sizes,
                maps.maps.image_ids.tolist(),
                sets,
                columns,
                np.uint8,
                thresholds_of(params, len(sets), columns),
                workers,
            )
            compute = refiner.computing(within)
            write_maps(
                group.require_group(layer_key(layer)), plan, compute, work, f"rows {layer}", advance
            )


def thresholds_of(
    params: RefineParams, sets: int, columns: int
) -> NDArray[np.float64] | Percentile:
    """Where refined masks begin: at a half, or at the percentile of all of a set's q."""
    if params.binarise == "percentile":
        return Percentile(params.percentile)
    return np.full((sets, columns), 0.5)


REFINE: Stage[RefineParams] = Stage(
    name="refine",
    version=3,
    params=RefineParams,
    reads={"index": Path("artifacts/index"), "heatmaps": Path("artifacts/heatmaps.zarr")},
    writes=Path("artifacts/refined.zarr"),
    run=run,
    summary="Align the heat maps with the edges of their images (DFF-CRF).",
)
