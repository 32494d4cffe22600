"""Backbones: the networks whose activations are factorised.

Any torchvision classification network, or the small one shipped with the project (`demo`), is
traced into a graph and cut after the deepest layer asked for. Layers go by torchvision's node
names or by the paper's aliases.
"""

from stages.algorithms.backbone.graph import BackboneError, backbone_names
from stages.algorithms.backbone.layers import (
    LayerInfo,
    aliases,
    channels,
    describe_layers,
    grid_shape,
    resolve_layer,
)
from stages.algorithms.backbone.memory import forward_bytes
from stages.algorithms.backbone.network import Backbone, load_backbone

__all__ = [
    "Backbone",
    "BackboneError",
    "LayerInfo",
    "aliases",
    "backbone_names",
    "channels",
    "describe_layers",
    "forward_bytes",
    "grid_shape",
    "load_backbone",
    "resolve_layer",
]
