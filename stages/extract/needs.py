"""How much of this machine's memory an extraction will hold, counted before it begins."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stages.artifacts.outline import LayerOutline, Outline, Shapes, most_pixels
from stages.extract.grids import grids_of
from stages.extract.plan import (
    CPU_SLICE,
    Footprint,
    GpuFootprint,
    Shape,
    gpu_batch,
    shard_bytes,
)
from stages.frame.memory import Needs, resident
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from stages.images.readers import PROCESS_BYTES
from stages.images.resize import target_shape
from store.layout import CHUNK_BYTES

if TYPE_CHECKING:
    from stages.extract.params import ExtractParams

# What a process that decodes keeps of each image: its name, twice its SHA-256.
IMAGE_BYTES = 500
LIBRARIES = ("torch", "torchvision")


def libraries_of(backbone: str) -> tuple[str, ...]:
    """What a network needs loaded: the demo's is torch's alone."""
    return LIBRARIES[:1] if backbone == "demo" else LIBRARIES


def footprint(
    params: "ExtractParams", photographs: Shapes, shapes: Collection[Shape], resources: Resources
) -> Footprint:
    """What a run will hold.

    Parameters
    ----------
    photographs : int64 [images, 2]
        Sizes of the files.
    shapes : collection of (height, width)
        At which the network sees them.
    """
    if in_large_batches(resources.torch_device()):
        return _gpu_footprint(params, photographs, shapes, resources.memory)
    from stages.algorithms.backbone import forward_bytes

    size = max(2, min(CPU_SLICE, params.batch))
    passes = [forward_bytes(params.backbone, params.layers, size, *one) for one in set(shapes)]
    return Footprint(
        resident=resident(*libraries_of(params.backbone)),
        shards=_shards_held(params),
        slice=size,
        forward=max((peak for peak, _ in passes), default=0),
        inputs=size * _most(shapes) * 3 * 4,
        outputs=max((outputs for _, outputs in passes), default=0) * -(-params.batch // size),
        image=most_pixels(photographs),
    )


def in_large_batches(device: str) -> bool:
    """Whether batches go one after the other through a device, threads decoding for it."""
    return device != "cpu"


def _gpu_footprint(
    params: "ExtractParams", photographs: Shapes, shapes: Collection[Shape], budget: int
) -> GpuFootprint:
    """In batches that fit the budget."""
    from stages.algorithms.backbone import forward_bytes

    pixels = _most(shapes)
    # what one image gives, as float32: also what is sent when float16 does not do
    passes = [forward_bytes(params.backbone, params.layers, 1, *one) for one in set(shapes)]
    outputs = max((outputs for _, outputs in passes), default=0)
    size = gpu_batch(params.batch, pixels, outputs)
    held = resident(*libraries_of(params.backbone))
    while True:
        found = GpuFootprint(
            resident=held,
            shards=_shards_held(params),
            slice=size,
            forward=0,
            inputs=size * pixels * 3,
            outputs=size * outputs,
            image=most_pixels(photographs),
            process=PROCESS_BYTES + IMAGE_BYTES * len(photographs),
        )
        if size <= max(2, params.batch) or found.needs.least <= budget:
            return found
        size = max(2, params.batch, size // 2)


def foretell(
    params: "ExtractParams", outline: Outline, inputs: Inputs, resources: Resources
) -> tuple[Outline, Needs]:
    """See `stages.frame.stage.Stage.foretell`: grids of all layers, and what a run will hold."""
    shapes = [target_shape(int(h), int(w), params.resize, params.size) for h, w in outline.sizes]
    grids = grids_of(params, [(int(h), int(w)) for h, w in outline.sizes])
    layers = {layer: LayerOutline(grids[layer], width) for layer, width in channels_of(params)}
    after = replace(outline, inputs=np.array(shapes).reshape(-1, 2), layers=layers)
    needs = footprint(params, outline.sizes, shapes, resources).needs
    values = sum(one.rows() * one.channels for one in layers.values())
    return after, replace(
        needs,
        images=outline.images,
        reads=outline.file_bytes,
        writes=values * np.dtype(params.dtype).itemsize,
    )


def channels_of(params: "ExtractParams") -> Iterator[tuple[str, int]]:
    """Each layer and the width of its rows."""
    from stages.algorithms.backbone import channels

    for layer in params.layers:
        yield layer, channels(params.backbone, layer)


def _most(shapes: Collection[Shape]) -> int:
    return max((h * w for h, w in shapes), default=1)


def _shards_held(params: "ExtractParams") -> int:
    """Bytes of the shards being filled and their chunks."""
    # twice: values too large for float16, or a shard joined for one request to a URL
    return len(params.layers) * (2 * shard_bytes(len(params.layers)) + 4 * CHUNK_BYTES)
