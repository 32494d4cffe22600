"""A loaded backbone: normalised images in, activations out."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from stages.algorithms.backbone.describe import nearby_relus
from stages.algorithms.backbone.families import family_of
from stages.algorithms.backbone.families.plain import first_line
from stages.algorithms.backbone.family import BackboneError, Channels, Preprocessing
from stages.algorithms.backbone.graph import build
from stages.algorithms.backbone.hooks import Tapped
from stages.algorithms.backbone.layers import (
    aliases,
    channels,
    full_node,
    grid_shape,
)
from stages.algorithms.backbone.precision import PRECISIONS, convolutions
from stages.algorithms.backbone.weights import (
    Source,
    digest,
    in_order,
    install,
    parse_weights,
    prepared,
    read,
    used_tensors,
    without_prefix,
)
from stages.algorithms.backbone.weights import (
    told as told_of,
)
from stages.algorithms.backbone.whole import Cut, Whole, look, skeleton


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network pruned to the layers it is asked for; made by `load_backbone`.

    Attributes
    ----------
    name
        Of the network.
    layers
        As they were asked for.
    mean, std
        What images in 0 to 1 must be normalised with: red, green, blue.
    bgr
        Whether the network takes blue first; images come with red first in any case.
    interpolation
        By which photographs are to be resized to what it takes.
    told
        What was made of a weights file, in a line; empty for weights that go by a name.
    lacks
        Tensors of the network's last layer, by which it tells its classes, that a weights file
        does not have.
    source
        Of the weights: `tag`, `revision` and `licence`, as who published them says.
    weights_digest
        SHA-256 of the tensors in use: those down to the deepest layer.
    layer_digests
        For each layer, SHA-256 of the tensors that it depends on.
    device
        Where it runs.
    dtype
        What it computes in: float32, bfloat16 or float16.
    tf32
        Whether CUDA may take the convolutions of float32 in TF32.
    """

    name: str
    layers: tuple[str, ...]
    mean: Channels
    std: Channels
    bgr: bool
    interpolation: str
    told: str
    lacks: tuple[str, ...]
    source: Mapping[str, str]
    weights_digest: str
    layer_digests: Mapping[str, str]
    device: torch.device
    dtype: torch.dtype
    tf32: bool
    _network: Cut
    _nodes: Mapping[str, str]  # layer -> full node name
    _scale: torch.Tensor  # float32 [3], as `_shift`: pixels * scale - shift is normalised
    _shift: torch.Tensor

    def __call__(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Activations of every layer for a batch of images, in one forward pass.

        Parameters
        ----------
        batch
            float32 `[n, 3, h, w]`, normalised with `mean` and `std`; any device.

        Returns
        -------
        dict
            For each layer float32 `[n, grid_h, grid_w, channels]`, contiguous, on `device`,
            all values finite.

        Raises
        ------
        BackboneError
            Wrong shape or dtype, an image size the network does not take, or a layer with a NaN
            or infinite value.
        """
        if batch.ndim != 4 or batch.shape[1] != 3 or batch.dtype != torch.float32:
            raise BackboneError(
                f"images must be float32 [n, 3, h, w], got {batch.dtype} {list(batch.shape)}"
            )
        height, width = batch.shape[2:]
        for layer in self.layers:
            grid_shape(self.name, layer, height, width)
        placed = batch.to(self.device, self.dtype, non_blocking=True)
        maps, extremes = self._pass(placed)
        if len(batch):
            self.check(extremes)
        with torch.inference_mode():
            return {layer: values.float() for layer, values in maps.items()}

    def maps(self, pixels: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Activations of photographs as they come from a decoder, without waiting for a device.

        They are normalised where the network runs, so a quarter of the bytes travel. With the
        copies it takes this is all that a CUDA graph may record: nothing is read back.

        Parameters
        ----------
        pixels
            uint8 `[n, h, w, 3]`, n >= 1, contiguous, on `device`.

        Returns
        -------
        maps : dict
            For each layer `dtype` `[n, grid_h, grid_w, channels]`, contiguous. Not checked.
        extremes : tensor
            float32 `[layers, 2]`: lowest and highest value of each layer, for `check`.
        """
        with torch.inference_mode():
            # two roundings as `stages.images.decode.normalise` has them: the same bits
            scaled = (pixels.float() * self._scale).sub_(self._shift)
            return self._pass(scaled.permute(0, 3, 1, 2).to(self.dtype))

    def check(self, extremes: torch.Tensor) -> None:
        """Raise `BackboneError` unless all values are finite.

        Parameters
        ----------
        extremes
            float32 `[layers, 2]` as `maps` gives them; on a device, this waits for it.
        """
        for layer, (lowest, highest) in zip(self._nodes, extremes.tolist(), strict=True):
            self._check_values(layer, lowest, highest)

    def _pass(self, images: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """`maps` of normalised images `[n, 3, h, w]` of type `dtype` on `device`."""
        if self.bgr:
            images = images.flip(1)
        # channels last: 1.5 times (VGG-19) to 3 times (SqueezeNet) faster on a CPU
        with self._arithmetic():
            placed = images.contiguous(memory_format=torch.channels_last)
            grids = look(self.name, self._network, placed)
        with torch.inference_mode():
            maps = {layer: _rows(grids[node]) for layer, node in self._nodes.items()}
            ends = [torch.stack(torch.aminmax(m)) for m in maps.values() if m.numel()]
            return maps, torch.stack(ends).float() if ends else torch.empty(0, 2)

    def _arithmetic(self) -> AbstractContextManager[None]:
        cuda = self.device.type == "cuda"
        return convolutions(self.tf32) if cuda else nullcontext()

    def _check_values(self, layer: str, lowest: float, highest: float) -> None:
        if not (lowest > -float("inf") and highest < float("inf")):  # false for NaN too
            hint = "the weights are damaged, or the images were not normalised"
            if self.dtype == torch.float16:
                hint = "float16 ends at 65504: use bfloat16, which holds what float32 does"
            raise BackboneError(
                f"layer {layer!r} of {self.name} gave NaN or infinite values: {hint}"
            )


def _rows(grid: torch.Tensor | None) -> torch.Tensor:
    assert grid is not None  # `channels` was asked when it was loaded
    return grid.contiguous()


def relus_near(backbone: str, layer: str) -> str:
    """What to tap instead of a layer with values below zero, in words: ReLUs near it."""
    # the skeleton that is there already: tracing changes torch's modules for all threads, and
    # others may be in the middle of their forward passes
    relus = nearby_relus(backbone, full_node(backbone, layer))
    if not relus:
        return "this network has no ReLU"
    whole = skeleton(backbone)
    names = {whole.find(target): alias for alias, target in aliases(backbone).items()}
    named = [f"{relu} ({names[relu]})" if relu in names else relu for relu in relus]
    return f"ReLUs near it: {', '.join(named)}"


def load_backbone(
    backbone: str,
    layers: Sequence[str],
    weights: str,
    device: str = "cpu",
    precision: str = "float32",
    preprocessing: Preprocessing | None = None,
) -> Backbone:
    """Load a network, pruned to the layers asked for.

    Parameters
    ----------
    backbone
        One of `backbone_names`.
    layers
        Aliases (`conv5_4`, `fire9`, `layer4`) or node names, at least one.
    weights
        A name that the family knows (torchvision's `DEFAULT`, downloaded once; the demo's
        `bundled`); the path of a `.pth`, `.pt` or `.safetensors` state dict; `random:<seed>`.
    device
        As torch names it.
    precision
        What the network computes in; activations are compared with those of `float32` on a CPU
        (Frobenius norm of the difference, VGG-19's `conv5_4` to SqueezeNet's `fire9`).

        - `float32`: on CUDA without TF32; within 0.01 %.
        - `tf32`: on CUDA 10 bits of mantissa; 0.1 %, deep networks of random weights 1 %.
        - `float16`: 10 bits at half the bytes, beyond 65504 an error; 0.15 %, and 1.6 %.
        - `bfloat16`: 7 bits, values as large as in float32; 1 to 2 %, and 10 %.
    preprocessing
        What images are to be normalised with, instead of what the weights' description says.

    Returns
    -------
    Backbone
        In eval mode; only the tensors down to the deepest layer are kept.

    Raises
    ------
    BackboneError
        Any of these is unknown or cannot be used.
    """
    if precision not in PRECISIONS:
        raise BackboneError(f"precision {precision!r}: choose {' or '.join(PRECISIONS)}")
    dtype = PRECISIONS[precision]
    nodes = _nodes(backbone, layers)
    source = parse_weights(backbone, weights)
    if preprocessing is not None:
        source = prepared(source, preprocessing)
    whole, told, revision = _whole(backbone, source, nodes.values()), "", ""
    lacks: tuple[str, ...] = ()
    network = whole.cut(nodes.values(), to_load=True)
    if source.seed is None:
        told, revision, lacks = fill(network, backbone, source, weights)
    weights_digest = digest(network)
    layer_digests = {
        layer: digest(network, _tensors_of(whole, network, node)) for layer, node in nodes.items()
    }
    if isinstance(network, Tapped):
        network.drop_unused()
    place, scale, shift = _placed(network, source, device, dtype)
    return Backbone(
        name=backbone,
        layers=tuple(layers),
        mean=source.mean,
        std=source.std,
        bgr=source.bgr,
        interpolation=source.interpolation,
        told=told,
        lacks=lacks,
        source={"tag": source.tag, "revision": revision, "licence": source.licence},
        weights_digest=weights_digest,
        layer_digests=layer_digests,
        device=place,
        dtype=dtype,
        tf32=precision == "tf32",
        _network=network,
        _nodes=nodes,
        _scale=scale,
        _shift=shift,
    )


def _placed(
    network: Cut, source: Source, device: str, dtype: torch.dtype
) -> tuple[torch.device, torch.Tensor, torch.Tensor]:
    """Move a network to a device; return that, and by what pixels are scaled and shifted there."""
    try:
        place = torch.device(device)
        network.to(place, dtype).to(memory_format=torch.channels_last)
        scale = torch.tensor(1 / (255 * np.asarray(source.std)), dtype=torch.float32, device=place)
        shift = torch.tensor(np.divide(source.mean, source.std), dtype=torch.float32, device=place)
    except (RuntimeError, AssertionError) as error:
        raise BackboneError(f"device {device!r} cannot be used: {first_line(error)}") from error
    return place, scale, shift


def _nodes(backbone: str, layers: Sequence[str]) -> dict[str, str]:
    """Full names of the layers; what cannot be tapped is refused before anything is downloaded."""
    if isinstance(layers, str) or not layers:
        raise BackboneError(f"layers must be a list of at least one layer, got {layers!r}")
    nodes = {layer: full_node(backbone, layer) for layer in layers}
    for layer in nodes:
        channels(backbone, layer)
    skeleton(backbone).way(nodes.values())
    return nodes


def _whole(backbone: str, source: Source, nodes: Collection[str]) -> Whole:
    """The network before it has its weights, unless it starts at random."""
    model = skeleton(backbone)
    if source.seed is not None:
        return Whole(backbone, build(backbone, "cpu", source.seed), model)
    # what tracing freezes (MaxViT) or a module computes when it is made is in no weights file
    values = model.has_unsaved or (model.way(nodes) == "graph" and model.graph.has_constants)
    return Whole(backbone, build(backbone, "cpu" if values else "meta"), model)


def fill(
    network: Cut, backbone: str, source: Source, origin: str
) -> tuple[str, str, tuple[str, ...]]:
    """Read weights and give them to a network: what is to be said of that, their revision, and
    see `Backbone.lacks`."""
    found, model, family = read(source), skeleton(backbone).network, family_of(backbone)
    tensors, prefix, ordered = found.tensors, "", None
    if family.modules_first:  # its whole names are known, and may have to be those of others
        prefix, tensors = without_prefix(tensors, model, origin)
        ordered = in_order(tensors, model)
        tensors = family.convert(backbone, model, ordered or tensors)
    prefix += install(network, tensors, backbone, origin)
    if origin in family.weights(backbone):  # nobody wonders what is in them
        return "", found.revision, ()
    in_use = used_tensors(network)
    bare = _bare(tensors, prefix)
    said = told_of(found, prefix, in_use, model, bare, ordered is not None)
    return said, found.revision, _lacking(bare, model)


def _lacking(tensors: Mapping[str, torch.Tensor], model: torch.nn.Module) -> tuple[str, ...]:
    """Which tensors of a network's last layer a file has under no name that ends like theirs."""
    names = [name for name, _ in model.named_parameters()]
    last = names[-1].rpartition(".")[0] if names else ""
    wanted = [name for name in names if name.rpartition(".")[0] == last]
    return tuple(
        name
        for name in wanted
        if not any(one == name or one.endswith(f".{name}") for one in tensors)
    )


def _bare(tensors: Mapping[str, torch.Tensor], prefix: str) -> Mapping[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _tensors_of(whole: Whole, network: Cut, node: str) -> Collection[str]:
    """Names of the tensors that one layer depends on."""
    if isinstance(network, Tapped):
        return whole.used(node)
    return used_tensors(whole.cut([node])).keys()
