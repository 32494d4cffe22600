"""Which kernels a CPU gets, and what is kept of them; what they compute is in test_engines."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from numba.core import cgutils

from stages.algorithms.nmf import factorize, kernels
from stages.algorithms.nmf.kernels import lanes, plain, vector
from tools import copy_of_project


@pytest.fixture
def chosen_anew():
    kernels.chosen.cache_clear()
    yield
    kernels.chosen.cache_clear()


def import_fails(patch):
    """Numba has moved what `lanes` imports."""
    patch.delattr(numba.extending, "intrinsic")
    for module in (lanes, vector):
        patch.delitem(sys.modules, module.__name__)
        patch.delattr(kernels, module.__name__.rpartition(".")[2])


def compiling_fails(patch):
    """Something that `lanes` calls while it compiles is gone; what is on disk does not count."""
    patch.setattr(lanes, "_use_all", numba.njit(lanes._use_all.py_func))
    patch.delattr(cgutils, "get_or_insert_function")


def numbers_are_wrong(patch):
    patch.setattr(lanes, "_use_all", lambda flat, room: 0.0)


def test_the_vector_kernels_are_chosen_here(chosen_anew):
    assert kernels.chosen() is vector


@pytest.mark.parametrize("break_it", [import_fails, compiling_fails, numbers_are_wrong])
def test_plain_loops_where_the_vector_ones_do_not_compile(break_it, chosen_anew, monkeypatch):
    A = np.random.default_rng(0).random((300, 12)).astype(np.float32)
    expected = factorize(A, 3, init="nndsvd")
    kernels.chosen.cache_clear()
    break_it(monkeypatch)
    with pytest.warns(RuntimeWarning, match="plain loops, .* numba") as said:
        f = factorize(A, 3, init="nndsvd")
    assert len(said) == 1, "once, whatever the number of calls"
    assert kernels.chosen() is plain
    np.testing.assert_allclose(f.loss[-1], expected.loss[-1], rtol=1e-5)
    np.testing.assert_allclose(f.factors, expected.factors, atol=1e-3)
    assert (f.coefficients >= 0).all()


def test_compiled_code_is_kept_until_any_file_of_the_kernels_changes(tmp_path):
    clone = copy_of_project(tmp_path / "clone", "stages")
    code = (
        "import numpy as np\n"
        "from stages.algorithms.nmf.kernels.vector import squares as kernel\n"
        "print(kernel(np.full(40, 2.0))[0], sum(kernel.stats.cache_hits.values()))"
    )

    def run():
        return subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True,
            cwd=clone, env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")},
        ).stdout.split()  # fmt: skip

    assert [run(), run()] == [["160.0", "0"], ["160.0", "1"]]
    other = clone / "stages/algorithms/nmf/kernels/lanes.py"
    other.write_text(other.read_text(encoding="utf-8") + "# a note\n", encoding="utf-8")
    assert run() == ["160.0", "0"]
