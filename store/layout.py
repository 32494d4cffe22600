"""Chunk and shard sizes from byte budgets: pure arithmetic, tested alone."""

from dataclasses import dataclass

# Whole 64 MiB shards are written at once: per-image writes into a shard were measured 13x slower.
SHARD_BYTES = 64 * 2**20
# About what one image's map needs, so that reading one image decodes little else.
CHUNK_BYTES = 1 * 2**20


@dataclass(frozen=True)
class Layout:
    """Rows per inner chunk and per shard; a shard is a whole number of chunks."""

    chunk_rows: int
    shard_rows: int

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_rows <= self.shard_rows or self.shard_rows % self.chunk_rows:
            raise ValueError(f"shard of {self.shard_rows} rows, chunk of {self.chunk_rows} rows")

    def shards(self, rows: int) -> int:
        """Shards that `rows` rows occupy."""
        return -(-rows // self.shard_rows)


def plan_layout(
    rows: int,
    row_bytes: int,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    shard_bytes: int = SHARD_BYTES,
    most_rows: int | None = None,
) -> Layout:
    """Choose chunk and shard sizes for an array of `rows` rows of `row_bytes` bytes each.

    `most_rows` is about how many rows are read alone: where rows are short, a chunk of
    `chunk_bytes` would hold dozens of images, all of them decoded for each.

    An array smaller than one shard gets one shard of just its size (rounded up to whole chunks).
    """
    if row_bytes < 1:
        raise ValueError(f"row_bytes is {row_bytes}, must be at least 1")
    rows = max(rows, 1)
    chunk_rows = max(1, min(rows, most_rows or rows, chunk_bytes // row_bytes))
    chunks = max(1, min(-(-rows // chunk_rows), shard_bytes // (chunk_rows * row_bytes)))
    return Layout(chunk_rows=chunk_rows, shard_rows=chunks * chunk_rows)
