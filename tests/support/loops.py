"""Which of the two sets of NMF kernels a test runs on."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stages.algorithms.nmf import kernels

SETS = ("vector", "plain")


@contextmanager
def loops(name: str) -> Iterator[None]:
    """Run NMF on a CPU on the kernels of that name."""
    module = importlib.import_module(f"{kernels.__name__}.{name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "chosen", lambda: module)
        yield
