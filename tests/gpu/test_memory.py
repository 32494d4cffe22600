"""A GPU that is too small for the rows, or that two processes share."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu import DEVICE, REASON, SMALL_DEVICE, cosines, needs_cuda, output, planted, python
from stages.algorithms.nmf import factorize
from stages.algorithms.rows import MatrixRows
from tools import edit, message, run_dff

ROWS, CHANNELS, BLOCK = 500_003, 256, 8192  # 488 MiB of float32, 8 MiB a block
LIMIT = 320 * 2**20

FACTORIZE = """
import sys
import numpy as np
from gpu import DEVICE, planted
from stages.algorithms.nmf import factorize
from stages.algorithms.rows import MatrixRows
A = MatrixRows(planted({rows}, {channels}), {block})
f = factorize(A, 5, device=DEVICE, max_passes=12)
np.savez(sys.argv[1], factors=f.factors, coefficients=f.coefficients, loss=f.loss)
"""


def digest(path: Path) -> str:
    """Of every bit of a result."""
    with np.load(path) as found:
        return hashlib.sha256(b"".join(found[name].tobytes() for name in found.files)).hexdigest()


@needs_cuda
def test_rows_that_do_not_fit_are_streamed(tmp_path: Path) -> None:
    """A device of 320 MiB for 488 MiB of rows."""
    code = FACTORIZE.format(rows=ROWS, channels=CHANNELS, block=BLOCK)
    output(python(SMALL_DEVICE.format(limit=LIMIT) + code, str(tmp_path / "small.npz")))
    with np.load(tmp_path / "small.npz") as found:
        rows = MatrixRows(planted(ROWS, CHANNELS), BLOCK)
        expected = factorize(rows, 5, device=DEVICE, max_passes=12)
        assert cosines(found["factors"], expected.factors).min() > 0.99999
        np.testing.assert_allclose(found["loss"], expected.loss, rtol=1e-4)


@needs_cuda
def test_two_processes_on_one_device_give_the_bits_of_one(tmp_path: Path) -> None:
    code = FACTORIZE.format(rows=30_001, channels=CHANNELS, block=BLOCK)
    names = [tmp_path / f"{name}.npz" for name in ("alone", "one", "other")]
    output(python(code, str(names[0])))
    for process in [python(code, str(name)) for name in names[1:]]:
        output(process)
    assert len({digest(name) for name in names}) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason=REASON)
def test_a_device_without_room_is_one_line_with_both_numbers(project: Path) -> None:
    edit(project, "k: [1, 2]", "k: [3, 5]")
    for stage in ("index", "extract"):
        assert run_dff(stage, "--project", str(project)).exit_code == 0
    code = SMALL_DEVICE.format(limit=2**20) + (
        "import sys\nfrom pipeline import cli\n"
        f"sys.argv = ['dff', 'factorize', '--project', {str(project)!r}, '--device', 'cuda']\n"
        "cli.main()\n"
    )
    process = python(code)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    lines = [line for line in errors.splitlines() if line.startswith("dff: ")]
    assert len(lines) == 1 and "Traceback" not in errors, errors
    assert len(re.findall(r"\d[\d.]* ?[KMGT]i?B", lines[0])) >= 2, lines[0]
    assert not (project / "artifacts/factors.zarr").exists()


@pytest.mark.parametrize("stage", ["extract", "factorize", "refine"])
def test_a_device_that_is_not_there_is_refused_in_one_line(project: Path, stage: str) -> None:
    for earlier in ("index", "extract", "factorize", "heatmaps"):
        if earlier == stage:
            break
        assert run_dff(earlier, "--project", str(project), "--device", "cpu").exit_code == 0
    result = run_dff(stage, "--project", str(project), "--device", "cuda:7")
    count = torch.cuda.device_count()
    assert message(result) == f"--device cuda:7: this machine has {count} CUDA devices"
