"""What one pass over the rows is asked for, and what it gives: the terms all engines share."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.nmf.sample import Sample
from stages.algorithms.rows import RowBlocks

Matrix = NDArray[np.float64]
Array = NDArray[Any]
Write = Callable[[int, Array], None]


@dataclass(frozen=True)
class Rule:
    """How H is found from P = A W^T and G = W W^T.

    Attributes
    ----------
    tol, sweeps : float, int
        Least squares: stop when no coefficient of a group of rows moved by more than `tol` times
        the largest one, or after so many sweeps.
    multiplicative : bool
        ``H <- H * P / (H G)`` instead, from the H of the last pass.
    """

    tol: float = 1e-6
    sweeps: int = 200
    multiplicative: bool = False


EXACT = Rule(sweeps=2000)  # converges even for nearly equal factors


@dataclass(frozen=True)
class Stack:
    """The factors of several factorizations, side by side: one product of A serves them all.

    Attributes
    ----------
    factors : sequence of float64 [k, channels]
        W of each factorization.
    dtype : dtype
        Type of the products: float32 or float64.
    into : sequence of int, optional
        The first column of each factorization in H, where H has others as well.
    """

    factors: Sequence[Matrix]
    dtype: np.dtype[Any]
    into: Sequence[int] | None = None

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """k of each factorization."""
        return np.array([len(W) for W in self.factors], dtype=np.int64)

    @cached_property
    def firsts(self) -> NDArray[np.int64]:
        """First column of each factorization in the stack."""
        return np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """First column of each factorization in H."""
        return self.firsts if self.into is None else np.array(self.into, dtype=np.int64)

    @property
    def columns(self) -> int:
        """Factors of all factorizations together."""
        return int(self.sizes.sum())

    @cached_property
    def side_by_side(self) -> Array:
        """All factors ``[columns, channels]`` in `dtype`."""
        return np.concatenate(self.factors).astype(self.dtype)

    @cached_property
    def grams(self) -> Array:
        """``W W^T`` of each factorization ``[problems, largest k, largest k]``, zero-padded."""
        largest = int(self.sizes.max())
        G = np.zeros((len(self.factors), largest, largest), self.dtype)
        for one, W in zip(G, self.factors, strict=True):
            one[: len(W), : len(W)] = W @ W.T
        return G


@dataclass(frozen=True)
class Sums:
    """What one pass adds up for one factorization, float64.

    Attributes
    ----------
    HtA : [k, channels] or None
        ``H^T A``; None where it was not asked for.
    HtH : [k, k]
    HtP : float
        ``tr(H^T A W^T)`` for the W of the pass.
    """

    HtA: Matrix | None
    HtH: Matrix
    HtP: float


class Engine(Protocol):
    """Where the passes are computed: on a CPU or a GPU."""

    def run_pass(
        self,
        rows: RowBlocks,
        stack: Stack,
        rule: Rule,
        *,
        H: Array | None = None,
        write: Write | None = None,
        with_HtA: bool = True,
    ) -> list[Sums]:
        """Read all rows once: H of every factorization, and the sums over the rows.

        Parameters
        ----------
        rows : RowBlocks [rows, channels]
            Checked before: finite and >= 0.
        stack, rule
        H : array [rows, columns], optional
            Multiplicative rule: the last H; its columns of these factorizations are replaced.
            Otherwise room for the H that is found.
        write : callable, optional
            Called with the first row and H ``[rows, columns of the stack]`` of every block, in
            order. The array is valid during the call only: its memory is used again.
        with_HtA : bool
            False leaves ``H^T A`` out, which is half of the work.
        """

    def survey(self, block: Any, *, signed: bool = False) -> tuple[float, bool]:
        """``sum(x^2)`` of a block, in float64, and whether all values are finite and, unless
        `signed`, >= 0."""

    def room(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
        """Memory for H, uninitialised, that passes fill fastest."""


@runtime_checkable
class DeviceEngine(Engine, Protocol):
    """An engine that brings the rows to its device, and does more there than passes."""

    def read(self, rows: RowBlocks, indices: NDArray[np.int64]) -> tuple[float, Sample] | None:
        """Read all rows once: ``||A||_F^2``, and those of `indices` (ascending), on the device.

        None where these rows are not for the device's own way of working.

        Raises
        ------
        ValueError
            Values that are not finite or below zero; the line names the row, and its image.
        """

    def accelerated(
        self, rows: RowBlocks, starts: Sequence[Matrix], updates: int, dtype: np.dtype[Any]
    ) -> list[tuple[float, Matrix]] | None:
        """`initial.accelerated` on the device; None as in `read`."""


def numbered_blocks(rows: RowBlocks) -> Iterator[tuple[int, Any]]:
    """(first row, block) of one pass, none of which lies about its size: kernels check no bounds.

    Raises
    ------
    ValueError
        When a block does not fit the shape that the rows say they have, or rows are missing.
    """
    total, channels = rows.shape
    start = 0
    for block in rows.blocks():
        count, width = int(block.shape[0]), int(block.shape[1])
        if width != channels or start + count > total:
            raise ValueError(
                f"A says it is {total} x {channels}; a block from row {start} on is "
                f"{count} x {width}"
            )
        yield start, block
        start += count
    if start != total:
        raise ValueError(f"A says it has {total} rows, its blocks have {start}")


def loss_of(norm: float, W: Matrix, sums: Sums) -> float:
    """``||A - HW||_F^2`` for any W from the sums of a pass and ``||A||_F^2``, clamped at 0."""
    assert sums.HtA is not None
    loss = norm - 2 * (sums.HtA * W).sum() + (sums.HtH * (W @ W.T)).sum()
    return float(np.maximum(loss, 0.0))


def loss_of_pass(norm: float, W: Matrix, sums: Sums) -> float:
    """The same for the W that the pass was made with; needs no ``H^T A``."""
    return float(np.maximum(norm - 2 * sums.HtP + (sums.HtH * (W @ W.T)).sum(), 0.0))


def unit_rows(W: Matrix) -> Matrix:
    """W with unit L2 rows; all-zero rows stay zero."""
    norms = np.linalg.norm(W, axis=1, keepdims=True)
    return W / np.where(norms > 0, norms, 1)
