"""NMF against its peers: the time until the error is within 0.05 % of the best that any reached.

    python benchmarks/nmf.py [--photographs FOLDER --squeezenet WEIGHTS]

scikit-learn's NMF (coordinate descent and multiplicative updates) and MiniBatchNMF, torchnmf, the
paper's multiplicative updates (our `mu`, on our passes) and ours (`hals`), on the same rows in
memory, with the same k, each with its usual start and all cores. Sparse rows are given as CSR where
a peer takes them. Every peer runs in steps of a few iterations and is judged at the end of each by
the factors and coefficients that it would return then; MiniBatchNMF, which keeps none, by the best
coefficients there are. Judging is not timed. `seconds` is the first step that is good enough; a
peer that never is counts with all the time it had, and one that ran into the limit is not run
again. Ours is the whole call: survey, warm start, passes, and the last pass for H.

torchnmf is not one of this project's dependencies: `pip install torchnmf` first, or it is left out.
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
import scipy.sparse
import torch
from sklearn.decomposition import MiniBatchNMF, non_negative_factorization
from sklearn.exceptions import ConvergenceWarning

from benchmarks.common import report
from benchmarks.store import photographed_rows
from stages.algorithms.nmf import Sweep, factorize
from stages.algorithms.nmf.cpu import CpuEngine
from stages.algorithms.nmf.stack import EXACT, Stack, loss_of_pass
from stages.algorithms.rows import MatrixRows, as_row_blocks

GOOD = 1.0005
Steps = Iterator[tuple[float, np.ndarray, np.ndarray | None]]  # (seconds so far, W, H)


def planted_rows(rows: int, density: float, channels: int = 512, rank: int = 12) -> np.ndarray:
    """Rows that NMF is made for, float32: few directions and noise, the small values cut off."""
    rng = np.random.default_rng(0)
    W = rng.gamma(0.3, 1.0, (rank, channels)).astype(np.float32)
    out = np.empty((rows, channels), np.float32)
    for start in range(0, rows, 16384):
        part = out[start : start + 16384]
        H = rng.gamma(0.5, 1.0, (len(part), rank)).astype(np.float32)
        part[:] = H @ W + rng.gamma(0.5, 0.3, part.shape).astype(np.float32)
        if density < 1:
            part[part < np.quantile(part[:512], 1 - density)] = 0
    return out


def csr(rows: np.ndarray) -> scipy.sparse.csr_matrix:
    parts = [
        scipy.sparse.csr_matrix(rows[start : start + 16384].astype(np.float32))
        for start in range(0, len(rows), 16384)
    ]
    return scipy.sparse.vstack(parts, format="csr")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def ours(A: Any, k: int, seed: int) -> Steps:
    seconds, f = timed(lambda: factorize(A, k, seed))
    yield seconds, f.factors, f.coefficients


def paper(A: Any, k: int, seed: int) -> Steps:
    options = {"solver": "mu", "init": "random", "tol": 0.0, "max_passes": 10**6}
    total, sweep = timed(lambda: Sweep(A, [k], [seed], **options))
    while True:
        total += timed(lambda: [sweep.step() for _ in range(5)])[0]
        yield total, sweep.problems[0].W, sweep.H


def scikit_learn(solver: str, each: int) -> Callable[[Any, int, int], Steps]:
    def run(A: Any, k: int, seed: int) -> Steps:
        total, H, W, init = 0.0, None, None, None  # its own default: nndsvda
        while True:
            seconds, (H, W, _) = timed(
                lambda H=H, W=W, init=init: non_negative_factorization(
                    A, H, W, n_components=k, init=init, solver=solver, tol=0, max_iter=each,
                    random_state=seed,
                )
            )  # fmt: skip
            total, init = total + seconds, "custom"
            yield total, W, H

    return run


def mini_batch(A: Any, k: int, seed: int) -> Steps:
    model = MiniBatchNMF(k, batch_size=1024, random_state=seed)
    rng, total = np.random.default_rng(seed), 0.0
    while True:
        order = rng.permutation(A.shape[0])
        for start in range(0, len(order), 32 * 1024):
            rows = order[start : start + 32 * 1024]

            def few(rows: np.ndarray = rows) -> None:
                for at in range(0, len(rows), 1024):
                    model.partial_fit(A[rows[at : at + 1024]])

            total += timed(few)[0]
            yield total, model.components_, None


def torchnmf(A: Any, k: int, seed: int) -> Steps:
    from torchnmf.nmf import NMF

    torch.manual_seed(seed)
    if scipy.sparse.issparse(A):
        coo = A.tocoo()
        V = torch.sparse_coo_tensor(np.stack([coo.row, coo.col]), coo.data, A.shape).coalesce()
    else:
        V = torch.from_numpy(A)
    model, total = NMF(V.shape, rank=k), 0.0
    while True:
        total += timed(lambda: model.fit(V, beta=2, tol=0, max_iter=5))[0]
        # its names are the other way round, and its factors lie in columns
        yield total, model.W.detach().numpy().T, model.H.detach().numpy()


PEERS: dict[str, Callable[[Any, int, int], Steps]] = {
    "ours (hals)": ours,
    "scikit-learn NMF, cd": scikit_learn("cd", 4),
    "scikit-learn NMF, mu": scikit_learn("mu", 10),
    "scikit-learn MiniBatchNMF": mini_batch,
    "torchnmf": torchnmf,
    "the paper's updates (our mu)": paper,
}


def error(rows: MatrixRows, norm: float, W: np.ndarray, H: np.ndarray | None) -> float:
    """||A - HW||_F / ||A||_F; for the best H where there is none."""
    W = np.asarray(W, dtype=np.float64)
    if H is None:
        (sums,) = CpuEngine().run_pass(rows, Stack([W], np.dtype("f4")), EXACT, with_HtA=False)
        return float(np.sqrt(loss_of_pass(norm, W, sums) / norm))
    crossed, gram, start = 0.0, np.zeros((len(W), len(W))), 0
    for block in rows.blocks():
        part = np.asarray(H[start : start + block.shape[0]], dtype=np.float64)
        crossed += float(((block @ W.astype(np.float32).T) * part).sum())
        gram += part.T @ part
        start += len(part)
    return float(np.sqrt(max(0.0, norm - 2 * crossed + (gram * (W @ W.T)).sum()) / norm))


def follow(steps: Steps, rows: MatrixRows, norm: float, limit: float) -> list[tuple[float, float]]:
    """(seconds, error) after each step, until the limit or until nothing more is gained."""
    history: list[tuple[float, float]] = []
    for seconds, W, H in steps:
        history.append((seconds, error(rows, norm, W, H)))
        still = len(history) > 10 and history[-11][1] - history[-1][1] < 1e-6
        if seconds > limit or still:
            break
    return history


def compare(A: Any, label: str, k: int, runs: int, limit: float) -> list[dict[str, Any]]:
    rows = as_row_blocks(A)
    assert isinstance(rows, MatrixRows)
    norm = sum(CpuEngine().survey(block)[0] for block in rows.blocks())
    found: dict[str, list[list[tuple[float, float]]]] = {}
    given_up: set[str] = set()
    for seed in range(runs):
        for name, peer in PEERS.items():
            if name in given_up:
                continue
            try:
                found.setdefault(name, []).append(follow(peer(A, k, seed), rows, norm, limit))
            except ImportError:
                del found[name]
                given_up.add(name)
                continue
            if seed == 0 and found[name][0][-1][0] > limit:
                given_up.add(name)  # too slow to be run again
            print(f"{label}: {name}: {found[name][-1][-1]}", file=sys.stderr, flush=True)
    best = min(error for runs in found.values() for run in runs for _, error in run)
    table = []
    for name, histories in found.items():
        reached = [
            next((seconds for seconds, error in run if error <= GOOD * best), None)
            for run in histories
        ]
        spent = [
            run[-1][0] if seconds is None else seconds
            for run, seconds in zip(histories, reached, strict=True)
        ]
        final = statistics.median(run[-1][1] for run in histories)
        table.append(
            {
                "rows": label,
                "solver": name,
                "seconds": statistics.median(spent),
                "reached": f"{sum(one is not None for one in reached)} of {len(reached)}",
                "final error / best": round(final / best, 5),
                "all": spent,
            }
        )
    mine = table[0]["seconds"]
    for row in table:
        row["times ours"] = row["seconds"] / mine
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--squeezenet", default="", help="weights of squeezenet1_1")
    parser.add_argument("--images", type=int, default=5439)
    parser.add_argument("--dense-rows", type=int, default=150_000)
    parser.add_argument("--part", choices=["sparse", "dense", "all"], default="all")
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=40.0, help="seconds for each")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", FutureWarning)
    factorize(np.ones((99, 9), np.float32), 2)  # compiled once and for all
    factorize(scipy.sparse.csr_matrix(np.ones((99, 9), np.float32)), 2)
    facts = {"runs": chosen.runs, "k": chosen.k, "limit": chosen.limit}
    title = f"Seconds to within 0.05 % of the best error, k = {chosen.k}"
    if chosen.part != "dense":
        table = []
        if chosen.photographs:
            A = csr(photographed_rows(chosen.photographs, chosen.squeezenet, chosen.images))
            table += compare(A, f"photographs, {A.shape[0]}", chosen.k, chosen.runs, chosen.limit)
        A = csr(planted_rows(169 * chosen.images, 0.064))
        table += compare(A, f"drawn, {A.shape[0]}, 6.4 %", chosen.k, chosen.runs, chosen.limit)
        report("nmf", title, table, **facts)
    if chosen.part != "sparse":
        table = []
        for density, name in ((0.5, "50 %"), (1.0, "dense")):
            A = planted_rows(chosen.dense_rows, density)
            label = f"drawn, {chosen.dense_rows}, {name}"
            table += compare(A, label, chosen.k, chosen.runs, chosen.limit)
        report("nmf_dense", title, table, **facts)


if __name__ == "__main__":
    main()
