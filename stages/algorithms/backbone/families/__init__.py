"""The families of networks; see `stages.algorithms.backbone.family` for what one is."""

from stages.algorithms.backbone.families.demo import DemoFamily
from stages.algorithms.backbone.families.torchvision import TorchvisionFamily
from stages.algorithms.backbone.family import BackboneError, Family
from stages.algorithms.names import suggestion

FAMILIES: dict[str, Family] = {"demo": DemoFamily(), "torchvision": TorchvisionFamily()}

__all__ = ["FAMILIES", "backbone_names", "family_of"]


def backbone_names() -> tuple[str, ...]:
    """The networks of all families."""
    return tuple(name for family in FAMILIES.values() for name in family.names())


def family_of(backbone: str) -> Family:
    """The family that a network belongs to.

    Raises
    ------
    BackboneError
        No family has one of this name; the nearest names of all are suggested.
    """
    for family in FAMILIES.values():
        if backbone in family.names():
            return family
    choices = " or ".join(family.summary for family in FAMILIES.values())
    hint = suggestion(backbone, backbone_names(), most=3, otherwise=f"use {choices}")
    raise BackboneError(f"unknown backbone {backbone!r}, {hint}")
