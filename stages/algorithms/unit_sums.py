"""Sums over rows in an order that parts of them can be summed up in, wherever each part is.

Blocks are added in order within a *unit*: consecutive blocks of `UNIT_ROWS` rows or more. The sums
of units are added up by a balanced binary tree over their numbers. Floating-point sums depend on
their order; this one is the same whether all units are summed up by one process, or aligned ranges
of them (of a power of two of units, from a multiple of it on) by many, in any order of time.
"""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
UNIT_ROWS = 65536  # at least so many rows of a unit


class TreeSum(Generic[T]):
    """The sum of values that come in order, by a binary tree over their numbers.

    Of n values the first 2^m are added up apart from the others, 2^m the largest power of two below
    n; so are either's. At most ``log2(n) + 1`` sums are held. The sums of aligned ranges of as many
    values each (the last may have fewer) give the same sum, to the last bit.

    Parameters
    ----------
    add : callable
        The sum of two values; it may change the first of them.

    Examples
    --------
    >>> whole = TreeSum(lambda left, right: f"({left}+{right})")
    >>> for value in "abcdefg":
    ...     whole.push(value)
    >>> whole.total()
    '(((a+b)+(c+d))+((e+f)+g))'
    """

    def __init__(self, add: Callable[[T, T], T]) -> None:
        self.add = add
        self._waiting: list[tuple[int, T]] = []  # (level, sum of 2^level values), largest first

    def push(self, value: T) -> None:
        """Take the next value."""
        level = 0
        while self._waiting and self._waiting[-1][0] == level:
            value = self.add(self._waiting.pop()[1], value)
            level += 1
        self._waiting.append((level, value))

    def total(self) -> T | None:
        """The sum of all values, after which there are none; None of none."""
        if not self._waiting:
            return None
        value = self._waiting.pop()[1]
        while self._waiting:
            value = self.add(self._waiting.pop()[1], value)
        return value


def tree_sum(values: Iterable[T], add: Callable[[T, T], T]) -> T:
    """The sum of one or more values by a `TreeSum`.

    Raises
    ------
    ValueError
        When there are no values.
    """
    tree = TreeSum(add)
    for value in values:
        tree.push(value)
    total = tree.total()
    if total is None:
        raise ValueError("there is nothing to add up")
    return total


class UnitSum(Generic[T]):
    """The sum of what comes block by block, in order.

    Parameters
    ----------
    empty : callable
        A new sum of nothing.
    add : callable
        The sum of two; it may change the first of them.
    """

    def __init__(self, empty: Callable[[], T], add: Callable[[T, T], T]) -> None:
        self._empty, self._add = empty, add
        self._tree = TreeSum(add)
        self._unit: T | None = None
        self._rows = 0

    def add(self, value: T) -> None:
        """Take in what some rows of the block add."""
        self._unit = self._add(self._empty() if self._unit is None else self._unit, value)

    def end_block(self, rows: int) -> None:
        """All of a block of so many rows has been added."""
        self._rows += rows
        if self._rows >= UNIT_ROWS:
            self._end_unit()

    def _end_unit(self) -> None:
        if self._unit is not None:
            self._tree.push(self._unit)
        self._unit, self._rows = None, 0

    def total(self) -> T:
        """The sum of everything."""
        self._end_unit()
        total = self._tree.total()
        return self._empty() if total is None else total


def unit_blocks(rows_per_block: int) -> int:
    """Blocks of a unit, where all blocks but the last have so many rows."""
    return -(-UNIT_ROWS // max(1, rows_per_block))
