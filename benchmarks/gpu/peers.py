"""NMF against its peers on one card: the time until the error is within 0.05 % of ours.

    python -m benchmarks.gpu.peers

The same rows for all, the same k: ours, torchnmf, nmf-torch (its two HALS), the paper's updates
(our `mu`) on the card, from rows that lie there as float32 before the clock runs; scikit-learn on
all cores from CSR in host memory. A peer runs in steps of a few iterations and is judged after
each, by the factors and coefficients that it would return then; judging is not timed. `ms` is the
first step with an error of at most 1.0005 times ours; a peer that never has it counts with all the
time it had. Ours is the whole call.

torchnmf and nmf-torch are no dependencies of this project; without them their rows are left out.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import non_negative_factorization

from benchmarks.gpu.common import DEVICE, report, size
from benchmarks.gpu.common import seconds as timed
from benchmarks.gpu.rows import csr, planted
from stages.algorithms.nmf import Sweep, factorize

GOOD, K = 1.0005, 5
LIMIT = 5 if DEVICE == "cuda" else 0.2  # seconds for a peer
Steps = Iterator[tuple[float, Any, Any]]  # (seconds so far, W, H)


def once(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    return timed(work, runs=1, warm=0)[0]


def ours(A: torch.Tensor, seed: int) -> Steps:
    results: list[Any] = []
    took = once(lambda: results.append(factorize(A, K, seed, device=DEVICE)))
    yield took, results[0].factors, results[0].coefficients


def paper(A: torch.Tensor, seed: int) -> Steps:
    made: list[Sweep] = []
    options = {"solver": "mu", "init": "random", "tol": 0.0, "max_passes": 10**6}
    total = once(lambda: made.append(Sweep(A, [K], [seed], device=DEVICE, **options)))
    while True:
        total += once(lambda: [made[0].step() for _ in range(10)])
        yield total, made[0].problems[0].W, made[0].H


def torchnmf(A: torch.Tensor, seed: int) -> Steps:
    from torchnmf.nmf import NMF

    torch.manual_seed(seed)
    models: list[Any] = []
    total = once(lambda: models.append(NMF(A.shape, rank=K).to(DEVICE)))
    while True:
        total += once(lambda: models[0].fit(A, beta=2, tol=0, max_iter=10))
        # its names are the other way round, and its factors lie in columns
        yield total, models[0].W.detach().T, models[0].H.detach()


def nmf_torch(inner: int) -> Callable[[torch.Tensor, int], Steps]:
    """nmf-torch's HALS with one (`hals`) or up to 200 (`halsvar`) inner updates."""

    def run(A: torch.Tensor, seed: int) -> Steps:
        from nmf.nmf_models import NMFBatchHALS

        torch.manual_seed(seed)
        model = NMFBatchHALS(
            n_components=K, init="nndsvdar", beta_loss=2.0, tol=0.0, random_state=seed,
            alpha_W=0.0, l1_ratio_W=0.0, alpha_H=0.0, l1_ratio_H=0.0, fp_precision="float",
            device_type=DEVICE, max_iter=0, hals_max_iter=inner,
        )  # fmt: skip
        total = once(lambda: model.fit(A))  # its start, and no update
        while True:
            total += once(lambda: [(model._update_H(), model._update_W()) for _ in range(4)])
            yield total, model.W, model.H

    return run


def scikit_learn(A: Any, seed: int) -> Steps:
    total, H, W, init = 0.0, None, None, None  # its own default: nndsvda
    while True:
        start = time.perf_counter()
        H, W, _ = non_negative_factorization(
            A, H, W, n_components=K, init=init, tol=0, max_iter=4, random_state=seed
        )
        total, init = total + time.perf_counter() - start, "custom"
        yield total, W, H


class Judge:
    """||A - HW||_F / ||A||_F on the device, float64 sums."""

    def __init__(self, A: torch.Tensor) -> None:
        self.A = A
        self.norm = sum(float(part.double().square().sum()) for part in A.split(65536))

    def error(self, W: Any, H: Any) -> float:
        W, H = (torch.as_tensor(one, device=DEVICE).float() for one in (W, H))
        crossed, gram = 0.0, torch.zeros((K, K), dtype=torch.float64, device=DEVICE)
        for start in range(0, len(H), 65536):
            h = H[start : start + 65536]
            P = self.A[start : start + 65536].float() @ W.T
            crossed += float((h.double() * P).sum())
            gram += h.double().T @ h.double()
        G = W.double() @ W.double().T
        return float(
            np.sqrt(max(0.0, self.norm - 2 * crossed + float((gram * G).sum())) / self.norm)
        )


def follow(steps: Steps, judge: Judge, target: float) -> list[tuple[float, float]]:
    """(seconds, error) after each step, until the target, the limit, or nothing more is gained."""
    history: list[tuple[float, float]] = []
    for took, W, H in steps:
        history.append((took, judge.error(W, H)))
        last = [before - after for (_, before), (_, after) in pairwise(history[-11:])]
        still = len(last) == 10 and sum(last) < 1e-6
        if history[-1][1] <= target or took > LIMIT or still:
            break
    return history


def compare(label: str, A: torch.Tensor, sparse: Any, runs: int) -> list[dict[str, Any]]:
    """All peers on the same rows."""
    there, judge = A.float(), Judge(A)
    peers: dict[str, tuple[Callable[[Any, int], Steps], Any]] = {
        "ours (hals)": (ours, there),
        "torchnmf": (torchnmf, there),
        "nmf-torch, hals": (nmf_torch(1), there),
        "nmf-torch, halsvar": (nmf_torch(200), there),
        "the paper's updates (our mu)": (paper, there),
        "scikit-learn NMF, cd, all cores": (scikit_learn, sparse),
    }
    table: list[dict[str, Any]] = []
    target = 0.0  # ours sets it
    for name, (peer, rows) in peers.items():
        slow = peer in (scikit_learn, paper)
        count = 1 if slow else runs
        try:
            if not slow:  # compiled, and libraries loaded, before the clock
                next(peer(rows, 99))
            histories = [follow(peer(rows, seed), judge, target) for seed in range(count)]
        except ImportError as error:
            print(f"{name}: left out ({error})", flush=True)
            continue
        final = statistics.median(run[-1][1] for run in histories)
        target = target or GOOD * final
        reached = sum(run[-1][1] <= target for run in histories)
        spent = [run[-1][0] for run in histories]
        row = {"rows": label, "solver": name, "ms": 1e3 * statistics.median(spent)}
        row |= {"reached": f"{reached} of {count}", "error": final}
        row["times ours"] = row["ms"] / (table[0]["ms"] if table else row["ms"])
        table.append({**row, "all": spent})
        print(f"{label}: {name}: {histories[-1][-1]}", flush=True)
    return table


def main() -> None:
    """Measure, print, write JSON."""
    warnings.simplefilter("ignore")  # scikit-learn's on tol=0
    A = planted()
    table = compare("6.4 % non-zero", A, csr(A), runs=size(3, 1))
    A = planted(size(2000, 6), 0.35, seed=1)
    table += compare("35 % non-zero", A, csr(A), runs=size(3, 1))
    report("peers", f"Milliseconds to within 0.05 % of our error, k = {K}", table)


if __name__ == "__main__":
    main()
