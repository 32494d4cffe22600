"""Drawn activations on a device and in host memory, for the parts that factorize."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch

from benchmarks.gpu.common import DEVICE, size
from stages.algorithms.rows import csr_view

IMAGES, CELLS, CHANNELS, RANK = size(6000, 6), 196, 512, 12
BLOCK = 65536


def planted(images: int = IMAGES, density: float = 0.064, seed: int = 0) -> torch.Tensor:
    """Rows that NMF is made for, on the device: few directions and noise, the small cut off.

    As `benchmarks.nmf.planted_rows`, and as the store keeps them: float16
    ``[images * 196, 512]``.
    """
    torch.manual_seed(seed)

    def gamma(shape: tuple[int, ...], concentration: float, scale: float) -> torch.Tensor:
        drawn = torch._standard_gamma(torch.full(shape, concentration, device=DEVICE))
        return drawn * scale

    W = gamma((RANK, CHANNELS), 0.3, 1.0)
    out = torch.empty((images * CELLS, CHANNELS), dtype=torch.float16, device=DEVICE)
    for start in range(0, len(out), BLOCK):
        part = out[start : start + BLOCK]
        values = gamma((len(part), RANK), 0.5, 1.0) @ W + gamma(tuple(part.shape), 0.5, 0.3)
        if density < 1:
            values[values < torch.quantile(values[:512].flatten(), 1 - density)] = 0
        part.copy_(values)
    return out


def csr(rows: torch.Tensor) -> scipy.sparse.csr_array:
    """The same in host memory, float32 and int32 as the store's reader gives them."""
    counts, columns, values = [], [], []
    for part in rows.split(BLOCK):
        where = part != 0
        counts.append(where.sum(dim=1).cpu())
        columns.append(where.nonzero()[:, 1].int().cpu())
        values.append(part[where].float().cpu())
    starts = np.concatenate([[0], np.cumsum(torch.cat(counts).numpy())])
    parts = torch.cat(values).numpy(), torch.cat(columns).numpy(), starts.astype(np.int32)
    matrix = scipy.sparse.csr_array(parts, shape=tuple(rows.shape))
    matrix.has_sorted_indices = matrix.has_canonical_format = True
    return matrix


@dataclass(frozen=True)
class Endless:
    """So many rows as CSR blocks that come anew in every pass, out of few bytes of memory.

    A block is a stretch of `source` that begins anywhere.
    """

    source: Any
    rows: int
    block_rows: int = BLOCK

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, channels)."""
        return self.rows, int(self.source.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32."""
        return np.dtype(np.float32)

    def blocks(self) -> Iterator[Any]:
        """Yield the blocks, views of `source`."""
        rng = np.random.default_rng(0)
        start = 0
        while start < self.rows:
            count = min(self.block_rows, self.rows - start, self.source.shape[0])
            first = int(rng.integers(self.source.shape[0] - count + 1))
            yield csr_view(self.source, first, first + count)
            start += count
