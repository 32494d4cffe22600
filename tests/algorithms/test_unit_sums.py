"""Sums in an order that aligned parts of them can be summed up in."""

import operator
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from stages.algorithms import unit_sums
from stages.algorithms.nmf import Sweep
from stages.algorithms.nmf.cpu import CpuEngine
from stages.algorithms.nmf.stack import EXACT, Stack
from stages.algorithms.normalised import sum_of_rows
from stages.algorithms.rows import MatrixRows
from stages.algorithms.unit_sums import TreeSum, UnitSum, tree_sum, unit_blocks


def split(values: list[float]) -> float:
    """The definition: the first 2^m apart from the others, 2^m the largest below their number."""
    if len(values) == 1:
        return values[0]
    half = 1 << ((len(values) - 1).bit_length() - 1)
    return split(values[:half]) + split(values[half:])


NUMBERS = st.lists(st.floats(-1e15, 1e15), min_size=1, max_size=70)


@given(NUMBERS, st.integers(0, 6), st.integers(0, 3))
def test_aligned_parts_give_the_same_bits(values: list[float], level: int, fan_in: int) -> None:
    expected = split(values)
    assert tree_sum(values, operator.add) == expected
    sums = values
    for size in (2**level, 2**fan_in):  # parts, and sums of so many parts
        pieces = [sums[at : at + size] for at in range(0, len(sums), size)]
        sums = [tree_sum(piece, operator.add) for piece in pieces]
    assert tree_sum(sums, operator.add) == expected


def test_few_sums_are_held() -> None:
    tree: TreeSum[int] = TreeSum(operator.add)
    for count in range(1, 1000):
        tree.push(1)
        assert len(tree._waiting) <= count.bit_length()
    assert tree.total() == 999
    assert tree.total() is None
    with pytest.raises(ValueError, match="nothing to add up"):
        tree_sum([], operator.add)


def test_blocks_are_added_in_order_within_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_sums, "UNIT_ROWS", 10)
    sums: UnitSum[str] = UnitSum(lambda: "0", lambda left, right: f"({left}{right})")
    for name in "abcdefg":  # two blocks of 5 and more rows are a unit
        sums.add(name)
        sums.end_block(7 if name == "e" else 5)
    assert sums.total() == "((((0a)b)((0c)d))(((0e)f)(0g)))"
    assert UnitSum(lambda: 0, operator.add).total() == 0
    assert [unit_blocks(rows) for rows in (1, 5, 9, 10, 11)] == [10, 2, 2, 1, 1]


def blocks_of(A: object, rows: int) -> Iterator[MatrixRows]:
    for at in range(0, A.shape[0], rows):  # type: ignore[attr-defined]
        yield MatrixRows(A[at : at + rows], 100)  # type: ignore[index]


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array], ids=["dense", "sparse"])
def test_passes_over_units_add_up_to_a_pass_over_all(
    form: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_sums, "UNIT_ROWS", 250)  # three blocks of 100
    rng = np.random.default_rng(0)
    A = rng.gamma(0.3, 1.0, (2150, 17)).astype(np.float32)
    A[A < 0.2] = 0
    stack = Stack([rng.random((k, 17)) for k in (1, 4)], np.dtype(np.float32))
    whole = form(A)
    found = CpuEngine(2).run_pass(MatrixRows(whole, 100), stack, EXACT)
    parts = [CpuEngine(1).run_pass(rows, stack, EXACT) for rows in blocks_of(whole, 300)]
    assert len(parts) == 8
    for at, sums in enumerate(found):
        for name in ("HtA", "HtH", "HtP"):
            each = [getattr(part[at], name) for part in parts]
            expected = tree_sum(each, np.add)
            assert np.array_equal(getattr(sums, name), expected)
    rows = [sum_of_rows(part) for part in blocks_of(whole, 300)]
    assert np.array_equal(sum_of_rows(MatrixRows(whole, 100)), tree_sum(rows, np.add))
    norms = [Sweep(part, (1,)).norm for part in blocks_of(whole, 300)]
    assert Sweep(MatrixRows(whole, 100), (1,)).norm == tree_sum(norms, operator.add)
