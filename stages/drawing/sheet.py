"""Pictures in rows and columns with a legend for each row, like the paper's Figure 3."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from stages.drawing.colours import Colour, css
from stages.drawing.figures import Patch, Sheet

GAP = 0.04  # inches, between pictures
LETTER = 0.075  # inches, of a letter in the legend at its size
TEXT = 8  # points
LINE = 0.14  # inches
PATCH = 0.4  # inches, of a patch of colour and its margins


@dataclass(frozen=True)
class Row:
    """One row of a sheet.

    Attributes
    ----------
    title : str
    pictures : sequence of PIL images
        One a column, of one shape in all rows.
    legend : sequence of (colour, name)
    """

    title: str
    pictures: Sequence[Image.Image]
    legend: Sequence[tuple[Colour, str]]


def sheet(rows: Sequence[Row], height: float) -> Sheet:
    """Rows of pictures that are `height` inches high; none is scaled in a vector format."""
    widths = [height * one.width / one.height for one in rows[0].pictures]
    left = max(LETTER * len(row.title) for row in rows) + 2 * GAP
    lines = max(1, int(height / LINE))
    longest = max((len(name) for row in rows for _, name in row.legend), default=0)
    right = max(_columns(row, lines) for row in rows) * (PATCH + LETTER * longest)
    width = left + sum(one + GAP for one in widths) + right
    tall = len(rows) * (height + GAP) + GAP
    figure = Sheet(figsize=(width, tall))
    for at, row in enumerate(rows):
        bottom = 1 - (at + 1) * (height + GAP) / tall
        middle = bottom + height / tall / 2
        figure.text((left - 2 * GAP) / width, middle, row.title, size=TEXT, ha="right", va="center")
        start = left
        for picture, wide in zip(row.pictures, widths, strict=True):
            axes = figure.add_axes((start / width, bottom, wide / width, height / tall))
            axes.imshow(picture, interpolation="none", aspect="auto")
            axes.set_axis_off()
            start += wide + GAP
        patches = [Patch(color=css(colour), label=name) for colour, name in row.legend]
        figure.legend(
            handles=patches,
            loc="center left",
            bbox_to_anchor=(start / width, middle),
            fontsize=TEXT,
            frameon=False,
            handlelength=1,
            ncols=_columns(row, lines),
            borderaxespad=0,
        )
    return figure


def _columns(row: Row, lines: int) -> int:
    """Of a row's legend, which has room for so many lines."""
    return max(1, -(-len(row.legend) // lines))
