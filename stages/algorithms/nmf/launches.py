"""How the kernels are launched: tiles, and what goes at once."""

from typing import NamedTuple

from torch import Tensor

from stages.algorithms.nmf import fused_kernels as kernels
from stages.algorithms.nmf.placed import GROUP, Cut

PIECE_ROWS, LONG_PIECE_ROWS = 1024, 4096
FEW_COLUMNS = 64  # up to here pieces are short, since there is little to keep for each
# The few rows of a warm start in many pieces, so that every multiprocessor has some.
START_ROWS, LONG_START_ROWS, FEW_STARTS = 128, 512, 256


class Chunk(NamedTuple):
    """Some groups of pieces of a part that are worked on at once."""

    groups: tuple[int, int]
    pieces: tuple[int, int]
    rows: tuple[int, int]


def products(A: Tensor, W: tuple[Tensor, Tensor], P: Tensor, scale: float, half: bool) -> None:
    """P = scale A W^T."""
    rows, channels = A.shape
    tile, wide = 128, blocks_of(P.shape[1])
    programs = -(-rows // tile) * -(-P.shape[1] // wide)
    kernels.products[(programs,)](
        A, *W, P, rows, P.shape[1], channels, scale,
        HALF=half, BM=tile, BN=wide, BC=64 if half else 32, num_warps=4, num_stages=3,
    )  # fmt: skip


def sums(A: Tensor, H: Tensor, partials: Tensor, cut: Cut, chunk: Chunk, half: bool) -> None:
    """H^T A of every piece of a chunk."""
    pieces, columns, channels = partials.shape
    wide = blocks_of(columns)
    width = 128 if half and wide <= 32 else 64
    kernels.sums[(pieces, -(-channels // width), -(-columns // wide))](
        A, H, partials, cut.pieces_there, chunk.pieces[0], chunk.rows[0], columns, channels,
        HALF=half, BN=wide, BC=width, BR=64 if half else 32, num_warps=4, num_stages=3,
    )  # fmt: skip


def add_up(partials: Tensor, total: Tensor, cut: Cut, chunk: Chunk) -> None:
    """Add what the pieces of a chunk gave to the total."""
    size = total.numel()
    kernels.add_pieces[(-(-size // 16),)](
        partials, total, cut.groups_there, *chunk.groups, chunk.pieces[0], size,
        MOST=GROUP, B=16, num_warps=4,
    )  # fmt: skip


def blocks_of(columns: int) -> int:
    """Columns of a tile of the products: a power of two."""
    return min(64, max(16, 1 << (columns - 1).bit_length()))
