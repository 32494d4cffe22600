"""The one projection of memory: sums, workers that fit, and the line that refuses."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.frame.errors import StageError
from stages.frame.memory import MIB, Needs, resources_within
from stages.frame.resources import Resources

SIZES = st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 2**40), max_size=4)


@given(SIZES, SIZES, st.integers(1, 64), st.integers(0, 2**42))
def test_the_workers_that_fit_fit_and_one_more_would_not(
    fixed: dict[str, int], each: dict[str, int], workers: int, memory: int
) -> None:
    needs, resources = Needs(fixed, each), Resources("cpu", workers, memory)
    fitting = needs.workers_within(resources)
    assert 0 <= fitting <= workers
    if fitting:
        assert needs.peak(fitting) <= memory
        assert resources_within("toy", needs, resources).workers == fitting
    if fitting < workers:
        assert needs.peak(fitting + 1) > memory


def test_what_does_not_fit_is_refused_in_one_line_with_both_numbers() -> None:
    needs = Needs({"libraries": 300 * MIB, "a note": 1}, {"a map": 50 * MIB}, remedy="go small")
    with pytest.raises(StageError) as raised:
        resources_within("toy", needs, Resources("cpu", 4, 349 * MIB))
    assert str(raised.value) == (
        "toy needs about 350 MiB (300 for libraries, 50 for a map), the budget is 349 MiB: "
        "go small, or raise --memory"
    )
    assert resources_within("toy", needs, Resources("cpu", 4, 350 * MIB + 1)).workers == 1
    assert resources_within("toy", needs, Resources("cpu", 4, 449 * MIB)).workers == 2
    assert resources_within("toy", needs, Resources("cpu", 4, 2**40)).workers == 4


def test_resident_is_what_the_process_holds() -> None:
    """In a process of its own: one that has run other tests has free room to hand out again."""
    code = """
from stages.frame.memory import MIB, resident
before = resident("json")
kept = bytearray(64 * MIB)
kept[::4096] = b"x" * len(kept[::4096])
print((resident("json") - before) / MIB)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert 60 < float(shown.stdout) < 80
