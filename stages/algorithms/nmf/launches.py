"""How the kernels are launched: tiles, and what goes at once."""

from typing import NamedTuple

import torch
from torch import Tensor

from stages.algorithms.nmf import fused_kernels as kernels
from stages.algorithms.nmf import solve_kernels
from stages.algorithms.nmf.placed import GROUP, Cut
from stages.algorithms.nmf.problems import Problems, SizeClass
from stages.algorithms.nmf.stack import Rule

PIECE_ROWS, LONG_PIECE_ROWS = 1024, 4096
FEW = 16  # coordinates that are solved in a thread's registers
FEW_COLUMNS = 64  # up to here pieces are short, since there is little to keep for each


class Chunk(NamedTuple):
    """Some groups of pieces of a part that are worked on at once."""

    groups: tuple[int, int]
    pieces: tuple[int, int]
    rows: tuple[int, int]


class Coefficients(NamedTuple):
    """H of some rows, and as `fused_kernels.sums` multiplies with it.

    Attributes
    ----------
    H : float32 [rows, columns]
    hi, lo, scales : float16 [rows, stride] twice, float32 [pieces, columns]
        ``H = scale (hi + lo)``; where A is float32 they are H and not used.
    """

    H: Tensor
    hi: Tensor
    lo: Tensor
    scales: Tensor

    @property
    def half(self) -> bool:
        """Whether A is float16."""
        return self.hi.dtype == torch.float16


def stride_of(columns: int) -> int:
    """Columns of a row of `Coefficients.hi`: rows begin where copies of 16 bytes may."""
    return -(-columns // 16) * 16


def products(A: Tensor, W: tuple[Tensor, Tensor], P: Tensor, scale: float) -> None:
    """P = scale A W^T."""
    rows, channels = A.shape
    half, tile, wide = A.dtype == torch.float16, 128, blocks_of(P.shape[1])
    programs = -(-rows // tile) * -(-P.shape[1] // wide)
    kernels.products[(programs,)](
        A, *W, P, rows, P.shape[1], channels, scale,
        HALF=half, BM=tile, BN=wide, BC=64 if half else 32,
        num_warps=8 if half and wide == 64 else 4, num_stages=3,
    )  # fmt: skip


def solve(
    found: Coefficients,
    problems: Problems,
    one: SizeClass,
    factors: tuple[Tensor, Tensor],
    grams: Tensor,
    cut: Cut,
    chunk: Chunk,
    rule: Rule,
) -> None:
    """P, which `found.H` holds, becomes H; `factors` are G and 1 / its diagonal."""
    pieces, columns = chunk.pieces[1] - chunk.pieces[0], found.H.shape[1]
    arguments = (
        found.H, *factors, found.hi, found.lo, found.scales, one.there, problems.firsts,
        problems.sizes, cut.pieces_there, chunk.pieces[0], chunk.rows[0], grams, columns,
        found.hi.shape[1], rule.sweeps, rule.tol,
    )  # fmt: skip
    grid = (pieces, len(one.problems))
    if one.most <= FEW:
        solve_kernels.solve_few[grid](
            *arguments, HALF=found.half, K=one.K, M=one.most, BR=32, num_warps=1
        )
        return
    solve_kernels.solve[grid](*arguments, HALF=found.half, K=one.K, BR=max(32, 1024 // one.K))


def sums(A: Tensor, found: Coefficients, partials: Tensor, cut: Cut, chunk: Chunk) -> None:
    """H^T A of every piece of a chunk."""
    pieces, columns, channels = partials.shape
    half, wide = found.half, blocks_of(columns)
    width = min(256, 1 << (channels - 1).bit_length()) if half else 64
    programs = pieces * -(-channels // width) * -(-columns // wide)
    kernels.sums[(programs,)](
        A, found.hi, found.lo, found.scales, partials, cut.pieces_there, chunk.pieces[0],
        chunk.rows[0], columns, found.hi.shape[1], channels,
        HALF=half, BN=wide, BC=max(16, width), BR=64 if half else 32, num_warps=4, num_stages=3,
    )  # fmt: skip


def add_up(partials: Tensor, total: Tensor, cut: Cut, chunk: Chunk, *, fresh: bool = False) -> None:
    """Add what the pieces of a chunk gave to the total, or make that the total."""
    size = total.numel()
    kernels.add_pieces[(-(-size // 32),)](
        partials, total, cut.groups_there, *chunk.groups, chunk.pieces[0], size,
        FRESH=fresh, MOST=GROUP, B=32, num_warps=4,
    )  # fmt: skip


def start_rows(columns: int) -> int:
    """Rows of a piece of a warm start: few, so that every multiprocessor has some pieces."""
    return 128 if columns <= 1024 else 256


def blocks_of(columns: int) -> int:
    """Columns of a tile of the products: a power of two."""
    return min(64, max(16, 1 << (columns - 1).bit_length()))
