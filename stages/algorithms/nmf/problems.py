"""The tables that the kernels find their factorizations by."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.algorithms.nmf.stack import Matrix

LARGEST = 64  # k that the kernels take: H^T H of a problem lies in registers


class SizeClass(NamedTuple):
    """Factorizations whose k are rounded up to the same power of two."""

    K: int
    problems: list[int]
    there: Tensor  # the same on the device, int32
    most: int  # the largest of their k


class Problems:
    """Factorizations that lie side by side in a stack.

    Parameters
    ----------
    ks : sequence of int
        k of each.
    device : torch.device

    Attributes
    ----------
    starts : list of int
        First column of each.
    firsts, sizes : int32 tensors [problems]
        The same and k, on the device.
    classes : list of SizeClass
    """

    def __init__(self, ks: Sequence[int], device: torch.device) -> None:
        self.ks, self.device = list(ks), device
        self.starts = [0, *np.cumsum(ks).tolist()[:-1]]
        self.firsts = torch.tensor(self.starts, dtype=torch.int32, device=device)
        self.sizes = torch.tensor(self.ks, dtype=torch.int32, device=device)
        self.classes = []
        rounded = [max(4, 1 << (k - 1).bit_length()) for k in ks]
        for K in sorted(set(rounded)):
            mine = [i for i, size in enumerate(rounded) if size == K]
            there = torch.tensor(mine, dtype=torch.int32, device=device)
            self.classes.append(SizeClass(K, mine, there, max(ks[i] for i in mine)))

    @property
    def columns(self) -> int:
        """Factors of all factorizations together."""
        return sum(self.ks)

    def grams(self, factors: Sequence[Matrix]) -> tuple[list[Tensor], list[Tensor]]:
        """W W^T as `solve_kernels.solve` wants it, per size class ``[problems, K, K]``, and
        1 / its diagonal ``[problems, K]``."""
        grams, inverses = [], []
        for one in self.classes:
            G = np.zeros((len(one.problems), one.K, one.K))
            for slot, problem in enumerate(one.problems):
                W = factors[problem]
                G[slot, : len(W), : len(W)] = W @ W.T
            diagonal = np.einsum("pkk->pk", G)
            inverse = np.divide(1, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
            G *= np.eye(one.K) - 1
            grams.append(torch.from_numpy(G.astype(np.float32)).to(self.device))
            inverses.append(torch.from_numpy(inverse.astype(np.float32)).to(self.device))
        return grams, inverses


def halves(W: Matrix, half: bool, device: torch.device) -> tuple[tuple[Tensor, Tensor], float]:
    """W as the kernels multiply with it, and the number that P is to be multiplied with.

    Returns
    -------
    ((hi, lo), scale)
        ``scale (hi + lo)`` is W: float16 both, or float32 and twice the same.
    """
    if not half:
        whole = torch.from_numpy(W.astype(np.float32)).to(device)
        return (whole, whole), 1.0
    scale = float(W.max(initial=0)) or 1.0
    share = torch.from_numpy(W / scale).to(device)
    hi = share.half()
    return (hi, (share - hi.double()).half()), scale


@lru_cache(maxsize=64)
def problems_on(device: torch.device, ks: tuple[int, ...]) -> Problems:
    """The tables of factorizations of these k's, made once: passes use the same ones."""
    return Problems(ks, device)
