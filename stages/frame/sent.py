"""What of an object goes to other processes."""

from dataclasses import fields
from typing import Any


def fields_alone(one: Any) -> tuple[Any, ...]:
    """For ``__reduce__`` of a dataclass: its fields, and nothing that was found out from them since
    (`functools.cached_property`); who gets it finds that out again."""
    return type(one), tuple(getattr(one, field.name) for field in fields(one) if field.init)
