"""extract: images -> activations of the tapped layers, one forward pass each.

Writes ``activations.zarr``: per layer a ragged array ``maps`` (rows = grid cells, columns =
channels). Images lie ordered by their first set and then by shape, so that a set is mostly
contiguous and images that are batched together are neighbours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from stages.image_index import ImageIndex
from stages.images import Resize, decode_rgb, normalise, resize_rgb, target_shape
from stages.parallel import ordered_map
from stages.progress import track
from stages.stage import Inputs, Resources, Stage, StageError, check_choices, file_digest, param
from store import RaggedWriter, Staging, create_artifact
from store.artifact import layer_key
from store.layout import SHARD_BYTES

if TYPE_CHECKING:
    from stages.algorithms.backbone import Backbone


@dataclass(frozen=True)
class ExtractParams:
    """Which network looks at the images, and where it is tapped."""

    backbone: str = param("demo", "demo, vgg19, or any torchvision classification model")
    weights: str = param("bundled", "bundled (demo), DEFAULT or IMAGENET1K_V1, or a weights file")
    layers: tuple[str, ...] = param(("conv4_2",), "layers to tap; `dff show-model NAME` lists them")
    resize: Resize = param("squash", "squash (to size x size) or long_side (aspect ratio kept)")
    size: int = param(224, "pixels of the network's input, long side")
    batch: int = param(16, "images per forward pass")
    dtype: Literal["float16", "float32"] = param("float16", "float16 or float32 on disk")

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) != len(self.layers):
            raise ValueError("layers: name at least one layer, each once")
        check_choices(self)
        if not 32 <= self.size <= 4096:
            raise ValueError(f"size: {self.size} is not between 32 and 4096 pixels")
        if self.batch < 1:
            raise ValueError(f"batch: {self.batch} must be at least 1")


@dataclass(frozen=True)
class _Batch:
    """Images of equal shape that go through the network together."""

    position: int  # of the first image in the order on disk
    image_ids: tuple[int, ...]
    shape: tuple[int, int]


def _plan(index: ImageIndex, params: ExtractParams) -> tuple[list[int], list[_Batch]]:
    """The order of the images on disk, and the batches in that order."""
    first_set: dict[int, int] = {}
    for rank, image_ids in enumerate(index.sets.values()):
        for image_id in image_ids:
            first_set.setdefault(image_id, rank)
    shapes = {
        image_id: target_shape(*index.size(image_id), params.resize, params.size)
        for image_id in first_set
    }
    order = sorted(first_set, key=lambda i: (first_set[i], shapes[i], i))
    batches: list[_Batch] = []
    position = 0
    for shape, group in groupby(order, key=lambda i: shapes[i]):
        members = list(group)
        for start in range(0, len(members), params.batch):
            chosen = tuple(members[start : start + params.batch])
            batches.append(_Batch(position + start, chosen, shape))
        position += len(members)
    return order, batches


def run(params: ExtractParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.stage.Stage.run`."""
    from stages.algorithms.backbone import BackboneError

    try:
        _run(params, inputs, work, resources)
    except BackboneError as error:
        raise StageError(str(error)) from error


