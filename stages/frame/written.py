"""YAML as it is written: a key once, and values that do not become others behind one's back.

To YAML 1.1 ``010`` is 8, ``no`` is false, ``12:30`` is 750 and ``2019-12-24`` a date; to others
they are what is written. `AsWritten` leaves the choice to who knows what a value is for.
"""

from typing import Any

import yaml


class Written(str):
    """A value that YAML takes for no text, as it is written.

    Attributes
    ----------
    tag : str
        What YAML takes it for.
    line : int
    """

    tag: str
    line: int

    @classmethod
    def of(cls, node: yaml.ScalarNode) -> "Written":
        """The value of a node."""
        written = cls(node.value)
        written.tag, written.line = node.tag, node.start_mark.line + 1
        return written


class NoKeyTwice(yaml.SafeLoader):
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


class AsWritten(NoKeyTwice):
    """Numbers, dates, true and false are `Written`; text is str, and null None."""


def _as_written(loader: yaml.SafeLoader, node: yaml.Node) -> Written:
    if not isinstance(node, yaml.ScalarNode):  # of `!!int [1]`
        raise yaml.constructor.ConstructorError(
            problem=f"{node.tag} is not one value", problem_mark=node.start_mark
        )
    return Written.of(node)


for _kind in ("bool", "int", "float", "timestamp"):
    AsWritten.add_constructor(f"tag:yaml.org,2002:{_kind}", _as_written)


class Dumper(yaml.SafeDumper):
    """Writes `Written` values as they were."""


Dumper.add_representer(Written, lambda self, value: self.represent_scalar(value.tag, str(value)))


def dumped(content: Any, **style: Any) -> str:
    """YAML of something, in the order that it has, that reads back as the same."""
    options = {"Dumper": Dumper, "sort_keys": False, "width": 10**9, **style}
    text: str = yaml.dump(content, allow_unicode=True, **options)
    # to YAML 1.1 these end a line, wherever they stand
    if set("\x85\u2028\u2029") & set(text):
        text = yaml.dump(content, allow_unicode=False, **options)
    return text


def problem_of(error: Exception) -> str:
    """What is wrong with a file that is no YAML, and in which line: on one line."""
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}" if mark else ""
    problem = getattr(error, "problem", None) or str(error)
    return f"not valid YAML{where}: {' '.join(problem.split())}"
