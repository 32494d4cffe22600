"""What every engine must do with a pass; numbers from plain numpy and scipy in float64."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from loops import SETS, loops
from stages.algorithms.nmf import factorize_many, sweep
from stages.algorithms.nmf.cpu import CpuEngine, sweep_factors
from stages.algorithms.nmf.engines import make_engine
from stages.algorithms.nmf.gpu import TorchEngine
from stages.algorithms.nmf.stack import EXACT, Rule, Stack
from stages.algorithms.rows import MatrixRows, as_row_blocks


class PlainEngine(CpuEngine):
    """On the kernels for where vector instructions do not compile."""

    def survey(self, block, *, signed=False):
        with loops("plain"):
            return super().survey(block, signed=signed)

    def run_pass(self, *arguments, **options):
        with loops("plain"):
            return super().run_pass(*arguments, **options)


ENGINES = {
    "cpu, 1 thread": lambda: CpuEngine(1),
    "cpu, 3 threads": lambda: CpuEngine(3),
    "cpu, plain loops": lambda: PlainEngine(2),
    "torch": lambda: TorchEngine("cpu"),
    "cuda, plain torch": lambda: TorchEngine("cuda"),
    "cuda": lambda: make_engine("cuda"),
}
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
every_engine = pytest.mark.parametrize(
    "engine",
    [pytest.param(make, id=name, marks=NO_GPU if "cuda" in name else ())
     for name, make in ENGINES.items()],
)  # fmt: skip
both_types = pytest.mark.parametrize("dtype", [np.dtype("f4"), np.dtype("f8")], ids=str)
every_set_of_kernels = pytest.mark.parametrize("kernels", SETS)
FORMS = {"dense": lambda A: A, "csr": scipy.sparse.csr_array, "tensor": torch.from_numpy}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def matrix(rows, channels, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.gamma(1.0, 1.0, (rows, channels)) * (rng.random((rows, channels)) < 0.4)
    return A.astype(dtype)


def factors(ks, channels, seed=1):
    rng = np.random.default_rng(seed)
    found = [rng.random((k, channels)) * (rng.random((k, channels)) < 0.7) for k in ks]
    return [W / np.maximum(np.linalg.norm(W, axis=1, keepdims=True), 1e-9) for W in found]


def solved(A, W):
    return np.array([nnls(W.T, row)[0] for row in A.astype(float)]).reshape(len(A), len(W))


@every_engine
@every_form
@both_types
# tiles of 16 factors and groups of 64 rows: full ones, one more, one less
@pytest.mark.parametrize("rows, ks", [(1, [1]), (64, [3]), (65, [16]), (191, [5, 1, 9, 17])])
def test_a_pass_is_least_squares_and_its_sums(engine, form, dtype, rows, ks):
    A, Ws = matrix(rows, 23, dtype), factors(ks, 23)
    H = np.full((rows, sum(ks)), np.nan, dtype)
    found = engine().run_pass(MatrixRows(form(A), 50), Stack(Ws, dtype), EXACT, H=H)
    exact = 1e-9 if dtype == np.float64 else 2e-4
    first = 0
    for W, sums in zip(Ws, found, strict=True):
        mine = H[:, first : first + len(W)].astype(float)
        first += len(W)
        np.testing.assert_allclose(mine, solved(A, W), atol=2e-3)
        np.testing.assert_allclose(sums.HtA, mine.T @ A, atol=exact * max(1, rows))
        np.testing.assert_allclose(sums.HtH, mine.T @ mine, atol=exact * max(1, rows))
        np.testing.assert_allclose(sums.HtP, (mine * (A @ W.T)).sum(), rtol=10 * exact)
        assert sums.HtA.dtype == sums.HtH.dtype == np.float64


@every_engine
@every_form
@both_types
def test_multiplicative_updates_by_the_formula(engine, form, dtype):
    A, Ws = matrix(130, 11, dtype), factors([2, 4], 11)
    # of three factorizations in H the second has stopped: its columns stay
    H = np.random.default_rng(3).random((130, 9)).astype(dtype)
    before = H.astype(float)
    stack = Stack(Ws, dtype, into=[0, 5])
    found = engine().run_pass(MatrixRows(form(A), 50), stack, Rule(multiplicative=True), H=H)
    for W, first, sums in zip(Ws, [0, 5], found, strict=True):
        old = before[:, first : first + len(W)]
        expected = old * (A @ W.T) / (old @ (W @ W.T))
        np.testing.assert_allclose(H[:, first : first + len(W)], expected, rtol=1e-4)
        np.testing.assert_allclose(sums.HtA, expected.T @ A, rtol=1e-4)
        np.testing.assert_allclose(sums.HtH, expected.T @ expected, rtol=1e-4)
    np.testing.assert_array_equal(H[:, 2:5], before[:, 2:5].astype(dtype))


@every_engine
def test_blocks_of_coefficients_are_handed_over_in_order(engine):
    A, (W,) = matrix(200, 7, np.float32), factors([3], 7)
    H, written = np.zeros((200, 3), np.float32), []
    stack = Stack([W], np.dtype("f4"))
    engine().run_pass(MatrixRows(A, 64), stack, EXACT, H=H)
    engine().run_pass(
        MatrixRows(A, 64), stack, EXACT, with_HtA=False,
        write=lambda start, block: written.append((start, block.copy())),
    )  # fmt: skip
    assert [start for start, _ in written] == [0, 64, 128, 192]
    np.testing.assert_allclose(np.concatenate([block for _, block in written]), H, atol=1e-6)


@every_engine
def test_what_is_not_asked_for_is_not_there(engine):
    stack = Stack(factors([2], 4), np.dtype("f8"))
    (sums,) = engine().run_pass(as_row_blocks(matrix(9, 4)), stack, EXACT, with_HtA=False)
    assert sums.HtA is None


@every_engine
@every_form
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e-3])
def test_a_survey_sees_every_bad_value(engine, form, bad):
    A = matrix(40, 6, np.float32)
    squares, sound = engine().survey(form(A))
    assert sound
    np.testing.assert_allclose(squares, np.square(A, dtype=float).sum(), rtol=1e-7)
    for row in (0, 17, 39):
        B = A.copy()
        B[row, 5] = bad
        assert not engine().survey(form(B))[1]


@every_engine
def test_the_largest_float32_survive_a_survey(engine):
    A = np.full((3, 2), np.finfo(np.float32).max, np.float32)
    squares, sound = engine().survey(A)
    assert sound and np.isfinite(squares)


@every_engine
@pytest.mark.parametrize("solver", ["hals", "mu"])
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array], ids=["dense", "csr"])
def test_whole_factorizations_agree(engine, solver, form, monkeypatch):
    A = matrix(300, 12)
    options = {"solver": solver, "init": "nndsvd", "tol": 0, "max_passes": 15}
    expected = factorize_many(A, [2, 3], **options)
    monkeypatch.setattr(sweep, "make_engine", lambda *_, **__: engine())
    for f, g in zip(factorize_many(form(A), [2, 3], **options), expected, strict=True):
        np.testing.assert_allclose(f.loss, g.loss, rtol=1e-5)
        np.testing.assert_allclose(f.factors, g.factors, atol=1e-3)


@every_engine
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array], ids=["dense", "csr"])
def test_semi_nmf_agrees(engine, form, monkeypatch):
    A = matrix(300, 12) - 0.3
    options = {"nonneg": "H", "init": "random", "tol": 0, "max_passes": 8}
    expected = factorize_many(A, [2, 3], **options)
    monkeypatch.setattr(sweep, "make_engine", lambda *_, **__: engine())
    for f, g in zip(factorize_many(form(A), [2, 3], **options), expected, strict=True):
        np.testing.assert_allclose(f.loss, g.loss, rtol=1e-5)
        np.testing.assert_allclose(f.factors, g.factors, atol=1e-3)


@every_set_of_kernels
def test_threads_do_not_change_a_bit(kernels):
    A = matrix(3000, 40, np.float32)
    with loops(kernels):
        runs = [factorize_many(A, [3], [0, 1], threads=threads) for threads in (1, 2, 5)]
    for run in runs[1:]:
        for f, g in zip(run, runs[0], strict=True):
            assert f.factors.tobytes() == g.factors.tobytes()
            assert f.coefficients.tobytes() == g.coefficients.tobytes()
            assert f.loss.tobytes() == g.loss.tobytes()


@every_set_of_kernels
@pytest.mark.parametrize(
    ("rows", "channels", "ks"), [(300, 100, [5]), (129, 64, [1, 4]), (3, 7, [2]), (200, 33, [17])]
)
def test_float16_is_read_as_it_is_to_the_last_bit(kernels, rows, channels, ks):
    A = (matrix(rows, channels) - 0.4).astype(np.float16)
    A.reshape(-1)[:5] = 0.0, -0.0, 6e-8, 65504.0, -65504.0
    stack = Stack(factors(ks, channels), np.dtype("f4"))
    backwards = np.ascontiguousarray(A[:, ::-1])[:, ::-1]
    frozen = A.copy()
    frozen.setflags(write=False)
    with loops(kernels):
        runs = [
            (CpuEngine(1).run_pass(as_row_blocks(form), stack, Rule()),
             CpuEngine(1).survey(form, signed=True))
            for form in (A, A.astype(np.float32), backwards, frozen)
        ]  # fmt: skip
    expected, survey = runs[1]
    for sums, found in runs:
        assert found == survey
        for f, g in zip(sums, expected, strict=True):
            assert f.HtA.tobytes() == g.HtA.tobytes()
            assert f.HtH.tobytes() == g.HtH.tobytes() and f.HtP == g.HtP


@every_engine
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf, -6e-8, -1])
def test_a_survey_of_float16_sees_every_bad_value(engine, bad):
    A = matrix(40, 6).astype(np.float16)
    A[0, 0] = -0.0
    assert engine().survey(A)[1]
    A[39, 5] = bad
    assert not engine().survey(A)[1]
    assert engine().survey(A, signed=True)[1] == bool(np.isfinite(bad))


@every_set_of_kernels
@given(
    rows=st.integers(1, 200),
    channels=st.integers(1, 40),
    ks=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_sparse_and_dense_are_one(kernels, rows, channels, ks, seed):
    A, stack = matrix(rows, channels, seed=seed), Stack(factors(ks, channels), np.dtype("f8"))
    with loops(kernels):
        runs = [
            CpuEngine(1).run_pass(as_row_blocks(form), stack, Rule())
            for form in (A, scipy.sparse.csr_array(A))
        ]
    for f, g in zip(*runs, strict=True):
        np.testing.assert_allclose(f.HtA, g.HtA, atol=1e-9)
        np.testing.assert_allclose(f.HtH, g.HtH, atol=1e-9)


@every_set_of_kernels
@pytest.mark.parametrize("channels", [1, 63, 64, 65, 200])
def test_factors_are_least_squares(channels, kernels):
    H = matrix(50, 4, seed=3)
    A = matrix(50, channels, seed=4)
    with loops(kernels):
        W = sweep_factors(np.full((4, channels), 0.1), H.T @ A, H.T @ H, sweeps=500, tol=1e-12)
    expected = np.array([nnls(H, column)[0] for column in A.T]).T
    np.testing.assert_allclose(W, expected, atol=1e-8)


def test_a_factorization_on_a_cpu_needs_no_torch():
    code = (
        "import sys, numpy as np; from stages.algorithms.nmf import factorize; "
        "factorize(np.ones((9, 4)), 2); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_without_a_place_for_compiled_code(tmp_path):
    """A read-only installation and no home: compiled anew, not refused."""
    code = (
        "import numba.core.caching as c, numpy as np\n"
        "c.CacheImpl._locator_classes = []\n"
        "from stages.algorithms.nmf.cpu import sweep_factors\n"
        "from stages.algorithms.nmf.kernels.vector import sweep_coordinates\n"
        "print(sweep_factors(np.ones((1, 2)), np.ones((1, 2)), np.eye(1), sweeps=1, tol=0).sum())\n"
        "print(type(sweep_coordinates._cache).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        cwd=Path(__file__).parents[2], env=os.environ | {"NUMBA_CACHE_DIR": ""},
    )  # fmt: skip
    assert done.stdout.split() == ["2.0", "NullCache"]
