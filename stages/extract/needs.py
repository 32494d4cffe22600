"""How much of this machine's memory an extraction will hold, counted before it begins."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stages.algorithms.shipped import MODULE, OF_TIMM
from stages.artifacts.outline import LayerOutline, Outline, most_pixels
from stages.artifacts.outline import Shapes as Sizes
from stages.extract.grids import grids_of
from stages.extract.plan import (
    CPU_SLICE,
    Footprint,
    GpuFootprint,
    Shapes,
    gpu_batch,
    pinned,
    shapes_at,
    shard_bytes,
)
from stages.frame.memory import Needs, resident
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from stages.images.readers import PROCESS_BYTES
from store.layout import CHUNK_BYTES

if TYPE_CHECKING:
    from stages.extract.params import ExtractParams

# What a process that decodes keeps of each image: its name, twice its SHA-256.
IMAGE_BYTES = 500
LIBRARIES = ("torch", "torchvision", "timm")


def libraries_of(backbone: str) -> tuple[str, ...]:
    """What a network needs loaded, by its name: the demo's is torch's alone."""
    if backbone == "demo" or backbone.startswith(MODULE):
        return LIBRARIES[:1]
    return LIBRARIES if backbone.startswith(OF_TIMM) else LIBRARIES[:2]


def footprint(
    params: "ExtractParams",
    photographs: Sizes,
    shapes: Collection[Shapes],
    resources: Resources,
    device: str | None = None,
) -> Footprint:
    """What a run will hold.

    Parameters
    ----------
    photographs : int64 [images, 2]
        Sizes of the files.
    shapes : collection of tuples of (height, width)
        At which the network sees them, at each size.
    device : str, optional
        Where it runs; by default where the resources say.
    """
    if in_large_batches(device or resources.torch_device()):
        return _gpu_footprint(params, photographs, shapes, resources.memory)
    size = max(2, min(CPU_SLICE, params.batch))
    each = _of_sizes(params, shapes, size)
    return Footprint(
        resident=resident(*libraries_of(params.backbone)),
        shards=_shards_held(params),
        slice=size,
        forward=max(one.peak for one in each),
        inputs=size * sum(one.pixels for one in each) * 3 * 4,
        outputs=sum(one.outputs for one in each) * -(-params.batch // size),
        image=most_pixels(photographs),
    )


def in_large_batches(device: str) -> bool:
    """Whether batches go one after the other through a device, threads decoding for it."""
    return device != "cpu"


class _OfSize(NamedTuple):
    """Of the largest image at one size: its pixels, a pass of some images, what comes out."""

    pixels: int
    peak: int
    outputs: int


def _of_sizes(
    params: "ExtractParams", shapes: Collection[Shapes], images: int
) -> Sequence[_OfSize]:
    """What so many images at once take, at each size."""
    from stages.algorithms.backbone import forward_bytes

    found = []
    for at in range(len(params.sizes)):
        seen = {one[at] for one in shapes}
        passes = [forward_bytes(params.backbone, params.layers, images, *one) for one in seen]
        found.append(
            _OfSize(
                max((h * w for h, w in seen), default=1),
                max((peak for peak, _ in passes), default=0),
                max((outputs for _, outputs in passes), default=0),
            )
        )
    return found


def _gpu_footprint(
    params: "ExtractParams", photographs: Sizes, shapes: Collection[Shapes], budget: int
) -> GpuFootprint:
    """In batches that fit the budget."""
    # what one image gives, as float32: also what is sent when float16 does not do
    each = _of_sizes(params, shapes, 1)
    pixels, outputs = max(one.pixels for one in each), sum(one.outputs for one in each)
    size = gpu_batch(params.batch, pixels, outputs)
    held = resident(*libraries_of(params.backbone))
    while True:
        found = GpuFootprint(
            resident=held,
            shards=_shards_held(params),
            slice=size,
            forward=0,
            inputs=_buffers([3 * size * one.pixels for one in each]),
            outputs=_buffers([size * one.outputs for one in each]),
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
    sizes = [(int(h), int(w)) for h, w in outline.sizes]
    shapes = [shapes_at(size, params.resize, params.sizes) for size in sizes]
    grids = grids_of(params, sizes)
    layers = {layer: LayerOutline(grids[layer], width) for layer, width in channels_of(params)}
    network = params.backbone, params.weights
    after = replace(outline, inputs=_largest(shapes), layers=layers, network=network)
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


def _largest(shapes: Sequence[Shapes]) -> Sizes:
    """What the network sees at the largest size, ``[n, 2]``."""
    return np.array([one[-1] for one in shapes], np.int64).reshape(-1, 2)


def _buffers(sizes: Sequence[int]) -> int:
    """Bytes of the buffers of all sizes, each pinned for itself; `GpuFootprint` does so of one."""
    return sizes[0] if len(sizes) == 1 else sum(pinned(size) for size in sizes)


def _shards_held(params: "ExtractParams") -> int:
    """Bytes of the shards being filled and their chunks."""
    # twice: values too large for float16, or a shard joined for one request to a URL
    return len(params.layers) * (2 * shard_bytes(len(params.layers)) + 4 * CHUNK_BYTES)
