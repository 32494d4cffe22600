"""Every classification network of torchvision, by torchvision's own names."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from stages.algorithms.backbone.families.plain import (
    maps_either_way,
    maps_to_grid,
    tokens_to_grid,
    vgg_aliases,
)
from stages.algorithms.backbone.family import ClassNames, Family, Preprocessing, Published

# Their own truncated-normal start takes minutes and warns that it will change.
_SLOW_START = ("googlenet", "inception_v3")
IMAGENET = 1000  # classes
VIT = "vit_"
PREFIX = "torchvision/"  # may stand before a name, to tell it from timm's


@cache
def _names() -> tuple[str, ...]:
    models = _models()
    return tuple(models.list_models(module=models))


def _models() -> Any:
    # imported here: it takes as long as torch, and networks of other families do without
    from torchvision import models

    return models


class TorchvisionFamily(Family):
    """See `Family`; any node that gives maps or, in a ViT, tokens is a layer."""

    summary = "a torchvision classification model such as vgg19"
    usual_weights = "DEFAULT"
    prefixes = (PREFIX,)

    def knows(self, name: str) -> bool:
        """See `Family.knows`: with or without the prefix. Others' names need no torchvision."""
        plain = name.removeprefix(PREFIX)
        return not set("/:") & set(plain) and plain in self.names()

    def names(self) -> Sequence[str]:
        """See `Family.names`."""
        return _names()

    def build(self, name: str) -> nn.Module:
        """See `Family.build`."""
        name = name.removeprefix(PREFIX)
        builder: Callable[..., nn.Module] = _models().get_model_builder(name)
        options = {"init_weights": False} if name in _SLOW_START else {}
        network = builder(weights=None, **options)
        # The published weights of GoogLeNet and Inception v3 were trained on inputs in [-1, 1];
        # torchvision converts to that only when it loads the weights itself, so say it here.
        if hasattr(network, "transform_input"):
            network.transform_input = True  # type: ignore[assignment]
        return network

    def weights(self, name: str) -> Mapping[str, Published]:
        """See `Family.weights`: torchvision's names, `DEFAULT` among them."""
        members = _models().get_model_weights(name.removeprefix(PREFIX)).__members__
        published = {}
        for weights, member in members.items():
            transforms = member.transforms()
            scale = Preprocessing(tuple(transforms.mean), tuple(transforms.std))
            licence = str(member.meta.get("license", ""))  # said of few
            published[weights] = Published(member.url, scale, member.name, licence)
        return published

    def preprocessing(self, name: str) -> Preprocessing:
        """See `Family.preprocessing`: that of the default weights, else ImageNet's."""
        default = self.weights(name).get("DEFAULT")
        return default.preprocessing if default else Preprocessing()

    def class_names(self, name: str, weights: str, count: int) -> ClassNames | None:
        """See `Family.class_names`: of published weights their own, else ImageNet's for 1000."""
        members = _models().get_model_weights(name.removeprefix(PREFIX)).__members__
        if weights in members:
            return ClassNames(tuple(members[weights].meta["categories"]))
        if count == IMAGENET and "DEFAULT" in members:
            assumed = f"{IMAGENET} classes are taken for ImageNet's"
            return ClassNames(tuple(members["DEFAULT"].meta["categories"]), assumed)
        return None

    def aliases(self, name: str, network: nn.Module) -> dict[str, str]:
        """See `Family.aliases`.

        `conv<block>_<i>` of the VGG family is the activation after the ReLU, as in Simonyan and
        Zisserman (a block ends at a max-pooling); `fire<i>` of SqueezeNet counts from 2, as in
        Iandola et al.; `layer1` to `layer4` are torchvision's own for ResNets.
        """
        from torchvision.models import VGG, ResNet, SqueezeNet
        from torchvision.models.squeezenet import Fire

        if isinstance(network, VGG):
            return vgg_aliases(network.features)
        if isinstance(network, SqueezeNet):
            fires = (i for i, m in enumerate(network.features) if isinstance(m, Fire))
            return {f"fire{n}": f"features.{i}" for n, i in enumerate(fires, 2)}
        if isinstance(network, ResNet):
            return {f"layer{n}": f"layer{n}" for n in range(1, 5)}
        return {}

    def default_layer(self, name: str, network: nn.Module) -> str | None:
        """See `Family.default_layer`: the deepest that a paper names."""
        return next(reversed(self.aliases(name, network)), None)

    def to_grid(
        self, name: str, output: torch.Tensor, height: int, width: int
    ) -> torch.Tensor | None:
        """See `Family.to_grid`: Swin has channels last, ViT tokens behind that of the class."""
        if output.ndim == 3 and name.removeprefix(PREFIX).startswith(VIT):
            return tokens_to_grid(output, height, width, None, (1,))
        found = maps_either_way(output, height, width, channels_last=False)
        return maps_to_grid(output) if found is None else found
