"""params.yaml: one section per stage, read strictly into the stages' frozen dataclasses."""

import contextlib
import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.registry import STAGES
from stages.frame.params import suggestion, user_path
from stages.frame.stage import Stage

PARAMS = "params.yaml"


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
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_NoKeyTwice)
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: not there; `dff init` writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ParamsError(f"{path}: not valid YAML{line}: {problem}") from error
    if not isinstance(content, dict):
        raise ParamsError(f"{path}: must have the sections {', '.join(s.name for s in STAGES)}")
    _known(content, [stage.name for stage in STAGES], path.name, "section")
    return {stage.name: build(stage, content.get(stage.name), path.name) for stage in STAGES}


class _NoKeyTwice(yaml.SafeLoader):
    """YAML whose mappings have each key once: of two values one would be ignored."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it is written, before `<<` brings others into it."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(
                        problem=f"{key.value!r} stands there twice", problem_mark=key.start_mark
                    )
                seen.add((key.tag, key.value))
        return node


def check_root(project: Path, root: str) -> None:
    """Say before DVC does that there is no such folder of photographs.

    Raises
    ------
    ParamsError
    """
    if not user_path(root, project).is_dir():
        raise ParamsError(f"{project / PARAMS}: index.root: {root}: no such folder")


def build(stage: Stage[Any], section: object, source: str = PARAMS) -> Any:
    """One section as the stage's dataclass; every key must be there.

    Raises
    ------
    ParamsError
        See `read_params`.
    """
    where = f"{source}: {stage.name}"
    if section is None:
        section = {}
    if not isinstance(section, dict):
        raise ParamsError(f"{where}: must be a section of keys and values")
    fields = {field.name: field for field in dataclasses.fields(stage.params)}
    _known(section, list(fields), where, "key")
    missing = [name for name in fields if name not in section]
    if missing:
        raise ParamsError(
            f"{where}.{missing[0]}: missing; the usual value is {_flow(fields[missing[0]].default)}"
        )
    hints = typing.get_type_hints(stage.params)
    values = {key: _typed(section[key], hints[key], f"{where}.{key}") for key in fields}
    try:
        return stage.params(**values)
    except ValueError as error:
        raise ParamsError(f"{where}.{error}") from error


def _known(section: Mapping[Any, Any], names: list[str], where: str, what: str) -> None:
    for key in section:
        if key in names:
            continue
        joint = "." if what == "key" else ": "
        raise ParamsError(f"{where}{joint}{key}: unknown {what}, {suggestion(str(key), names)}")


def _typed(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type, or a line that says what was expected."""
    if isinstance(hint, types.GenericAlias):  # tuple[int, ...]
        (item, _) = typing.get_args(hint)
        values = value if isinstance(value, list) else [value]
        return tuple(_typed(one, item, where) for one in values)
    if typing.get_origin(hint) is Literal:
        hint = str  # the dataclass itself knows its choices
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML reads 1e-5, without a dot, as text
    if isinstance(value, float) and not math.isfinite(value):
        raise ParamsError(f"{where}: {value} is not a finite number")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        raise ParamsError(f"{where}: {value!r} is not {names[hint]}")
    return value


def render(sections: Mapping[str, Mapping[str, Any]], heading: str) -> str:
    """A complete params.yaml: `sections` over the defaults, each key with its line of help."""
    lines = [f"# {heading}", "# Every value is explained beside it; unknown keys are errors."]
    for stage in STAGES:
        lines += ["", f"# {_first_line(stage.params)}", f"{stage.name}:"]
        chosen = sections.get(stage.name, {})
        for field in dataclasses.fields(stage.params):
            value = chosen.get(field.name, field.default)
            entry = f"  {field.name}: {_flow(value)}"
            lines.append(f"{entry:<34} # {field.metadata['help']}")
    return "\n".join(lines) + "\n"


def _first_line(params: type) -> str:
    return (params.__doc__ or "").splitlines()[0]


def _flow(value: Any) -> str:
    """A value in YAML's one-line form."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
