"""Every network of timm, by the names that its own parser takes, in front of them ``timm/``.

``timm/vit_small_patch14_dinov2.lvd142m`` is a model of the library; ``hf-hub:org/name@revision``
one of a repository on the Hub that has timm's ``config.json``, and ``local-dir:path`` one of a
folder with that file and the weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.algorithms.backbone.families.plain import (
    first_line,
    maps_either_way,
    tokens_to_grid,
)
from stages.algorithms.backbone.family import (
    HUB,
    BackboneError,
    Channels,
    ClassNames,
    Family,
    Preprocessing,
    Published,
)
from stages.algorithms.backbone.online import hub
from stages.algorithms.shipped import LOCAL, local_weights

IMAGENET = 1000  # classes
PREFIX = "timm/"
# What lets a network take images of any size, where it has such a thing.
ANY_SIZE: Sequence[Mapping[str, bool]] = (
    {"dynamic_img_size": True},
    {"strict_img_size": False},
    {},
)


def _library() -> Any:
    # imported here: it takes longer than torch, and networks of other families do without
    import timm

    return timm


@dataclass(frozen=True)
class _Shape:
    """What a network's outputs look like.

    Attributes
    ----------
    patch : (height, width) or None
        Of one token in pixels.
    multiple : (height, width) or None
        Sides of an image must be multiples of these.
    leading : int
        Tokens before those of the image: classes, registers.
    channels_last : bool
        Of its maps.
    """

    patch: tuple[int, int] | None
    multiple: tuple[int, int] | None
    leading: int
    channels_last: bool


class TimmFamily(Family):
    """See `Family`; layers are modules, ``features:0`` to ``-1`` what timm gives as features."""

    summary = "a model of timm such as timm/resnet50.a1_in1k (hf-hub:, local-dir: as timm has them)"
    usual_weights = "DEFAULT"
    prefixes = (PREFIX, HUB, LOCAL)
    modules_first = True

    def names(self) -> Sequence[str]:
        """See `Family.names`: of the library, with and without tags of weights."""
        return _names()

    def knows(self, name: str) -> bool:
        """See `Family.knows`."""
        if not name.startswith(self.prefixes):
            return False
        return not name.startswith(PREFIX) or _is_known(name)

    def build(self, name: str) -> nn.Module:
        """See `Family.build`."""
        return _create(name, **_options(name))

    def weights(self, name: str) -> Mapping[str, Published]:
        """See `Family.weights`: `DEFAULT` is what the tag in the name says, else the usual tag.

        Without a tag in the name, tags are names of weights as well.
        """
        if not name.startswith(PREFIX):
            cfg = _cfg(name)
            return {"DEFAULT": _published(cfg, _elsewhere(name, cfg))}
        model, _, tag = name.removeprefix(PREFIX).partition(".")
        timm = _library()
        cfgs = {
            full.partition(".")[2]: timm.get_pretrained_cfg(full).to_dict()
            for full in timm.list_pretrained(f"{model}.*")
        }
        known = {one: _published(cfg, _place(cfg)) for one, cfg in cfgs.items() if _place(cfg)}
        usual = tag or str(_cfg(name).get("tag") or "")
        default = {"DEFAULT": known[usual]} if usual in known else {}
        return default if tag else {**default, **known}

    def convert(
        self, name: str, network: nn.Module, tensors: Mapping[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        """See `Family.convert`: by what timm itself does with files of those who trained it."""
        import sys

        module = sys.modules[type(network).__module__]
        rename = getattr(module, "checkpoint_filter_fn", None)
        if rename is None:
            return tensors
        try:
            renamed = rename(dict(tensors), network)
        except Exception:  # of another network: what is missing is said by who installs it
            return tensors
        return {n: t for n, t in renamed.items() if isinstance(t, torch.Tensor)}

    def preprocessing(self, name: str) -> Preprocessing:
        """See `Family.preprocessing`: of the tag in the name, else of the usual one."""
        return _preprocessing(_cfg(name))

    def class_names(self, name: str, weights: str, count: int) -> ClassNames | None:
        """See `Family.class_names`: of the description, else ImageNet's for 1000."""
        if len(said := _cfg(name).get("label_names") or ()) == count:
            return ClassNames(tuple(map(str, said)))
        if count != IMAGENET:
            return None
        from timm import data

        info: Any = data.ImageNetInfo()  # type: ignore[attr-defined]
        # the first of several words for the same thing
        names = [info.index_to_description(at).partition(",")[0] for at in range(count)]
        return ClassNames(tuple(names), f"{IMAGENET} classes are taken for ImageNet's")

    def side(self, name: str) -> int:
        """See `Family.side`."""
        return int(_cfg(name).get("input_size", (3, 224, 224))[-1])

    def seen_at(self, name: str, height: int, width: int) -> tuple[int, int]:
        """See `Family.seen_at`: the nearest multiple of the patch, one patch at least."""
        multiple = _shape(name).multiple
        if multiple is None:
            return height, width
        rounded = [
            max(1, (2 * side + one) // (2 * one)) * one
            for side, one in zip((height, width), multiple, strict=True)
        ]
        return rounded[0], rounded[1]

    def aliases(self, name: str, network: nn.Module) -> dict[str, str]:
        """See `Family.aliases`: ``features:0`` on, also counted from the end: ``-1``."""
        modules = dict(network.named_modules())
        listed = [str(one["module"]) for one in getattr(network, "feature_info", None) or ()]
        named = {}
        for at, module in enumerate(listed):
            if module in modules:
                named[f"features:{at}"] = named[str(at - len(listed))] = module
        return named

    def default_layer(self, name: str, network: nn.Module) -> str | None:
        """See `Family.default_layer`.

        Of a transformer of equal blocks the tokens that leave it, after the last norm; the keys of
        the last attention for DINO's first version, which methods that find objects use. None for
        others: their deepest layer without negative values, else their last features.
        """
        blocks = getattr(network, "blocks", None)
        if _shape(name).multiple is None or not isinstance(blocks, nn.Sequential | nn.ModuleList):
            return None
        last = f"blocks.{len(blocks) - 1}"
        if _cfg(name).get("tag") == "dino":
            return f"{last}.attn:key"
        norm = getattr(network, "norm", None)
        return last if norm is None or isinstance(norm, nn.Identity) else "norm"

    def to_grid(
        self, name: str, output: torch.Tensor, height: int, width: int
    ) -> torch.Tensor | None:
        """See `Family.to_grid`: maps with channels first or last, tokens without leading ones."""
        shape = _shape(name)
        if output.ndim == 3:
            return tokens_to_grid(output, height, width, shape.patch, (shape.leading, 0))
        return maps_either_way(output, height, width, shape.channels_last)


# -- of one network ----------------------------------------------------------------------------


@cache
def _names() -> tuple[str, ...]:
    timm = _library()
    return tuple(f"{PREFIX}{one}" for one in (*timm.list_models(), *timm.list_pretrained()))


@cache
def _is_known(name: str) -> bool:
    model, _, tag = name.removeprefix(PREFIX).partition(".")
    timm = _library()
    return timm.is_model(model) and (
        not tag or f"{model}.{tag}" in timm.list_pretrained(f"{model}.*")
    )


def _create(name: str, **options: Any) -> nn.Module:
    model = name.removeprefix(PREFIX)
    with _explained(name):
        return _library().create_model(model, pretrained=False, **options)


@cache
def _options(name: str) -> Mapping[str, bool]:
    """Which of `ANY_SIZE` a network takes."""
    for options in ANY_SIZE:
        try:
            with torch.device("meta"):
                _create(name, **options)
        except TypeError:  # it has no such option
            continue
        except (NotImplementedError, RuntimeError):  # not for the meta device
            return options if options else {}
        return options
    return {}


@cache
def _shape(name: str) -> _Shape:
    """Of a network, from its attributes."""
    try:
        with torch.device("meta"):
            network: Any = _create(name, **_options(name))
    except (NotImplementedError, RuntimeError):
        network = _create(name, **_options(name))
    embed = getattr(network, "patch_embed", None)
    patch = _pair(getattr(embed, "patch_size", None))
    ratio = getattr(embed, "feat_ratio", None)
    if ratio is not None:  # of what a convolutional network in front has made of the image, too
        patch = _pair(ratio())
    # it would refuse others, unless it pads them itself
    strict = getattr(embed, "dynamic_img_pad", None) is False
    return _Shape(
        patch,
        patch if strict else None,
        int(getattr(network, "num_prefix_tokens", 0) or 0),
        getattr(network, "output_fmt", "NCHW") == "NHWC",
    )


def _pair(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    both = (size, size) if isinstance(size, int) else tuple(size)
    return int(both[0]), int(both[1])


# -- what timm says of weights -------------------------------------------------------------------


@cache
def _cfg(name: str) -> Mapping[str, Any]:
    """timm's description of pretrained weights: of the tag in the name, or the usual one."""
    from timm import models

    with _explained(name):
        if name.startswith(HUB):
            return dict(models.load_model_config_from_hf(name.removeprefix(HUB))[0])
        if name.startswith(LOCAL):
            folder = Path(name.removeprefix(LOCAL)).expanduser()
            return dict(models._hub.load_model_config_from_path(folder)[0])
        found = models.get_pretrained_cfg(name.removeprefix(PREFIX))
        return dict(vars(found)) if found else {}


def _preprocessing(cfg: Mapping[str, Any]) -> Preprocessing:
    usual = Preprocessing()
    return Preprocessing(_channels(cfg, "mean", usual.mean), _channels(cfg, "std", usual.std))


def _channels(cfg: Mapping[str, Any], name: str, usual: Channels) -> Channels:
    red, green, blue = cfg.get(name) or usual
    return float(red), float(green), float(blue)


def _published(cfg: Mapping[str, Any], place: Path | str) -> Published:
    tag, licence = str(cfg.get("tag") or ""), str(cfg.get("license") or "")
    return Published(place, _preprocessing(cfg), tag, licence)


def _place(cfg: Mapping[str, Any]) -> str:
    """Where weights of the library are: on the Hub, else at a URL; empty for nowhere."""
    if cfg.get("hf_hub_id"):
        return f"{HUB}{cfg['hf_hub_id']}/{cfg.get('hf_hub_filename') or ''}"
    return str(cfg.get("url") or "")


def _elsewhere(name: str, cfg: Mapping[str, Any]) -> Path | str:
    """Where weights are that come with a description of their own."""
    if name.startswith(HUB):
        return f"{name}/{cfg.get('hf_hub_filename') or ''}"
    return local_weights(name) or Path(name.removeprefix(LOCAL)) / "model.safetensors"


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Errors of a description that is not there as one line."""
    try:
        with hub() if name.startswith(HUB) else nullcontext():
            yield
    except TypeError:  # of an option that a network does not have
        raise
    except Exception as error:
        if name.startswith(HUB):
            raise BackboneError(
                f"network {name!r}: its description on the Hugging Face Hub cannot be read "
                f"({first_line(error)}): try again with a network, or save the repository's "
                "config.json and weights in a folder and give local-dir:FOLDER"
            ) from error
        if name.startswith(LOCAL):
            raise BackboneError(
                f"network {name!r}: no network of timm in that folder ({first_line(error)}): "
                "it must have timm's config.json, and weights beside it"
            ) from error
        raise
