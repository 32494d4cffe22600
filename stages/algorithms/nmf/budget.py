"""What a factorization will need, known before it starts."""

from collections.abc import Sequence

from stages.algorithms.nmf.aside import at_once
from stages.algorithms.nmf.cpu import PIECE_ROWS
from stages.algorithms.nmf.initial import BATCH_BYTES, DENSE_STARTS, SAMPLE_BYTES, SAMPLE_ROWS
from stages.algorithms.nmf.kernels import LANES
from stages.algorithms.nmf.solvers import SOLVERS

READERS = 2  # threads that read for a GPU: more get in each other's way (the interpreter lock)


def device_holds(shape: tuple[int, int], density: float, device: str, *, half: bool = True) -> bool:
    """Whether a GPU has room for all rows, dense or as their non-zeros.

    Parameters
    ----------
    shape : (rows, channels)
    density : float
        Share of non-zeros.
    device : str
        By its name in torch.
    half : bool
        Whether values are float16.
    """
    import torch

    from stages.algorithms.nmf.placed import free_bytes

    values = shape[0] * shape[1]
    size = 2 if half else 4
    smaller = min(size * values, round((2 + size) * density * values) + 8 * shape[0])
    return smaller <= free_bytes(torch.device(device)) // 2


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
        An estimate from above, float32 products: blocks and their H, the sums of the pieces under
        way, the row sample and its Gram matrix, the starts; and all of H where the solver keeps it.
        Blocks with far more non-zeros than the share of the whole layer take more.
    """
    rows, channels = shape
    columns = sum(ks) * len(seeds)
    row_bytes = min(8 * density, 4) * channels + 8
    under_way = 2 * threads + 2
    padded = -(-columns // LANES) * LANES
    starts = 8 * channels * DENSE_STARTS * columns
    sample = round(min(min(SAMPLE_ROWS, rows) * row_bytes, SAMPLE_BYTES))
    block = min(block_rows, rows)
    # one is read and one decoded ahead; a block is cut into eight pieces, and those under way
    # belong to so many blocks
    blocks = 3 + -(-under_way // 8)
    return round(
        blocks * block * (row_bytes + 4 * columns)
        + under_way * (8 * channels * padded + PIECE_ROWS * 4)
        + under_way * max(BATCH_BYTES, 8 * channels * (max(ks) + LANES))
        + (1 + at_once(threads, sample)) * sample
        + 3 * 8 * channels**2
        + 3 * starts
        + (rows * columns * 4 if SOLVERS[solver].keeps_coefficients else 0)
    )