def _run(params: ExtractParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    from stages.algorithms.backbone import channels, grid_shape, load_backbone, resolve_layer

    index = ImageIndex.open(inputs["index"], inputs.project)
    weights = _weights(params.weights, inputs.project)
    backbone = load_backbone(params.backbone, params.layers, weights, resources.torch_device())
    order, batches = _plan(index, params)
    _refuse_memory(params, batches, resources.memory)
    shapes = {batch.shape for batch in batches}
    grids = {
        (layer, shape): grid_shape(params.backbone, layer, *shape)
        for layer in params.layers
        for shape in shapes
    }
    where = {image_id: i for i, image_id in enumerate(order)}
    group = create_artifact(
        work.path,
        stage="extract",
        fingerprint=work.fingerprint,
        layers=params.layers,
        images=index.names,
        sets={name: [where[i] for i in ids] for name, ids in index.sets.items()},
        backbone=params.backbone,
        nodes=[resolve_layer(params.backbone, layer) for layer in params.layers],
        weights=params.weights,
        weights_digest=backbone.weights_digest,
        resize=params.resize,
        size=params.size,
    )
    shape_of = [batch.shape for batch in batches for _ in batch.image_ids]
    flushed: dict[str, int] = dict(work.progress.get("rows", {}))
    writers: dict[str, RaggedWriter] = {}

    def record(layer: str, rows: int) -> None:
        flushed[layer] = rows
        done = min(_images_done(writers[name], flushed.get(name, 0)) for name in params.layers)
        work.checkpoint(rows=flushed, done=done, total=len(order), unit="images")

    for layer in params.layers:
        writers[layer] = RaggedWriter(
            group.require_group(f"{layer_key(layer)}/maps"),
            np.array([grids[layer, shape] for shape in shape_of]),
            np.array(order),
            channels(params.backbone, layer),
            params.dtype,
            resume_row=flushed.get(layer, 0),
            on_flush=lambda rows, layer=layer: record(layer, rows),  # type: ignore[misc]
        )
    _extract(index, backbone, batches, writers, params, resources)


def _extract(
    index: ImageIndex,
    backbone: "Backbone",
    batches: list[_Batch],
    writers: dict[str, RaggedWriter],
    params: ExtractParams,
    resources: Resources,
) -> None:
    """Run the batches that are not on disk yet through the network and write their rows."""
    import torch

    # A batch is repeated whole, so that a resumed run computes just what the first one did.
    todo = [
        batch
        for batch in batches
        if any(
            writer.offsets[batch.position + len(batch.image_ids)] > writer.flushed
            for writer in writers.values()
        )
    ]
    total = sum(len(batch.image_ids) for batch in batches)
    done = total - sum(len(batch.image_ids) for batch in todo)
    with track("extract", total, "images", done) as advance:
        for batch, pixels in _decoded(index, todo, resources.workers):
            inputs = torch.from_numpy(normalise(pixels, backbone.mean, backbone.std))
            activations = backbone(inputs)
            for layer, values in activations.items():
                rows = values.cpu().numpy().reshape(-1, values.shape[-1])
                start = int(writers[layer].offsets[batch.position])
                writers[layer].append(start, _as_stored(rows, params.dtype, layer))
            advance(len(batch.image_ids))
    for writer in writers.values():
        writer.close()


def _decoded(
    index: ImageIndex, batches: list[_Batch], workers: int
) -> Iterator[tuple[_Batch, NDArray[np.uint8]]]:
    """Each batch with its pixels ``[n, h, w, 3]``, decoded ahead in threads."""

    def decode(task: tuple[int, tuple[int, int]]) -> NDArray[np.uint8]:
        image_id, shape = task
        return resize_rgb(decode_rgb(index.read(image_id)), shape)

    tasks = ((image_id, batch.shape) for batch in batches for image_id in batch.image_ids)
    images = ordered_map(decode, tasks, workers=workers, ahead=8)
    for batch in batches:
        yield batch, np.stack([next(images) for _ in batch.image_ids])


def _as_stored(rows: NDArray[np.float32], dtype: str, layer: str) -> NDArray[np.generic]:
    if dtype == "float16" and rows.size and float(rows.max()) > float(np.finfo(np.float16).max):
        raise StageError(
            f"{layer}: activations up to {rows.max():.0f} do not fit float16; "
            "set extract.dtype: float32 in params.yaml"
        )
    return rows.astype(dtype)


def _images_done(writer: RaggedWriter, rows: int) -> int:
    return int(np.searchsorted(writer.offsets, rows, side="right")) - 1


def sources(params: ExtractParams, project: Path) -> str:
    """Digest of the weights file, where the weights are one: another file is another network."""
    path = Path(_weights(params.weights, project))
    if params.weights == "bundled":
        path = Path(__file__).parent / "algorithms" / "demo_network.pth"
    return file_digest(path) if path.is_file() else ""


def _weights(weights: str, project: Path) -> str:
    """A relative weights file is relative to params.yaml."""
    return str(project / weights) if weights.endswith((".pth", ".pt", ".safetensors")) else weights


def _refuse_memory(params: ExtractParams, batches: list[_Batch], budget: int) -> None:
    """Say before the first forward pass that the batches do not fit the budget."""
    largest = max((h * w for h, w in (batch.shape for batch in batches)), default=0)
    # Float32 input and about 64 channels at full size twice over: VGG's first block, the widest.
    batch_bytes = params.batch * largest * 4 * (3 + 2 * 64)
    # Each layer's rows wait for a whole shard, and are copied once when it is written.
    needed = batch_bytes + 2 * len(params.layers) * SHARD_BYTES
    if needed > budget:
        raise StageError(
            f"a batch of {params.batch} needs about {needed / 2**20:.0f} MiB, the budget is "
            f"{budget / 2**20:.0f} MiB: lower extract.batch or raise --memory"
        )


EXTRACT: Stage[ExtractParams] = Stage(
    name="extract",
    version=1,
    params=ExtractParams,
    reads={"index": Path("artifacts/index")},
    writes=Path("artifacts/activations.zarr"),
    run=run,
    summary="Run the images through the network and store the activations of the tapped layers.",
    code=(
        "stages/extract.py",
        "stages/images.py",
        "stages/algorithms/backbone",
        "stages/algorithms/demo_network.py",
        "stages/algorithms/demo_network.pth",
        "store",
    ),
    sources=sources,
)
