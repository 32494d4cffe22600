"""How these kernels are compiled, and what they agree on."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stages.algorithms.nmf.kernels.compiling import LANES
from stages.algorithms.nmf.kernels.compiling import compiled as compiled_with_lanes

__all__ = ["LANES", "MIDDLE", "MODEL", "F", "compiled"]

F = np.float32
MODEL = 4 * LANES  # numbers of a pixel's local linear models: offsets, then slopes of each colour
MIDDLE = F(0.5)  # taken from colours

_SOURCES = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()[:12]


def compiled(function: Callable[..., Any]) -> Any:
    """Compiled on first use and kept on disk, as long as no file of this folder changes."""
    function.__qualname__ += f"_{_SOURCES}"
    return compiled_with_lanes(function)
