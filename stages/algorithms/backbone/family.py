"""The door for networks: what a family of them (a library's models, one's own module) must say.

A new family is a module in `families` with a class that follows `Family`, and an instance of it in
`families.FAMILIES`. Then `extract.backbone` takes its names, `dff show-model` lists its layers and
`dff init --backbone` writes its usual layer and weights. All else (tracing, cutting after the
deepest layer, checking and digesting weights, grids, precision, memory) is done for it;
`tests/algorithms/test_families.py` tries what this protocol promises.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

Channels = tuple[float, float, float]


class BackboneError(ValueError):
    """A backbone, layer, weights file or image size a user asked for cannot be used.

    The message is one line that says what is wrong and what to do about it.
    """


@dataclass(frozen=True)
class Preprocessing:
    """What images are normalised with: red, green, blue, for values in 0 to 1.

    The usual values are those of ImageNet.
    """

    mean: Channels = (0.485, 0.456, 0.406)
    std: Channels = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Published:
    """Weights that go by a name.

    Attributes
    ----------
    place : Path or str
        A file that ships with the project, or the URL that it is downloaded from once (whose name
        may end in ``-<first digits of its SHA-256>``, which are then checked). Either holds a
        state dict as `torch.save` writes it.
    preprocessing : Preprocessing
        Of the images that they were trained on.
    """

    place: Path | str
    preprocessing: Preprocessing = Preprocessing()


class Family(Protocol):
    """Networks that are built, named and prepared for alike.

    A network is a module from float32 ``[n, 3, h, w]`` whose ``forward`` `torch.fx` can trace in
    eval mode. Its layers go by the names of its graph's nodes, as torchvision has them.
    """

    @property
    def summary(self) -> str:
        """What `extract.backbone` may be, for a message: ``a torchvision model such as vgg19``."""

    @property
    def usual_weights(self) -> str:
        """The name of weights that a new params.yaml takes."""

    def names(self) -> Sequence[str]:
        """Names of the networks; no other family has any of them."""

    def build(self, name: str) -> nn.Module:
        """The untrained network with a random start.

        Called with torch's default device set, often to `meta` (shapes only), and with its random
        generator seeded. Weights need no names but those of the state dict.
        """

    def weights(self, name: str) -> Mapping[str, Published]:
        """Weights by the names that `extract.weights` may have for a network; nothing is read.

        A file that ships with the family lies beside its module as ``<network>-<weights>.pth``:
        `shipped_weights` finds it there without importing torch.
        """

    def preprocessing(self, name: str) -> Preprocessing:
        """For a random start, or weights of unknown origin."""

    def aliases(self, name: str, network: nn.Module) -> Mapping[str, str]:
        """Other names of layers (a paper's) and the nodes they mean; may be empty.

        Parameters
        ----------
        network
            What `build` gives, on the meta device.
        """

    def default_layer(self, name: str, network: nn.Module) -> str | None:
        """The layer to tap unless somebody names one; the network is as for `aliases`.

        None for the deepest that has a grid and, tried with random weights, no value below zero.
        """

    def to_grid(
        self, name: str, output: torch.Tensor, height: int, width: int
    ) -> torch.Tensor | None:
        """A node's output as rows of a grid; a view where possible.

        It is also asked on the meta device, where there are shapes but no values: that is how the
        grids of all images are known before the first is seen. So shapes alone must decide.

        Parameters
        ----------
        output
            Of any shape, for a batch of n images: maps ``[n, channels, h, w]``, or tokens
            ``[n, 1 + h * w, channels]`` of which a family drops the first and shapes the others.
        height, width
            Of the images in pixels.

        Returns
        -------
        tensor or None
            ``[n, grid h, grid w, channels]``; None where the output is not about places in the
            images.
        """
