"""How much of this machine's memory an extraction will hold, counted before it begins."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import psutil
from numpy.typing import NDArray

from stages.artifacts.image_index import ImageIndex
from stages.extract.plan import CPU_SLICE, GpuNeeds, Needs, Order, gpu_batch, shard_bytes
from stages.images.readers import PROCESS_BYTES
from store.layout import CHUNK_BYTES

if TYPE_CHECKING:
    from stages.extract.params import ExtractParams

# What a process that decodes keeps of each image: its name, twice its SHA-256.
IMAGE_BYTES = 500


def cpu_needs(params: "ExtractParams", index: ImageIndex, order: Order) -> Needs:
    """What a run on a CPU will hold in memory."""
    from stages.algorithms.backbone import forward_bytes

    shapes = set(order.shapes)
    size = max(2, min(CPU_SLICE, params.batch))
    passes = [forward_bytes(params.backbone, params.layers, size, *shape) for shape in shapes]
    return Needs(
        resident=_resident(),
        shards=_shards_held(params),
        slice=size,
        forward=max((peak for peak, _ in passes), default=0),
        inputs=size * _most_pixels(order.shapes) * 3 * 4,
        outputs=max((outputs for _, outputs in passes), default=0) * -(-params.batch // size),
        image=_most_pixels(index.sizes),
    )


def gpu_needs(params: "ExtractParams", index: ImageIndex, order: Order, budget: int) -> GpuNeeds:
    """What a run on a GPU will hold in this machine's memory, in batches that fit the budget."""
    from stages.algorithms.backbone import forward_bytes

    pixels = _most_pixels(order.shapes)
    # what one image gives, as float32: also what is sent when float16 does not do
    passes = [forward_bytes(params.backbone, params.layers, 1, *s) for s in set(order.shapes)]
    outputs = max((outputs for _, outputs in passes), default=0)
    size = gpu_batch(params.batch, pixels, outputs)
    resident = _resident()
    while True:
        needs = GpuNeeds(
            resident=resident,
            shards=_shards_held(params),
            slice=size,
            forward=0,
            inputs=size * pixels * 3,
            outputs=size * outputs,
            image=_most_pixels(index.sizes),
            process=PROCESS_BYTES + IMAGE_BYTES * len(index.images),
        )
        if size <= max(2, params.batch) or needs.fixed + needs.lane <= budget:
            return needs
        size = max(2, params.batch, size // 2)


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _shards_held(params: "ExtractParams") -> int:
    """Bytes of the shards being filled and their chunks."""
    # twice: values too large for float16, or a shard joined for one request to a URL
    return len(params.layers) * (2 * shard_bytes(len(params.layers)) + 4 * CHUNK_BYTES)


def _most_pixels(shapes: Iterable[Sequence[int] | NDArray[np.int64]]) -> int:
    return max((int(h) * int(w) for h, w in shapes), default=1)
