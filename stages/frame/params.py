"""What params are made of: fields with a line of help, choices, paths, suggestions."""

import difflib
import typing
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

NAMED = 20  # known names that a suggestion lists at most


def param(default: Any, help: str) -> Any:
    """A field of a params dataclass with the line of help that `dff init` writes beside it."""
    return field(default=default, metadata={"help": help})


def check_choices(params: Any) -> None:
    """Check the fields that are annotated with a Literal; call it in ``__post_init__``.

    Raises
    ------
    ValueError
        For a value that is not one of the choices.
    """
    for name, hint in typing.get_type_hints(type(params)).items():
        value = getattr(params, name)
        if typing.get_origin(hint) is Literal and value not in (choices := typing.get_args(hint)):
            *most, last = choices
            raise ValueError(f"{name}: {value!r} is unknown, choose {', '.join(most)} or {last}")


def user_path(path: str, project: Path) -> Path:
    """A path as params have it: ``~/`` is the home folder, others are relative to params.yaml."""
    at_home = path == "~" or path.startswith("~/")
    return project / (Path(path).expanduser() if at_home else path)


def suggestion(value: str, known: Sequence[str]) -> str:
    """What to say of a name that is not among the known ones: the nearest of them, or what is."""
    close = difflib.get_close_matches(value, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are {', '.join(known[:NAMED])}{', ...' if len(known) > NAMED else ''}"
