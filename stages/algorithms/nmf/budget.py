"""What a factorization will need, known before it starts."""

from collections.abc import Sequence

from stages.algorithms.nmf.cpu import PIECE_ROWS
from stages.algorithms.nmf.initial import BATCH_BYTES, SAMPLE_BYTES, SAMPLE_ROWS, STARTS
from stages.algorithms.nmf.kernels import LANES
from stages.algorithms.nmf.solvers import SOLVERS


def bytes_needed(
    shape: tuple[int, int],
    density: float,
    ks: Sequence[int],
    seeds: Sequence[int],
    *,
    solver: str,
    block_rows: int,
    threads: int,
) -> int:
    """Bytes that the passes take when the rows are streamed, libraries not counted.

    Parameters
    ----------
    shape : (rows, channels)
    density : float
        Share of non-zeros of sparse blocks; 1 for dense ones.
    block_rows : int
        Rows per block of the matrix.

    Returns
    -------
    int
        An estimate from above, float32 products: five blocks (one is read and decoded while pieces
        of two are in work), the sums of the pieces under way, the row sample, the starts, the
        blocks of H; and all of H where the solver keeps it.
    """
    rows, channels = shape
    columns = sum(ks) * len(seeds)
    row_bytes = min(8 * density, 4) * channels + 8
    under_way = 2 * threads + 2
    padded = -(-columns // LANES) * LANES
    starts = 8 * channels * STARTS * columns
    sample = min(SAMPLE_ROWS, rows) * row_bytes if density < 1 else SAMPLE_BYTES
    block = min(block_rows, rows)
    return round(
        5 * block * row_bytes
        + under_way * (8 * channels * padded + PIECE_ROWS * 4)
        + under_way * max(BATCH_BYTES, 8 * channels * (max(ks) + LANES))
        + 2 * sample
        + 3 * starts
        + 3 * block * columns * 4
        + (rows * columns * 4 if SOLVERS[solver].keeps_coefficients else 0)
    )
