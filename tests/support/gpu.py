"""What the tests on a GPU share: who skips them, rows to factorize, and a place of its own.

``DFF_TEST_DEVICE=cpu:0`` runs them without a GPU, on the same engine, to try their own code.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from tools import ROOT

DEVICE = os.environ.get("DFF_TEST_DEVICE", "cuda")
REASON = "needs a CUDA device"
needs_cuda = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason=REASON
)  # fmt: skip

# Begins a script that may use no more than so many bytes of the device, as if others had the rest.
SMALL_DEVICE = """
import torch
if torch.cuda.is_available():
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction({limit} / whole)
"""


def planted(rows: int, channels: int = 256, density: float = 1.0, seed: int = 0) -> np.ndarray:
    """Rows of a few directions and noise, float32, the small values cut off."""
    rng = np.random.default_rng(seed)
    W = rng.gamma(0.3, 1.0, (6, channels)).astype(np.float32)
    A = rng.gamma(0.5, 1.0, (rows, 6)).astype(np.float32) @ W
    A += 0.05 * rng.standard_exponential(A.shape, dtype=np.float32)
    if density < 1:
        A[np.quantile(A[:512], 1 - density) > A] = 0
    return A


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of the factors [k, channels] of two factorizations, each with the one that is most like it.

    Where two explain nearly the same, rounding decides which comes first.
    """
    products = one.astype(float) @ other.astype(float).T
    return products[linear_sum_assignment(-products)]


def python(code: str, *arguments: str, cwd: Path = ROOT) -> "subprocess.Popen[str]":
    """A process that runs some Python with this project and these tools on its path."""
    path = [str(ROOT), str(ROOT / "tests/support"), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: "subprocess.Popen[str]") -> str:
    """What it prints, once it has ended well."""
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return printed.strip()
