"""The door for networks: what a family of them (a library's models, one's own module) must say.

A new family is a module in `families` with a class that follows `Family`, and an instance of it in
`families.FAMILIES`. Then `extract.backbone` takes its names, `dff show-model` lists its layers and
`dff init --backbone` writes its usual layer and weights. All else (tracing, cutting after the
deepest layer, checking and digesting weights, grids, precision, memory) is done for it;
`tests/algorithms/test_families.py` tries what this protocol promises. What has a body here is
usual: a class that names `Family` as its base need not say it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeGuard

import torch
from torch import nn

Channels = tuple[float, float, float]


class BackboneError(ValueError):
    """A backbone, layer, weights file or image size a user asked for cannot be used.

    The message is one line that says what is wrong and what to do about it.
    """


class NoClassifierError(BackboneError):
    """What comes behind a layer cannot tell its classes; the line says why."""


@dataclass(frozen=True)
class Preprocessing:
    """What images are resized and normalised with: red, green, blue, for values in 0 to 1.

    The usual values are those of ImageNet.

    Attributes
    ----------
    mean, std
    bgr : bool
        Whether the network takes blue first, as those of Caffe do; `mean` and `std` have red first.
    interpolation : str
        By which photographs are resized: `bilinear`, `bicubic` or `lanczos`, antialiased.
    """

    mean: Channels = (0.485, 0.456, 0.406)
    std: Channels = (0.229, 0.224, 0.225)
    bgr: bool = False
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class Published:
    """Weights that go by a name.

    Attributes
    ----------
    place : Path, str or None
        A file that ships with the project, or the URL that it is downloaded from once (whose name
        may end in ``-<first digits of its SHA-256>``, which are then checked). Either holds a
        state dict as `torch.save` writes it. A URL ``hf-hub:OWNER/NAME[@REVISION]/FILE`` is that of
        a file on the Hugging Face Hub. None for what `Family.build` gives its network itself.
    preprocessing : Preprocessing
        Of the images that they were trained on.
    tag, licence : str
        What who published them calls them, and their licence; empty where nobody says.
    """

    place: Path | str | None
    preprocessing: Preprocessing = Preprocessing()
    tag: str = ""
    licence: str = ""

    @property
    def revision(self) -> str:
        """Of the repository on the Hub; empty for the newest, and for other places."""
        return hub_parts(self.place)[1] if _on_hub(self.place) else ""


@dataclass(frozen=True)
class ClassNames:
    """What a network's classes are called.

    Attributes
    ----------
    names : sequence of str
        One for each output.
    assumed : str
        Why they may be others, for a message; empty where whoever published the weights says them.
    """

    names: Sequence[str]
    assumed: str = ""


HUB = "hf-hub:"


def _on_hub(place: Path | str | None) -> TypeGuard[str]:
    return isinstance(place, str) and place.startswith(HUB)


def hub_parts(url: str) -> tuple[str, str, str]:
    """Repository, revision and file of a URL ``hf-hub:OWNER/NAME[@REVISION]/[FILE]``."""
    owner, name, file = url.removeprefix(HUB).split("/", 2)
    name, _, revision = name.partition("@")
    return f"{owner}/{name}", revision, file


class Family(Protocol):
    """Networks that are built, named and prepared for alike.

    A network is a module from float32 ``[n, 3, h, w]``. Its layers go by the names of its graph's
    nodes, as torchvision has them, where `torch.fx` can trace its ``forward`` in eval mode, and by
    the paths of its modules.
    """

    # Names with one of these in front are this family's, known or not.
    prefixes: tuple[str, ...] = ()
    # Whether a layer named as a module is that module's output, even where there is a graph.
    modules_first: bool = False

    @property
    def summary(self) -> str:
        """What `extract.backbone` may be, for a message: ``a torchvision model such as vgg19``."""

    @property
    def usual_weights(self) -> str:
        """The name of weights that a new params.yaml takes."""

    def names(self) -> Sequence[str]:
        """Names of the networks; no other family has any of them."""

    def knows(self, name: str) -> bool:
        """Whether a network of this name can be asked for; `names` need not list it."""
        return name in self.names()

    def build(self, name: str) -> nn.Module:
        """The untrained network with a random start.

        Called with torch's default device set, often to `meta` (shapes only), and with its random
        generator seeded. Weights need no names but those of the state dict.
        """

    def convert(
        self, name: str, network: nn.Module, tensors: Mapping[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        """Tensors of a weights file by the names that the network has for them.

        For files of other versions, or of who trained the network; `network` is on the meta device.
        Names that are unknown stay.
        """
        return tensors

    def weights(self, name: str) -> Mapping[str, Published]:
        """Weights by the names that `extract.weights` may have for a network; nothing is read.

        A file that ships with the family lies beside its module as ``<network>-<weights>.pth``:
        `shipped_weights` finds it there without importing torch.
        """

    def preprocessing(self, name: str) -> Preprocessing:
        """For a random start, or weights of unknown origin."""

    def class_names(self, name: str, weights: str, count: int) -> ClassNames | None:
        """What the classes of a network with so many are called; None where nobody says."""
        return None

    def side(self, name: str) -> int:
        """Pixels of the side of an input that the network takes: what it was trained with."""
        return 224

    def seen_at(self, name: str, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of some pixels is resampled to before the network.

        For networks that take multiples of a patch alone; bilinear, so that the grid is about all
        of the image and nothing else.
        """
        return height, width

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
            Of the images in pixels, as the network sees them.

        Returns
        -------
        tensor or None
            ``[n, grid h, grid w, channels]``; None where the output is not about places in the
            images.
        """
