"""What a network computes in: types, and the switch for TF32 that torch keeps for all threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

PRECISIONS = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Values from here on are infinite as float16, rounded to the nearest.
FLOAT16_END = 65520.0

# The switch is the whole process's: whoever turns it keeps the others from their convolutions.
_SWITCH = Lock()


@contextmanager
def convolutions(tf32: bool) -> Iterator[None]:
    """Run CUDA convolutions in TF32 (10 bits of mantissa), or strictly in float32.

    Torch's default is TF32, which float32 must not silently mean. The setting is read when an
    operation is launched, not when it runs, so it is held only while a pass is being launched;
    passes that want another one wait for their turn. Convolutions that other code launches in
    another thread meanwhile may see it. Matrix products are left alone: torch's default for them
    is float32.

    Parameters
    ----------
    tf32
        Whether TF32 is wanted. It changes nothing for other types than float32.
    """
    with _SWITCH:
        before = _get()
        _set(_wanted(tf32, before))
        try:
            yield
        finally:
            _set(before)


def _wanted(tf32: bool, like: str | bool) -> str | bool:
    return tf32 if isinstance(like, bool) else "tf32" if tf32 else "ieee"


def _get() -> str | bool:
    cudnn: Any = torch.backends.cudnn
    if hasattr(cudnn, "conv"):  # torch 2.9 on, which warns about the older name
        return str(cudnn.conv.fp32_precision)
    return bool(cudnn.allow_tf32)


def _set(value: str | bool) -> None:
    cudnn: Any = torch.backends.cudnn
    if isinstance(value, str):
        cudnn.conv.fp32_precision = value
    else:
        cudnn.allow_tf32 = value
