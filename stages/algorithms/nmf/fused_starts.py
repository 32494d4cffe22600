"""The warm start on a GPU: `initial.accelerated` without a word from the host in between."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.algorithms.nmf import launches
from stages.algorithms.nmf import start_kernels as kernels
from stages.algorithms.nmf.initial import FACTOR_SWEEPS, FIRST_SHARE, SETTLED, START_RULE
from stages.algorithms.nmf.placed import Part
from stages.algorithms.nmf.problems import Problems, SizeClass
from stages.algorithms.nmf.stack import Matrix

CHECKED = 8  # updates between two looks at whether all have settled
CHANNELS = 64  # that a program solves
TILE = 4096  # numbers of W that a program has in its registers


class _ClassRoom(NamedTuple):
    """Memory for the factorizations of one size class; see the kernels."""

    G: Tensor
    inverse: Tensor
    partials: Tensor
    grams: Tensor
    HtH: Tensor
    inverses: Tensor


class FusedStarts:
    """Several factorizations of a few rows, all of whose updates are computed on the device.

    One update is some ten launches, which take longer to make than to run: they are recorded once
    and played again (a CUDA graph).

    Parameters
    ----------
    part : Part
        The rows, dense.
    norm : float64 tensor [1]
        ``||A||_F^2``.
    problems : Problems
    starts : sequence of float64 [k, channels]
    """

    def __init__(
        self, part: Part, norm: Tensor, problems: Problems, starts: Sequence[Matrix]
    ) -> None:
        assert part.dense is not None
        self.A, self.norm, self.problems = part.dense, norm, problems
        half = self.A.dtype == torch.float16
        self.cut = part.cut(launches.start_rows(problems.columns))
        pieces, groups = len(self.cut.pieces) - 1, len(self.cut.groups) - 1
        self.chunk = launches.Chunk((0, groups), (0, pieces), (0, part.rows))
        device, channels, columns = self.A.device, self.A.shape[1], problems.columns

        def room(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        # unit rows: H is solved afresh, and its scale follows
        W = torch.from_numpy(np.concatenate(starts)).to(device)
        lengths = W.norm(dim=1, keepdim=True)
        self.at = W / torch.where(lengths > 0, lengths, 1)
        self.last, self.W = self.at.clone(), room(columns, channels)
        self.hi = self.at.half() if half else self.at.float()
        self.lo = (self.at - self.hi.double()).half() if half else self.hi
        H = room(part.rows, columns, dtype=torch.float32)
        self.found = launches.Coefficients(H, H, H, H)
        if half:
            both = room(2, part.rows, launches.stride_of(columns), dtype=torch.float16)
            scales = room(pieces, columns, dtype=torch.float32)
            self.found = launches.Coefficients(H, both[0], both[1], scales)
        self.partials = room(pieces, columns, channels, dtype=torch.float32)
        self.HtA = room(columns, channels)
        count = len(problems.ks)
        self.losses = torch.full((count,), np.inf, dtype=torch.float64, device=device)
        self.shares = torch.full((count,), FIRST_SHARE, dtype=torch.float64, device=device)
        self.settled = torch.zeros(count, dtype=torch.int32, device=device)
        self.of_class = [self._room_of_class(one, pieces, room) for one in problems.classes]

    def _room_of_class(self, one: SizeClass, pieces: int, room: Any) -> "_ClassRoom":
        n, K, tiles = len(one.problems), one.K, -(-self.A.shape[1] // CHANNELS)
        device = self.A.device
        return _ClassRoom(
            # what lies beside a smaller k stays zero
            G=torch.zeros((n, K, K), dtype=torch.float32, device=device),
            inverse=torch.zeros((n, K), dtype=torch.float32, device=device),
            partials=room(pieces, n, K + 1, K, dtype=torch.float32),
            grams=room(n, K + 1, K),
            HtH=room(n, tiles, K, K),
            inverses=room(n, tiles, K),
        )

    @torch.inference_mode()
    def run(self, updates: int) -> list[tuple[float, Matrix]]:
        """Some updates, fewer when all have settled: loss and W ``[k, channels]`` of each start."""
        for one, mine in zip(self.problems.classes, self.of_class, strict=True):
            kernels.factor_grams[(len(one.problems),)](
                self.at, mine.G, mine.inverse, one.there, self.problems.firsts,
                self.problems.sizes, self.A.shape[1],
                K=one.K, C=self._channels_of(one), num_warps=8,
            )  # fmt: skip
        self._update()
        replay = self._recorded() if self.A.is_cuda and updates > 2 else self._update
        for turn in range(1, updates):
            if turn % CHECKED == 0 and bool(self.settled.all()):
                break
            replay()
        losses, last = self.losses.cpu().numpy(), self.last.cpu().numpy()
        return [
            (float(loss), last[first : first + k])
            for loss, first, k in zip(losses, self.problems.starts, self.problems.ks, strict=True)
        ]

    def _channels_of(self, one: SizeClass) -> int:
        """Channels of a problem that a program has in its registers at once."""
        most = max(16, TILE // one.K)
        return min(most, 1 << (self.A.shape[1] - 1).bit_length())

    def _recorded(self) -> Any:
        """One update as a CUDA graph; nothing in it allocates."""
        graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream(self.A.device)
        side.wait_stream(torch.cuda.current_stream(self.A.device))
        with torch.cuda.stream(side):
            graph.capture_begin(capture_error_mode="thread_local")
            self._update()
            graph.capture_end()
        torch.cuda.current_stream(self.A.device).wait_stream(side)
        self.graph = graph
        return graph.replay

    def _update(self) -> None:
        problems, channels = self.problems, self.A.shape[1]
        tables = problems.firsts, problems.sizes
        rooms = list(zip(problems.classes, self.of_class, strict=True))
        launches.products(self.A, (self.hi, self.lo), self.found.H, 1.0)
        for one, mine in rooms:
            factors = mine.G, mine.inverse
            launches.solve(
                self.found, problems, one, factors, mine.partials, self.cut, self.chunk, START_RULE
            )
            launches.add_up(mine.partials, mine.grams, self.cut, self.chunk, fresh=True)
        launches.sums(self.A, self.found, self.partials, self.cut, self.chunk)
        launches.add_up(self.partials, self.HtA, self.cut, self.chunk, fresh=True)
        sweeps, tol = FACTOR_SWEEPS
        for one, mine in rooms:
            kernels.factors[(len(one.problems), -(-channels // CHANNELS))](
                self.HtA, mine.grams, self.at, self.W, mine.HtH, mine.inverses,
                one.there, *tables, channels, sweeps, tol, K=one.K, B=CHANNELS,
            )  # fmt: skip
            kernels.improve[(len(one.problems),)](
                self.W, self.HtA, mine.grams, self.at, self.last, self.hi, self.lo, mine.G,
                mine.inverse, self.losses, self.shares, self.settled, one.there, *tables,
                self.norm, channels, SETTLED,
                HALF=self.found.half, K=one.K, C=self._channels_of(one), num_warps=8,
            )  # fmt: skip
