"""The warm start on a GPU: `initial.accelerated` without a word from the host in between."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.algorithms.nmf import fused_kernels as kernels
from stages.algorithms.nmf import launches
from stages.algorithms.nmf.initial import FACTOR_SWEEPS, FIRST_SHARE, SETTLED, START_RULE
from stages.algorithms.nmf.placed import Part
from stages.algorithms.nmf.problems import Problems
from stages.algorithms.nmf.stack import Matrix, unit_rows

CHECKED = 8  # updates between two looks at whether all have settled
CHANNELS = 64  # that a program solves


class FusedStarts:
    """Several factorizations of a few rows, all of whose updates are computed on the device.

    One update is some ten launches, which take longer to make than to run: they are recorded once
    and played again (a CUDA graph).

    Parameters
    ----------
    part : Part
        The rows, dense.
    problems : Problems
    starts : sequence of float64 [k, channels]
    """

    def __init__(self, part: Part, problems: Problems, starts: Sequence[Matrix]) -> None:
        assert part.dense is not None
        self.A, self.problems = part.dense, problems
        self.half = self.A.dtype == torch.float16
        few = problems.columns <= launches.FEW_STARTS
        self.cut = part.cut(launches.START_ROWS if few else launches.LONG_START_ROWS)
        pieces, groups = len(self.cut.pieces) - 1, len(self.cut.groups) - 1
        self.chunk = launches.Chunk((0, groups), (0, pieces), (0, part.rows))
        device, channels, columns = self.A.device, self.A.shape[1], problems.columns
        self.device = device
        self.C = 1 << (channels - 1).bit_length()

        def room(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        # unit rows: H is solved afresh, and its scale follows
        W = np.concatenate([unit_rows(W) for W in starts])
        self.at = torch.from_numpy(W).to(device)
        self.last, self.W = self.at.clone(), room(columns, channels)
        self.hi = self.at.half() if self.half else self.at.float()
        self.lo = (self.at - self.hi.double()).half() if self.half else self.hi
        self.P = room(part.rows, columns, dtype=torch.float32)
        self.partials = room(pieces, columns, channels, dtype=torch.float32)
        self.HtA = room(columns, channels)
        count = len(problems.ks)
        self.losses = torch.full((count,), np.inf, dtype=torch.float64, device=device)
        self.shares = torch.full((count,), FIRST_SHARE, dtype=torch.float64, device=device)
        self.settled = room(count, dtype=torch.int32)
        self.norm = _squares(self.A)
        self.of_class = [self._room_of_class(one, pieces, room) for one in problems.classes]

    def _room_of_class(self, one: Any, pieces: int, room: Any) -> dict[str, Tensor]:
        n, K, tiles = len(one.problems), one.K, -(-self.A.shape[1] // CHANNELS)
        return {
            "G": room(n, K, K, dtype=torch.float32),
            "inverse": room(n, K, dtype=torch.float32),
            "partials": room(pieces, n, K + 1, K, dtype=torch.float32),
            "grams": room(n, K + 1, K),
            "HtH": room(n, tiles, K, K),
            "1 / HtH": room(n, tiles, K),
        }

    @torch.inference_mode()
    def run(self, updates: int) -> list[tuple[float, Matrix]]:
        """Some updates, fewer when all have settled: loss and W ``[k, channels]`` of each start."""
        self._update()
        replay = self._recorded() if self.device.type == "cuda" and updates > 2 else self._update
        for turn in range(1, updates):
            if turn % CHECKED == 0 and bool(self.settled.all()):
                break
            replay()
        losses, last = self.losses.cpu().numpy(), self.last.cpu().numpy()
        return [
            (float(loss), last[first : first + k])
            for loss, first, k in zip(losses, self.problems.starts, self.problems.ks, strict=True)
        ]

    def _recorded(self) -> Any:
        """One update as a CUDA graph; nothing in it allocates."""
        graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            graph.capture_begin(capture_error_mode="thread_local")
            self._update()
            graph.capture_end()
        torch.cuda.current_stream(self.device).wait_stream(side)
        self.graph = graph
        return graph.replay

    def _update(self) -> None:
        problems, channels = self.problems, self.A.shape[1]
        tables = problems.firsts, problems.sizes
        for one, mine in zip(problems.classes, self.of_class, strict=True):
            kernels.factor_grams[(len(one.problems),)](
                self.at, mine["G"], mine["inverse"], one.there, *tables, channels,
                K=one.K, C=self.C,
            )  # fmt: skip
        launches.products(self.A, (self.hi, self.lo), self.P, 1.0, self.half)
        for one, mine in zip(problems.classes, self.of_class, strict=True):
            kernels.solve[(len(self.cut.pieces) - 1, len(one.problems))](
                self.P, mine["G"], mine["inverse"], one.there, *tables, self.cut.pieces_there,
                0, 0, mine["partials"], problems.columns, START_RULE.sweeps, START_RULE.tol,
                K=one.K, BR=one.rows,
            )  # fmt: skip
            mine["grams"].zero_()
            launches.add_up(mine["partials"], mine["grams"], self.cut, self.chunk)
        launches.sums(self.A, self.P, self.partials, self.cut, self.chunk, self.half)
        self.HtA.zero_()
        launches.add_up(self.partials, self.HtA, self.cut, self.chunk)
        sweeps, tol = FACTOR_SWEEPS
        for one, mine in zip(problems.classes, self.of_class, strict=True):
            kernels.factors[(len(one.problems), -(-channels // CHANNELS))](
                self.HtA, mine["grams"], self.at, self.W, mine["HtH"], mine["1 / HtH"],
                one.there, *tables, channels, sweeps, tol, K=one.K, B=CHANNELS,
            )  # fmt: skip
            kernels.improve[(len(one.problems),)](
                self.W, self.HtA, mine["grams"], self.at, self.last, self.hi, self.lo,
                self.losses, self.shares, self.settled, one.there, *tables, self.norm, channels,
                SETTLED, HALF=self.half, K=one.K, C=self.C,
            )  # fmt: skip


def _squares(A: Tensor) -> Tensor:
    """``||A||_F^2``, float64 [1]."""
    total = torch.zeros(1, dtype=torch.float64, device=A.device)
    for part in A.split(8192):
        total += part.double().square().sum()
    return total
