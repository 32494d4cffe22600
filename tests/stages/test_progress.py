"""What long work says of itself where there is no terminal."""

import itertools

import numpy as np
import pytest
from numba import njit

from stages.frame import progress
from stages.frame.compiling import told_of_compiling
from stages.frame.progress import track


def test_rate_leaves_out_what_comes_before_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # the first image after 100 s, say of compiling, each of the others after 4 s
    clock = itertools.chain([0.0, 100.0], itertools.count(104.0, 4.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with track("refine", 21, "images") as advance:
        for _ in range(21):
            advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "refine: 1/21 images"
    # 12 s later three more are done, and seventeen are left at four seconds each
    assert lines[1] == "refine: 4/21 images, 0.2/s, 68 s left"
    assert lines[-1].startswith("refine: 21 images in ")


def test_compiling_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    def doubled(values):  # type: ignore[no-untyped-def]
        return 2 * values

    loop, other = njit(doubled), njit(doubled)
    with told_of_compiling():
        assert loop(np.ones(2)).sum() == other(np.ones(2)).sum() == 4
    assert capsys.readouterr().err.count("compiling") == 1
    with told_of_compiling():
        loop(np.ones(3))
    assert capsys.readouterr().err == ""
