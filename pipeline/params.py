"""params.yaml: one section per stage, read strictly into the stages' frozen dataclasses."""

import contextlib
import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.registry import STAGES
from stages.datasets import READERS
from stages.frame.params import registry_of, suggestion, user_path
from stages.frame.stage import Stage
from stages.frame.written import AsWritten, Written, dumped, problem_of
from stages.index.params import IndexParams

PARAMS = "params.yaml"
NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_WHOLE = r"[-+]?(0|[1-9]\d*)"
FORMS = {
    int: _WHOLE,
    float: rf"{_WHOLE}(\.\d*)?([eE][-+]?\d+)?|[-+]?\.\d+([eE][-+]?\d+)?|[-+]?\.(inf|nan)",
    bool: r"(?i:true|false)",
}


class ParamsError(Exception):
    """params.yaml is missing or wrong; the line names the key and what it should be."""


def read_params(project: Path) -> dict[str, Any]:
    """All sections of a project's params.yaml, by stage name.

    Raises
    ------
    ParamsError
        For a missing or unreadable file, unknown sections or keys (with a suggestion), missing
        keys, values of a wrong type or out of range.
    """
    path = project / PARAMS
    content = load(path)
    if not isinstance(content, dict):
        raise ParamsError(f"{path}: must have the sections {', '.join(s.name for s in STAGES)}")
    names = [stage.name for stage in STAGES]
    for key in content:
        if key not in names:
            raise ParamsError(f"{path.name}: {key}: unknown section, {suggestion(str(key), names)}")
    _all_there(content, path.name)
    return {stage.name: build(stage, content.get(stage.name), path.name) for stage in STAGES}


def _all_there(content: Mapping[str, Any], source: str) -> None:
    """Name all keys that are missing at once, as after an upgrade; one alone is told of later."""
    missing = []
    for stage in STAGES:
        section = {} if content.get(stage.name) is None else content[stage.name]
        if isinstance(section, dict):
            _known(section, *_keys(stage.params), f"{source}: {stage.name}")
            plain, _ = _keys(stage.params)
            missing += [
                f"{stage.name}.{name}: {_flow(field.default)}"
                for name, field in plain.items()
                if name not in section
            ]
    if len(missing) > 1:
        raise ParamsError(
            f"{source}: {len(missing)} lines are missing; add them, here with their usual values: "
            + "; ".join(missing)
        )


