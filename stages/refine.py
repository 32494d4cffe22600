"""refine: heat maps + images -> refined maps, by mean-field inference in a dense CRF.

Writes ``refined.zarr`` (see `stages.concept_maps`): values are ``round(65535 q)``, q the refined
probability of the factor at that pixel. Working size is that of the heat maps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.masks import ValueHistogram
from stages.concept_maps import (
    ConceptMaps,
    Values,
    entry_sets,
    inherited_attrs,
    workers_within,
    write_maps,
)
from stages.image_index import ImageIndex
from stages.images import decode_rgb, resize_rgb
from stages.parallel import ordered_map
from stages.progress import track
from stages.stage import Inputs, Resources, Stage, check_choices, param
from store import Staging, create_artifact, open_artifact
from store.artifact import layer_key


@dataclass(frozen=True)
class RefineParams:
    """How heat maps are aligned with the edges of their images."""

    method: Literal["guided", "densecrf", "none"] = param(
        "guided", "guided (filter mean field), densecrf (pydensecrf) or none"
    )
    iterations: int = param(10, "mean-field updates")
    binarise: Literal["half", "percentile"] = param(
        "half", "masks are q >= 0.5 (half) or the percentile of q (percentile)"
    )
    percentile: float = param(75.0, "for binarise: percentile")
    radius: float = param(0.0714, "guided: filter radius as a share of the maps' long side")
    eps: float = param(1e-4, "guided: regularisation, on RGB in [0, 1]")
    weight: float = param(10.0, "guided: strength of the pairwise term")
    joint: bool = param(False, "guided: let the factors of one k compete for pixels")
    gaussian_sxy: float = param(3.0, "densecrf: position term, pixels")
    gaussian_compat: float = param(3.0, "densecrf: its weight")
    bilateral_sxy: float = param(30.0, "densecrf: colour term, pixels")
    bilateral_srgb: float = param(13.0, "densecrf: colour term, colour steps")
    bilateral_compat: float = param(10.0, "densecrf: its weight")

    def __post_init__(self) -> None:
        check_choices(self)
        if self.iterations < 0 or not 0 <= self.percentile <= 100:
            raise ValueError("iterations must be at least 0, percentile between 0 and 100")
        for name in ("eps", "gaussian_sxy", "bilateral_sxy", "bilateral_srgb"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} must be above 0")
        if not 0 < self.radius <= 1:
            raise ValueError(f"radius: {self.radius} is not a share between 0 and 1")


@dataclass(frozen=True)
class _Task:
    """One entry's image and unary probabilities, at the size of its maps."""

    image: NDArray[np.uint8]  # [h, w, 3]
    probability: NDArray[np.float32]  # [columns, h, w]


