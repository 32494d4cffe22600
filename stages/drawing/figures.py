"""Figures of matplotlib: imported here alone, and made without pyplot."""

import io
import os
import sys
from contextlib import suppress
from typing import Any


def _import_safely() -> None:
    """Import matplotlib whatever MPLBACKEND says.

    Jupyter names a backend that only its own environment has, and every process that is started
    from a notebook inherits it; matplotlib refuses to be imported then. Nothing here needs one.
    """
    if "matplotlib" in sys.modules:
        return
    aside = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if aside is not None:
            os.environ["MPLBACKEND"] = aside
    with suppress(ValueError):  # no backend of this environment
        if aside is not None:
            matplotlib.rcParams["backend"] = aside


_import_safely()
import matplotlib  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

__all__ = ["FORMATS", "Axes", "Figure", "MaxNLocator", "Patch", "Sheet", "encoded", "matplotlib"]

FORMATS = ("pdf", "svg", "png")
# Text stays text, in fonts that editors and printers take; the same figure gives the same bytes.
STYLE: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "dff"}
NO_DATE = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


class Sheet(Figure):
    """A figure that a notebook shows, with or without pyplot."""

    def _repr_png_(self) -> bytes:
        return encoded(self, "png", 110)


def encoded(figure: Figure, format: str, dpi: float) -> bytes:
    """The bytes of a figure's file.

    Parameters
    ----------
    format : str
        One of `FORMATS`.
    dpi : float
        Of a PNG; pictures in the others keep the pixels they have.
    """
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format=format, dpi=dpi, metadata=NO_DATE[format])
    return file.getvalue()