def load(path: Path) -> Any:
    """What a params.yaml says, values as they are written (`stages.frame.written`).

    Raises
    ------
    ParamsError
        When it is not there, cannot be read, or is no YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=AsWritten)
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: not there; `dff init` writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: cannot be read ({error})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: {problem_of(error)}") from error


def check_root(project: Path, params: IndexParams) -> None:
    """Say before any stage does that there is no such folder of photographs.

    Raises
    ------
    ParamsError
    """
    if READERS[params.dataset].draw:
        return  # into the artifact: no folder of the user's is read
    if not params.root:
        raise ParamsError(f"{project / PARAMS}: index.root: name the folder of your photographs")
    if not user_path(params.root, project).is_dir():
        raise ParamsError(f"{project / PARAMS}: index.root: {params.root}: no such folder")


def build(stage: Stage[Any], section: object, source: str = PARAMS) -> Any:
    """One section as the stage's dataclass; every key must be there.

    Raises
    ------
    ParamsError
        See `read_params`.
    """
    return _built(stage.params, section, f"{source}: {stage.name}")


def _built(params: type, section: object, where: str) -> Any:
    """A section as a dataclass; sections of options in it are those of what it chooses."""
    if section is None:
        section = {}
    if not isinstance(section, dict):
        raise ParamsError(f"{where}: must be a section of keys and values")
    plain, of_options = _keys(params)
    _known(section, plain, of_options, where)
    for name, field in plain.items():
        if name not in section:
            raise ParamsError(f"{where}.{name}: missing; the usual value is {_flow(field.default)}")
    hints = typing.get_type_hints(params)
    values = {name: _typed(section[name], hints[name], f"{where}.{name}") for name in plain}
    sections = {
        name: _built(options, section[name], f"{where}.{name}")
        for name, options in of_options.items()
        if name in section
    }
    for one in dataclasses.fields(params):
        if "options_of" not in one.metadata:
            continue
        chosen = values[one.metadata["options_of"]]
        if chosen in of_options and chosen not in sections:
            usual = {field.name: field.default for field in _plain(of_options[chosen])}
            raise ParamsError(
                f"{where}.{chosen}: missing; add the section with its usual values, "
                f"`{chosen}: {_flow(usual)}`"
            )
        values[one.name] = sections.get(chosen)
    try:
        return params(**values)
    except ValueError as error:
        raise ParamsError(f"{where}.{error}") from error


def _keys(params: type) -> tuple[dict[str, "dataclasses.Field[Any]"], dict[str, type]]:
    """Keys with a value, and sections of options, by their names."""
    of_options = {
        name: options
        for one in dataclasses.fields(params)
        if "options_of" in one.metadata
        for name, options in registry_of(params, one).items()
        if dataclasses.fields(options)
    }
    return {one.name: one for one in _plain(params)}, of_options


def _plain(params: type) -> list["dataclasses.Field[Any]"]:
    """Fields that are keys with a value."""
    return [one for one in dataclasses.fields(params) if "options_of" not in one.metadata]


def _known(
    section: Mapping[Any, Any],
    plain: Mapping[str, Any],
    of_options: Mapping[str, type],
    where: str,
) -> None:
    """Refuse keys that nobody reads."""
    for key in section:
        if key in plain or key in of_options:
            continue
        owners = [name for name, one in of_options.items() if key in {f.name for f in _plain(one)}]
        if owners:
            places = " or ".join(f"{where.split()[-1]}.{name}.{key}" for name in owners)
            raise ParamsError(f"{where}.{key}: is an option of its own section now: write {places}")
        names = [*plain, *of_options]
        raise ParamsError(f"{where}.{key}: unknown key, {suggestion(str(key), names)}")


def _typed(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type, or a line that says what was expected."""
    if isinstance(hint, types.UnionType):  # int | tuple[int, ...]: one, or a list of them
        one, several = typing.get_args(hint)
        hint = several if isinstance(value, list) else one
    if isinstance(hint, types.GenericAlias):  # tuple[int, ...]
        (item, _) = typing.get_args(hint)
        values = value if isinstance(value, list) else [value]
        return tuple(_typed(one, item, where) for one in values)
    if typing.get_origin(hint) is Literal:
        hint = str  # the dataclass itself knows its choices
    if isinstance(value, Written):
        return _scalar(value, hint, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML reads 1e-5, without a dot, as text
    if isinstance(value, float) and not math.isfinite(value):
        raise ParamsError(f"{where}: {value} is not a finite number")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ParamsError(f"{where}: {value!r} is not {NAMES[hint]}")
    return value


def _scalar(value: Written, hint: Any, where: str) -> Any:
    """A value by how it is written: as text anything, as a number what all read alike."""
    if hint is str:
        return str(value)
    if not re.fullmatch(FORMS[hint], value):
        other = None
        with contextlib.suppress(yaml.YAMLError, ValueError):  # of `!!int "["`, `2019-99-99`
            other = yaml.safe_load(value)  # of `010`, `1_000`, `12:30`, `yes`
        taken = f", and to some programs {other!r}" if isinstance(other, hint) else ""
        raise ParamsError(f"{where}: {value} in line {value.line} is not {NAMES[hint]}{taken}")
    read = yaml.safe_load(value.lower())
    return read if hint is bool else _typed(hint(read), hint, where)


def render(sections: Mapping[str, Mapping[str, Any]], heading: str) -> str:
    """A complete params.yaml: `sections` over the defaults, each key with its line of help."""
    lines = [f"# {heading}", "# Every value is explained beside it; unknown keys are errors."]
    for stage in STAGES:
        lines += ["", f"# {_first_line(stage.params)}", f"{stage.name}:"]
        lines += _rendered(stage.params, sections.get(stage.name, {}), "  ")
    return "\n".join(lines) + "\n"


def _rendered(params: type, chosen: Mapping[str, Any], indent: str) -> list[str]:
    """Lines of one section; of options the section of what is chosen."""
    lines = []
    for one in dataclasses.fields(params):
        if "options_of" in one.metadata:
            name = chosen.get(one.metadata["options_of"], _default(params, one))
            inner = _rendered(registry_of(params, one)[name], chosen.get(name, {}), indent + "  ")
            lines += [f"{indent}{name}:", *inner] if inner else []
            continue
        entry = f"{indent}{one.name}: {_flow(chosen.get(one.name, one.default))}"
        lines.append(f"{entry:<34} # {one.metadata['help']}")
    return lines


def _default(params: type, options: "dataclasses.Field[Any]") -> str:
    """What is chosen unless somebody says otherwise."""
    of = options.metadata["options_of"]
    return str(next(one.default for one in dataclasses.fields(params) if one.name == of))


def _first_line(params: type) -> str:
    return (params.__doc__ or "").splitlines()[0]


def _flow(value: Any) -> str:
    """A value in YAML's one-line form."""
    plain = list(value) if isinstance(value, tuple) else value
    if isinstance(plain, dict):
        plain = {key: list(one) if isinstance(one, tuple) else one for key, one in plain.items()}
    text = dumped(plain, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")
