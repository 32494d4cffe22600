"""The families of networks; see `stages.algorithms.backbone.family` for what one is."""

import difflib

from stages.algorithms.backbone.families.demo import DemoFamily
from stages.algorithms.backbone.families.module import ModuleFamily
from stages.algorithms.backbone.families.timm import TimmFamily
from stages.algorithms.backbone.families.torchvision import TorchvisionFamily
from stages.algorithms.backbone.family import HUB, BackboneError, Family
from stages.algorithms.shipped import LOCAL

FAMILIES: dict[str, Family] = {
    "demo": DemoFamily(),
    "torchvision": TorchvisionFamily(),
    "timm": TimmFamily(),
    "module": ModuleFamily(),
}

__all__ = ["FAMILIES", "backbone_names", "family_of"]

NEAREST = 3  # names that a message suggests at most


def backbone_names() -> tuple[str, ...]:
    """The networks of all families that have names of their own, without a prefix."""
    return tuple(
        name for family in FAMILIES.values() if not family.modules_first for name in family.names()
    )


def family_of(backbone: str) -> Family:
    """The family that a network belongs to.

    Raises
    ------
    BackboneError
        No family has one of this name; the nearest names of all are suggested, as they must be
        written.
    """
    for family in FAMILIES.values():
        if family.knows(backbone):
            return family
    raise BackboneError(f"unknown backbone {backbone!r}, {_hint(backbone)}")


def _hint(backbone: str) -> str:
    """What may have been meant."""
    whose = [f for f in FAMILIES.values() if f.prefixes and backbone.startswith(f.prefixes)]
    bare = _bare(backbone)
    # by what they are called without a prefix, of which the first family has the first word
    known: dict[str, str] = {}
    for family in whose or FAMILIES.values():
        for name in family.names():
            known.setdefault(_bare(name).lower(), name)
    near = difflib.get_close_matches(bare.lower(), known, n=NEAREST)
    exact = [name for name in near if name == bare.lower()]
    if near:
        return f"did you mean {' or '.join(repr(known[name]) for name in exact or near)}?"
    if backbone.startswith("transformers/"):
        return "take module:FILE.py:FUNCTION, with a function that returns it (docs/networks.md)"
    if backbone.count("/") == 1 and not whose:
        hub, folder = f"{HUB}{backbone}", f"{LOCAL}{backbone}"
        return f"did you mean {hub!r} (of timm's on the Hugging Face Hub), or {folder!r}?"
    choices = " or ".join(family.summary for family in whose or FAMILIES.values())
    return f"use {choices}"


def _bare(name: str) -> str:
    """A name without the prefix of a library."""
    prefixes = [one for family in FAMILIES.values() for one in family.prefixes]
    return next((name[len(one) :] for one in prefixes if name.startswith(one)), name)
