"""Backbones: the networks whose activations are factorised.

A network of one of the families (torchvision's classification networks, the small one that ships
with the project, and whoever follows `family.Family`) is traced into a graph and cut after the
deepest layer asked for. Layers go by torchvision's node names or by the paper's aliases. What comes
behind a layer is in `head`, which is not here: it decides about no activations.
"""

from stages.algorithms.backbone.describe import (
    LayerInfo,
    default_layer,
    describe_layers,
    signed_layers,
)
from stages.algorithms.backbone.families import FAMILIES, backbone_names, family_of
from stages.algorithms.backbone.family import (
    BackboneError,
    ClassNames,
    Family,
    NoClassifierError,
    Preprocessing,
    Published,
)
from stages.algorithms.backbone.layers import (
    aliases,
    channels,
    grid_shape,
    next_side,
    resolve_layer,
)
from stages.algorithms.backbone.memory import forward_bytes
from stages.algorithms.backbone.network import Backbone, load_backbone, relus_near

__all__ = [
    "FAMILIES",
    "Backbone",
    "BackboneError",
    "ClassNames",
    "Family",
    "LayerInfo",
    "NoClassifierError",
    "Preprocessing",
    "Published",
    "aliases",
    "backbone_names",
    "channels",
    "default_layer",
    "describe_layers",
    "family_of",
    "forward_bytes",
    "grid_shape",
    "load_backbone",
    "next_side",
    "relus_near",
    "resolve_layer",
    "signed_layers",
]