def run(params: RefineParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.stage.Stage.run`."""
    heatmaps = open_artifact(inputs["heatmaps"])
    index = ImageIndex.open(inputs["index"], inputs.project, heatmaps.images)
    group = create_artifact(
        work.path,
        stage="refine",
        fingerprint=work.fingerprint,
        **inherited_attrs(heatmaps),
        method=params.method,
        binarise=params.binarise,
    )
    sets = entry_sets(heatmaps)
    set_of = [rank for rank, entries in enumerate(sets) for _ in entries]
    with track("refine", len(set_of) * len(heatmaps.layers), "maps") as advance:
        for layer in heatmaps.layers:
            maps = ConceptMaps(heatmaps, layer)
            prepare = partial(_task, index, maps, set_of)
            sizes = [(int(h), int(w)) for h, w in maps.maps.grid_hw]
            # float32 heat, unary, evidence, probability and the filter's temporaries
            workers = workers_within(resources, sizes, maps.maps.channels, 10 * 4)
            within = replace(resources, workers=workers)
            groups = [maps.columns_of(k, seed) for k, seed in heatmaps.attrs["problems"]]

            def compute(
                entries: Sequence[int],
                prepare: partial[_Task] = prepare,
                groups: list[list[int]] = groups,
                within: Resources = within,
            ) -> Iterator[Values]:
                # decoded ahead in threads while this one filters
                tasks = ordered_map(prepare, entries, workers=within.workers)
                return _refined(params, tasks, groups, within)

            write_maps(
                group.require_group(layer_key(layer)),
                sizes,
                maps.maps.image_ids.tolist(),
                sets,
                maps.maps.channels,
                compute,
                partial(_thresholds, params),
                work,
                f"rows {layer}",
                advance,
            )


def _task(index: ImageIndex, maps: ConceptMaps, set_of: Sequence[int], entry: int) -> _Task:
    import torch

    from stages.algorithms.heatmap import LEVELS
    from stages.algorithms.mean_field import unary

    heat = torch.from_numpy(maps.shares(entry))  # [columns, h, w]
    thresholds = torch.from_numpy(maps.thresholds[set_of[entry]] / LEVELS)
    size = (int(maps.maps.grid_hw[entry][0]), int(maps.maps.grid_hw[entry][1]))
    image = resize_rgb(decode_rgb(index.read(int(maps.maps.image_ids[entry]))), size)
    return _Task(image, unary(heat, thresholds).numpy())


def _refined(
    params: RefineParams, tasks: Iterator[_Task], groups: list[list[int]], resources: Resources
) -> Iterator[Values]:
    """Refined probabilities of each task, uint16 ``[h * w, columns]``."""
    from stages.algorithms.heatmap import quantise

    if params.method == "densecrf":
        refined = ordered_map(
            partial(_dense_crf, params),
            tasks,
            workers=resources.workers,
            kind="processes",
            cluster=resources.cluster,
        )
    elif params.method == "guided":
        device = resources.torch_device()
        refined = (_guided(params, groups, device, task) for task in tasks)
    else:
        refined = (task.probability for task in tasks)
    for q in refined:
        yield np.ascontiguousarray(quantise(q.reshape(len(q), -1).T, 1.0))


def _guided(
    params: RefineParams, groups: list[list[int]], device: str, task: _Task
) -> NDArray[np.float32]:
    import torch

    from stages.algorithms.mean_field import mean_field

    guide = torch.from_numpy(task.image).to(device).permute(2, 0, 1)[None].float() / 255
    p = torch.from_numpy(task.probability).to(device)[None]
    radius = max(1, round(params.radius * max(task.image.shape[:2])))
    q = torch.empty_like(p)
    # Only joint inference cares which columns belong together; apart, all go at once.
    for columns in groups if params.joint else [list(range(p.shape[1]))]:
        q[:, columns] = mean_field(
            guide, p[:, columns], radius, params.eps, params.weight, params.iterations, params.joint
        )
    # A factor that is absent from the set stays absent, whatever the floor of the probabilities.
    q[:, (p == 0).flatten(2).all(dim=2)[0]] = 0.0
    return q[0].cpu().numpy()


def _dense_crf(params: RefineParams, task: _Task) -> NDArray[np.float32]:
    from stages.algorithms.dense_crf import dense_crf

    return dense_crf(
        task.image,
        task.probability,
        iterations=params.iterations,
        gaussian_sxy=params.gaussian_sxy,
        gaussian_compat=params.gaussian_compat,
        bilateral_sxy=params.bilateral_sxy,
        bilateral_srgb=params.bilateral_srgb,
        bilateral_compat=params.bilateral_compat,
    )


def _thresholds(params: RefineParams, histogram: ValueHistogram) -> NDArray[np.float64]:
    """Where refined masks begin; 0 for factors absent from the set."""
    from stages.algorithms.heatmap import LEVELS

    if params.binarise == "percentile":
        return histogram.percentile(params.percentile)
    # q >= 0.5 exactly: 32767.5 rounds to 32768
    present = histogram.counts[:, 1:].any(axis=1)
    return np.where(present, (LEVELS + 1) / 2, 0.0)


REFINE: Stage[RefineParams] = Stage(
    name="refine",
    version=1,
    params=RefineParams,
    reads={"index": Path("artifacts/index"), "heatmaps": Path("artifacts/heatmaps.zarr")},
    writes=Path("artifacts/refined.zarr"),
    run=run,
    summary="Align the heat maps with the edges of their images (DFF-CRF).",
    code=(
        "stages/refine.py",
        "stages/concept_maps.py",
        "stages/images.py",
        "stages/algorithms/heatmap.py",
        "stages/algorithms/masks.py",
        "stages/algorithms/guided_filter.py",
        "stages/algorithms/mean_field.py",
        "stages/algorithms/dense_crf.py",
        "store",
    ),
)
