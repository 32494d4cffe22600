"""A loaded backbone: normalised images in, non-negative activations out."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx

from stages.algorithms.backbone.families import family_of
from stages.algorithms.backbone.family import BackboneError, Channels, Family
from stages.algorithms.backbone.graph import (
    Traced,
    build,
    first_line,
    prune,
    run,
    skeleton,
    trace,
)
from stages.algorithms.backbone.layers import (
    aliases,
    channels,
    full_node,
    grid_shape,
    nearby_relus,
)
from stages.algorithms.backbone.precision import PRECISIONS, convolutions
from stages.algorithms.backbone.weights import (
    Source,
    digest,
    install,
    parse_weights,
    read_tensors,
    used_tensors,
)


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
    weights_digest: str
    layer_digests: Mapping[str, str]
    device: torch.device
    dtype: torch.dtype
    tf32: bool
    _family: Family
    _network: fx.GraphModule
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
            all values finite and >= 0.

        Raises
        ------
        BackboneError
            Wrong shape or dtype, an image size the network does not take, or a layer with a
            negative, NaN or infinite value.
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
        """Raise `BackboneError` unless all values are finite and >= 0.

        Parameters
        ----------
        extremes
            float32 `[layers, 2]` as `maps` gives them; on a device, this waits for it.
        """
        for layer, (lowest, highest) in zip(self._nodes, extremes.tolist(), strict=True):
            self._check_values(layer, lowest, highest)

    def _pass(self, images: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """`maps` of normalised images `[n, 3, h, w]` of type `dtype` on `device`."""
        # channels last: 1.5 times (VGG-19) to 3 times (SqueezeNet) faster on a CPU
        with self._arithmetic():
            outputs = run(self._network, images.contiguous(memory_format=torch.channels_last))
        with torch.inference_mode():
            maps = {layer: self._rows(outputs[node], images) for layer, node in self._nodes.items()}
            ends = [torch.stack(torch.aminmax(m)) for m in maps.values() if m.numel()]
            return maps, torch.stack(ends).float() if ends else torch.empty(0, 2)

    def _rows(self, output: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2:]
        grid = self._family.to_grid(self.name, output, height, width)
        assert grid is not None  # `channels` was asked when it was loaded
        return grid.contiguous()

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
        if lowest < 0:
            raise BackboneError(
                f"layer {layer!r} of {self.name} has negative values (lowest {lowest:.3g}), which "
                f"cannot be factorised: {_advice(self.name, self._nodes[layer])}"
            )


def _advice(backbone: str, node: str) -> str:
    # the one that is there already: tracing changes torch's modules for all threads, and others may
    # be in the middle of their forward passes
    traced = skeleton(backbone)
    relus = nearby_relus(traced, node)
    if not relus:
        return "this network has no ReLU, choose another backbone"
    names = {traced.find(target): alias for alias, target in aliases(backbone).items()}
    named = [f"{relu} ({names[relu]})" if relu in names else relu for relu in relus]
    return f"use a ReLU near it, {' or '.join(named)}"


def load_backbone(
    backbone: str,
    layers: Sequence[str],
    weights: str,
    device: str = "cpu",
    precision: str = "float32",
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

    Returns
    -------
    Backbone
        In eval mode; only the tensors down to the deepest layer are kept.

    Raises
    ------
    BackboneError
        Any of these is unknown or cannot be used.
    """
    family = family_of(backbone)
    if precision not in PRECISIONS:
        raise BackboneError(f"precision {precision!r}: choose {' or '.join(PRECISIONS)}")
    dtype = PRECISIONS[precision]
    if isinstance(layers, str) or not layers:
        raise BackboneError(f"layers must be a list of at least one layer, got {layers!r}")
    nodes = {layer: full_node(backbone, layer) for layer in layers}
    for layer in nodes:
        channels(backbone, layer)  # refused before anything is downloaded
    source = parse_weights(backbone, weights)
    traced = _traced(backbone, source)
    network = prune(traced, dict.fromkeys(nodes.values()))
    if source.seed is None:
        install(network, read_tensors(source), backbone, weights)
    weights_digest = digest(network)
    layer_digests = {
        layer: digest(network, used_tensors(prune(traced, [node])).keys())
        for layer, node in nodes.items()
    }
    try:
        place = torch.device(device)
        network.to(place, dtype).to(memory_format=torch.channels_last)
        scale = torch.tensor(1 / (255 * np.asarray(source.std)), dtype=torch.float32, device=place)
        shift = torch.tensor(np.divide(source.mean, source.std), dtype=torch.float32, device=place)
    except (RuntimeError, AssertionError) as error:
        raise BackboneError(f"device {device!r} cannot be used: {first_line(error)}") from error
    return Backbone(
        name=backbone,
        layers=tuple(layers),
        mean=source.mean,
        std=source.std,
        weights_digest=weights_digest,
        layer_digests=layer_digests,
        device=place,
        dtype=dtype,
        tf32=precision == "tf32",
        _family=family,
        _network=network,
        _nodes=nodes,
        _scale=scale,
        _shift=shift,
    )


def _traced(backbone: str, source: Source) -> Traced:
    if source.seed is not None:
        return trace(backbone, build(backbone, "cpu", source.seed))
    traced = trace(backbone, build(backbone, "meta"))
    if traced.has_constants:
        # constants frozen by tracing (MaxViT) are in no weights file, so they need real values
        traced = trace(backbone, build(backbone, "cpu"))
    return traced
