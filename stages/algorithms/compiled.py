"""Functions compiled by Numba on first use."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Compiled without the interpreter lock, and kept on disk where that can be written to."""
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no place to keep it
        return njit(nogil=True, error_model="numpy")(function)
