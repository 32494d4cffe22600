"""The application: the `dff` command, and `pipeline.results` for notebooks."""

from typing import Any


def __getattr__(name: str) -> Any:
    """``__version__``, looked up when asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("dff-pipeline")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
