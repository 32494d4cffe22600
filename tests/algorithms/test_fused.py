"""The kernels of the CUDA engine, on a CPU: Triton's interpreter runs them, its compiler compiles.

On a machine with CUDA the same tests run on the device.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.optimize import nnls

from interpreted import CUDA
from stages.algorithms.nmf import fused, fused_pass, initial, sweep
from stages.algorithms.nmf.cpu import CpuEngine
from stages.algorithms.nmf.fused import FusedEngine
from stages.algorithms.nmf.initial import accelerated
from stages.algorithms.nmf.stack import EXACT, Rule, Stack
from stages.algorithms.rows import MatrixRows, ResidentRows

FLOAT = np.dtype("f4")
DEVICE = "cuda" if CUDA else "cpu"


def matrix(rows, channels, half=True, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.gamma(1.0, 1.0, (rows, channels)) * (rng.random((rows, channels)) < 0.4)
    return A.astype(np.float16).astype(FLOAT) if half else A.astype(FLOAT)


def factors(ks, channels, seed=1):
    rng = np.random.default_rng(seed)
    found = [rng.random((k, channels)) * (rng.random((k, channels)) < 0.7) for k in ks]
    return [W / np.maximum(np.linalg.norm(W, axis=1, keepdims=True), 1e-9) for W in found]


@pytest.mark.parametrize("half", [True, False], ids=["float16", "float32"])
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array], ids=["dense", "csr"])
def test_a_pass_is_least_squares_and_its_sums(half, form):
    A, Ws = matrix(70, 19, half), factors([1, 6], 19)
    H = np.full((70, 7), np.nan, FLOAT)
    engine = FusedEngine(DEVICE)
    found = engine.run_pass(MatrixRows(form(A), 33), Stack(Ws, FLOAT), EXACT, H=H)
    first = 0
    for W, sums in zip(Ws, found, strict=True):
        mine = H[:, first : first + len(W)].astype(float)
        first += len(W)
        expected = np.array([nnls(W.T, row)[0] for row in A.astype(float)])
        np.testing.assert_allclose(mine, expected, atol=1e-4)
        np.testing.assert_allclose(sums.HtA, mine.T @ A, rtol=2e-6)
        np.testing.assert_allclose(sums.HtH, mine.T @ mine, rtol=2e-6)
        np.testing.assert_allclose(sums.HtP, (mine * (A @ W.T)).sum(), rtol=2e-6)
    assert engine._placed.half == half  # and not by chance


def test_float16_that_seem_to_be_and_are_not():
    A = matrix(40, 9)
    A[-1, -1] = 1 + 2.0**-20  # the first values do not show it
    engine = FusedEngine(DEVICE)
    H = np.zeros((40, 2), FLOAT)
    engine.run_pass(MatrixRows(A), Stack(factors([2], 9), FLOAT), EXACT, H=H)
    assert not engine._placed.half


@pytest.mark.parametrize("largest", [1e-3, 1.0, 6e4])
def test_whatever_the_scale(largest):
    A = matrix(40, 12)
    A = (A * (largest / A.max())).astype(np.float16).astype(FLOAT)
    stack = Stack(factors([3], 12), FLOAT)
    mine, other = np.zeros((40, 3), FLOAT), np.zeros((40, 3), FLOAT)
    (sums,) = FusedEngine(DEVICE).run_pass(MatrixRows(A), stack, EXACT, H=mine)
    (expected,) = CpuEngine(1).run_pass(MatrixRows(A), stack, EXACT, H=other)
    np.testing.assert_allclose(mine, other, atol=2e-5 * other.max())
    np.testing.assert_allclose(sums.HtA, expected.HtA, rtol=2e-5, atol=1e-5 * expected.HtA.max())


def test_neither_memory_nor_what_goes_at_once_changes_a_bit(monkeypatch):
    """Rows on the device, dense or not, and rows that come through it; few pieces or many."""
    monkeypatch.setattr(fused_pass.launches, "PIECE_ROWS", 16)
    A, stack = matrix(150, 11), Stack(factors([3, 2], 11), FLOAT)
    A[:, ::2] = 0  # fewer bytes as non-zeros than dense
    A = scipy.sparse.csr_array(A)

    def run(free, most):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fused, "free_bytes", lambda device: free)
            patch.setattr(fused_pass, "MOST_SCRATCH", most)
            rows, H = MatrixRows(A, 40), np.zeros((150, 5), FLOAT)
            engine = FusedEngine(DEVICE)
            norm, sample = engine.read(rows, np.arange(0, 150, 7))
            sums = engine.run_pass(rows, stack, Rule(), H=H)
        kept = engine._placed.kept
        form = None if kept is None else "dense" if kept[0].dense is not None else "sparse"
        np.testing.assert_array_equal(sample.matrix.float().cpu(), A.toarray()[::7])
        np.testing.assert_allclose(norm, (A.data.astype(float) ** 2).sum(), rtol=1e-12)
        bits = [one.tobytes() for s in sums for one in (s.HtA, s.HtH, np.array(s.HtP))]
        return form, [H.tobytes(), *bits]

    dense, compact, streamed = run(10**9, 2**30), run(2 * 3000, 2**30), run(0, 2**30)
    assert [dense[0], compact[0], streamed[0]] == ["dense", "sparse", None]
    assert dense[1] == compact[1] == streamed[1] == run(10**9, 3000)[1] == run(0, 1)[1]


def test_where_memory_is_short_smaller_chunks_are_tried(monkeypatch):
    """Down to one group of pieces; when not even that fits, one line with both numbers."""
    A, stack = matrix(120, 9), Stack(factors([2], 9), FLOAT)
    rows = MatrixRows(A, 40)

    def run(most):
        empty = torch.empty

        def short(*shape, **options):
            scratch = isinstance(shape[0], int) and options.get("dtype") == torch.float32
            if scratch and shape[0] > most:
                raise torch.OutOfMemoryError("out of memory. Tried to allocate 20.00 MiB. GPU 0")
            return empty(*shape, **options)

        H = np.zeros((120, 2), FLOAT)
        with monkeypatch.context() as patch:
            patch.setattr(fused_pass.torch, "empty", short)
            (sums,) = FusedEngine(DEVICE).run_pass(rows, stack, Rule(), H=H)
        return H.tobytes() + sums.HtA.tobytes() + sums.HtH.tobytes()

    monkeypatch.setattr(fused_pass, "LEAST_SCRATCH", 64)
    assert run(10**9) == run(1000)  # a block of 40 rows needs 40 x (2 + 16) numbers, and some more
    with pytest.raises(MemoryError, match=r"\d+ MiB free, .* need 20.00 MiB"):
        run(500)


def test_blocks_of_coefficients_are_handed_over_in_order():
    A, (W,) = matrix(100, 7), factors([3], 7)
    H, written = np.zeros((100, 3), FLOAT), []
    stack, engine = Stack([W], FLOAT), FusedEngine(DEVICE)
    blocks = ResidentRows((A[:30], A[30:30], A[30:95], A[95:]), A.shape, FLOAT)
    engine.run_pass(blocks, stack, EXACT, H=H)
    engine.run_pass(
        blocks, stack, EXACT, with_HtA=False,
        write=lambda start, block: written.append((start, block.copy())),
    )  # fmt: skip
    assert [start for start, _ in written] == [0, 30, 95]
    np.testing.assert_array_equal(np.concatenate([block for _, block in written]), H)


def test_columns_of_stopped_factorizations_stay():
    A, H = matrix(30, 8), np.full((30, 9), 7, FLOAT)
    FusedEngine(DEVICE).run_pass(
        MatrixRows(A), Stack(factors([2, 4], 8), FLOAT, into=[0, 5]), EXACT, H=H
    )
    assert (H[:, 2:5] == 7).all() and (H[:, :2] != 7).all() and (H[:, 5:] != 7).all()


@pytest.mark.parametrize("half", [True, False], ids=["float16", "float32"])
def test_the_warm_start_is_that_of_the_host(half):
    A = matrix(120, 10, half)
    rng = np.random.default_rng(5)
    starts = [initial.random_start((k, 10), k, A.mean(), rng) for k in (1, 3, 3, 5)]
    there = FusedEngine(DEVICE).accelerated(MatrixRows(A), starts, 6, FLOAT)
    here = accelerated(MatrixRows(A), starts, 6, CpuEngine(1), FLOAT)
    for (loss, W), (expected, V) in zip(there, here, strict=True):
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        np.testing.assert_allclose(W, V, atol=5e-3)


def test_starts_that_have_settled_rest():
    A = np.outer(np.arange(1.0, 90), [3, 1, 0, 2]).astype(FLOAT)
    engine = FusedEngine(DEVICE)
    starts = [np.ones((1, 4))]
    few, many = (engine.accelerated(MatrixRows(A), starts, n, FLOAT) for n in (4, 30))
    np.testing.assert_array_equal(few[0][1], many[0][1])
    np.testing.assert_allclose(few[0][1][0], np.array([3, 1, 0, 2]) / 14**0.5, atol=1e-6)


def test_a_whole_factorization_agrees(monkeypatch):
    rng = np.random.default_rng(0)
    W = np.repeat(np.eye(3), 4, axis=1) * rng.gamma(2, 1, (3, 12))  # one optimum, and no other
    A = rng.gamma(0.5, 1, (160, 3)) @ W + rng.gamma(0.5, 0.3, (160, 12))
    A = A.astype(np.float16).astype(FLOAT)
    monkeypatch.setattr(initial, "STARTS", 2)
    monkeypatch.setattr(initial, "ROUNDS", ((100, 4, 1), (160, 6, 1)))
    monkeypatch.setattr(
        sweep.warm_factors, "__kwdefaults__", {"starts": 2, "rounds": initial.ROUNDS}
    )
    (expected,) = sweep_of(A, "cpu")
    monkeypatch.setattr(sweep, "make_engine", lambda *_, **__: FusedEngine(DEVICE))
    (found,) = sweep_of(scipy.sparse.csr_array(A), DEVICE)
    # a few passes more or less: both stop where one lowers the loss by a millionth of `norm`
    np.testing.assert_allclose(found.loss[-1], expected.loss[-1], atol=1e-5 * expected.norm)
    cosines = (found.factors * expected.factors).sum(axis=1)
    assert cosines.min() > 0.9999
    np.testing.assert_allclose(found.norm, expected.norm, rtol=1e-9)


def sweep_of(A, device):
    one = sweep.Sweep(A, [3], device=device, tol=1e-6)
    while not one.done:
        one.step()
    return one.finish()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e-3])
def test_bad_values_are_named(bad, monkeypatch):
    monkeypatch.setattr(sweep, "make_engine", lambda *_, **__: FusedEngine(DEVICE))
    A = matrix(90, 6)
    A[71, 2] = bad
    with pytest.raises(ValueError, match="in row 71"):
        sweep.Sweep(MatrixRows(A, 40), [2])


COMPILE = Path(__file__).parents[1] / "support" / "compile_kernels.py"


def test_kernels_compile_for_a_gpu_that_is_not_here():
    """For compute capability 9.0, with tiles they are launched with, and nothing spilled."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": str(COMPILE.parents[2])}
    done = subprocess.run(
        [sys.executable, COMPILE, "90"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 12
    assert all(line.endswith("spilled 0") for line in done.stdout.splitlines()), done.stdout
