"""Without a GPU, Triton's interpreter is to run the CUDA kernels: import this before Triton."""

import importlib.util
import os
from typing import Any

import numpy as np
import torch

CUDA = torch.cuda.is_available()


def _dot(self: Any, a: Any, b: Any, d: Any, *_: Any) -> Any:
    """A product of tiles in which no row's bits depend on its place, as on a GPU.

    The interpreter's own leaves it to BLAS, which takes the last rows of a tile another way than
    the first, on some processors.
    """
    product = np.einsum("...ij,...jk->...ik", a.data, b.data, dtype=d.data.dtype, casting="unsafe")
    return type(d)(product + d.data, d.dtype.scalar)


if not CUDA:  # read when its functions and the kernels are made
    os.environ["TRITON_INTERPRET"] = "1"
    if importlib.util.find_spec("triton"):
        from triton.runtime.interpreter import InterpreterBuilder

        InterpreterBuilder.create_dot = _dot
