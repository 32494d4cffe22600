"""How kernels are compiled, and the sizes they agree on."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

LANES = 16
GROUP = 128  # rows that are gathered, solved and scattered together: W is read once for them
WIDE = 4 * LANES  # rows that are solved side by side; channels that are summed up together
PAIR = 2  # columns of dense rows that are multiplied together

_SOURCES = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()[:12]


def compiled(function: Callable[..., Any]) -> Any:
    """Compiled on first use and kept on disk, where there is a place that can be written to.

    Numba's cache sees a change of the function's own file only; what is kept is named after the
    function, and so after all files of this folder, too.
    """
    from numba import njit  # takes a while, and a GPU needs none of it

    function.__qualname__ += f"_{_SOURCES}"
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no such place
        return njit(**options)(function)
