"""Params of the transform stage."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TransformParams:
    """Which factors the photographs are seen with."""

    set: str
    k: int
    layer: str
