"""What params are made of: fields with a line of help, choices, sections of options, paths.

A choice among registered implementations (refiners, readers) brings the options of the one that is
chosen, in a section with its name::

    refine:
      method: guided
      guided:
        radius: 0.0714

    @dataclass(frozen=True)
    class RefineParams:
        method: str = choice("guided", REFINERS, "how maps are aligned with edges")
        options: Any = options_of("method")

        def __post_init__(self) -> None:
            fill_options(self)

Only the options of what was chosen are params: nothing else can change a result, or a fingerprint.

Of this project it imports `stages.algorithms.names` alone, so that readers and algorithms may have
options, too.
"""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, field, fields
from pathlib import Path
from typing import Any, Literal

from stages.algorithms.names import suggestion as suggestion

AS_BEFORE = "usual_is_as_before"


def param(default: Any, help: str, *, usual_is_as_before: bool = False) -> Any:
    """A field of a params dataclass with the line of help that `dff init` writes beside it.

    `usual_is_as_before` as for `choice`.
    """
    return field(default=default, metadata={"help": help, AS_BEFORE: usual_is_as_before})


def choice(
    default: str, registry: Mapping[str, type], help: str, *, usual_is_as_before: bool = False
) -> Any:
    """A field that names one of the registered implementations.

    Parameters
    ----------
    registry : mapping of name to frozen dataclass
        What options each has; its fields are made by `param`.
    usual_is_as_before : bool
        The field came later, and its default means what was done without it: then it is no part of
        a fingerprint, and artifacts that were made before stay fresh.
    """
    metadata = {"help": help, "registry": registry, AS_BEFORE: usual_is_as_before}
    return field(default=default, metadata=metadata)


def options_of(of: str) -> Any:
    """A field for the options of what the field `of` names."""
    return field(default=None, metadata={"options_of": of})


def values_of(params: Any) -> dict[str, Any]:
    """All values of a params dataclass that decide a result, for a fingerprint.

    Fields that came later are left out where they have their default, with their options.
    """
    left_out = {
        one.name
        for one in fields(params)
        if one.metadata.get(AS_BEFORE) and getattr(params, one.name) == one.default
    }
    options = {o.name for o in fields(params) if o.metadata.get("options_of") in left_out}
    return {n: v for n, v in asdict(params).items() if n not in left_out | options}


def registry_of(params: type, options: "Field[Any]") -> Mapping[str, type]:
    """The registry behind a field made by `options_of`."""
    (chosen,) = (one for one in fields(params) if one.name == options.metadata["options_of"])
    registry: Mapping[str, type] = chosen.metadata["registry"]
    return registry


def fill_options(params: Any) -> None:
    """Check choices and fill in usual options; call it in ``__post_init__``.

    Raises
    ------
    ValueError
        For a name that is not registered, or options of another one.
    """
    for one in fields(params):
        if "options_of" not in one.metadata:
            continue
        name, registry = one.metadata["options_of"], registry_of(type(params), one)
        chosen = getattr(params, name)
        if chosen not in registry:
            raise ValueError(f"{name}: {chosen!r} is unknown, choose {_or(list(registry))}")
        if getattr(params, one.name) is None:
            object.__setattr__(params, one.name, registry[chosen]())  # frozen for all others
        elif type(getattr(params, one.name)) is not registry[chosen]:
            raise ValueError(f"{name}: {chosen} takes {registry[chosen].__name__}")


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
            raise ValueError(f"{name}: {value!r} is unknown, choose {_or(choices)}")


def _or(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def user_path(path: str, project: Path) -> Path:
    """A path as params have it: ``~/`` is the home folder, others are relative to params.yaml."""
    at_home = path == "~" or path.startswith("~/")
    return project / (Path(path).expanduser() if at_home else path)
