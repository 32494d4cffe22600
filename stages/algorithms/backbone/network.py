"""A loaded backbone: normalised images in, non-negative activations out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from stages.algorithms.backbone.graph import (
    BackboneError,
    Traced,
    build,
    check_backbone,
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
from stages.algorithms.backbone.weights import (
    Channels,
    Source,
    digest,
    install,
    parse_weights,
    read_tensors,
    used_tensors,
)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
        What it computes in: float32 or bfloat16.
    """

    name: str
    layers: tuple[str, ...]
    mean: Channels
    std: Channels
    weights_digest: str
    layer_digests: Mapping[str, str]
    device: torch.device
    dtype: torch.dtype
    _network: fx.GraphModule
    _nodes: Mapping[str, str]  # layer -> full node name

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
        # channels last: 1.5 times (VGG-19) to 3 times (SqueezeNet) faster on a CPU
        outputs = run(self._network, placed.contiguous(memory_format=torch.channels_last))
        for layer, node in self._nodes.items():
            if len(batch):
                self._check_values(layer, outputs[node])
        with torch.inference_mode():
            return {
                # [n, c, h, w] -> rows
                layer: outputs[node].permute(0, 2, 3, 1).contiguous().float()
                for layer, node in self._nodes.items()
            }

    def _check_values(self, layer: str, maps: torch.Tensor) -> None:
        lowest, highest = (value.item() for value in torch.aminmax(maps))
        if not (lowest > -float("inf") and highest < float("inf")):  # false for NaN too
            raise BackboneError(
                f"layer {layer!r} of {self.name} gave NaN or infinite values: the weights are "
                "damaged, or the images were not normalised"
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
        `demo` or the name of a torchvision classification network.
    layers
        Aliases (`conv5_4`, `fire9`, `layer4`) or torchvision node names, at least one.
    weights
        `DEFAULT` or another name of torchvision's weights (downloaded once); the path of a
        `.pth`, `.pt` or `.safetensors` state dict; `bundled` (demo only); `random:<seed>`.
    device
        As torch names it.
    precision
        `float32`, or `bfloat16`: faster where the hardware has it. Against float32 the activations
        of VGG-19's `conv5_4` then differ by 1 %, of SqueezeNet's `fire9` by 2 % (Frobenius norm).

    Returns
    -------
    Backbone
        In eval mode; only the tensors down to the deepest layer are kept.

    Raises
    ------
    BackboneError
        Any of these is unknown or cannot be used.
    """
    check_backbone(backbone)
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
        _network=network,
        _nodes=nodes,
    )


def _traced(backbone: str, source: Source) -> Traced:
    if source.seed is not None:
        return trace(backbone, build(backbone, "cpu", source.seed))
    traced = trace(backbone, build(backbone, "meta"))
    if traced.has_constants:
        # constants frozen by tracing (MaxViT) are in no weights file, so they need real values
        traced = trace(backbone, build(backbone, "cpu"))
    return traced
