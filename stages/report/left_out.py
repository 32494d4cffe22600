"""What the report lists as not used: files, images, annotations."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.report.opened import Opened

MOST_LISTED = 200


@dataclass(frozen=True)
class LeftOutList:
    """One list of the page; `rows` have a name and a reason, the first `MOST_LISTED` of `count`."""

    id: str
    title: str
    meaning: str
    count: int
    rows: list[dict[Hashable, Any]]


def left_out_lists(opened: Opened) -> list[LeftOutList]:
    """What was left out, by kind; kinds of which there is nothing are missing."""
    files, truth = opened.index.failures, opened.evaluation.failures
    tables = [
        ("failures", "Images that could not be used", "", files[files["kind"] == "image"]),
        ("files", "Files that are no photographs", "", files[files["kind"] == "file"]),
        (
            "unassigned",
            "Annotations that were not used",
            "They belong to no image, or nobody knows to which.",
            files[files["kind"] == "annotation"],
        ),
        (
            "damaged",
            "Annotations that could not be read",
            "These images were factorized, but do not count in the scores.",
            truth[~truth["scored"]],
        ),
        (
            "doubtful",
            "Annotations that look wrong",
            "They count in the scores all the same.",
            truth[truth["scored"]],
        ),
    ]
    return [
        LeftOutList(id, title, meaning, len(table), _rows(table))
        for id, title, meaning, table in tables
        if len(table)
    ]


def _rows(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return table[:MOST_LISTED].to_dict("records")
