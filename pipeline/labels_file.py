"""The labels file of a project that nobody has labelled yet."""

from pathlib import Path

from store import write_atomically

EMPTY = """\
# What the factors show, in your words: `dff label` writes a form to fill in. While it is empty,
# coverage decides which parts belong to a factor (eq. 7 of the paper).
"""


def ensure_labels(path: Path) -> None:
    """Put an empty file where there is none: DVC wants what a stage reads to exist."""
    if not path.exists():
        write_atomically(path, EMPTY.encode())
