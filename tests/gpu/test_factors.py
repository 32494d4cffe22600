"""Factors found on a GPU: those of the CPU, as good as scikit-learn's, and the same every time."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.decomposition import non_negative_factorization

from gpu import DEVICE, cosines, needs_cuda, planted
from stages.algorithms.backbone import load_backbone
from stages.algorithms.nmf import Sweep, factorize, factorize_many
from stages.algorithms.rows import MatrixRows
from stages.images.decode import decode_rgb
from stages.images.resize import normalise, resize_rgb

pytestmark = needs_cuda
FORMS: dict[str, tuple[float, Callable[[np.ndarray], Any]]] = {
    "dense": (1.0, np.asarray),
    "sparse": (0.1, scipy.sparse.csr_array),
    "tensor": (0.5, lambda A: torch.from_numpy(A).to(DEVICE)),
    "blocks": (0.2, lambda A: MatrixRows(A, 4096)),
    "sparse blocks": (0.05, lambda A: MatrixRows(scipy.sparse.csr_array(A), 1000)),
}
every_form = pytest.mark.parametrize("form", FORMS)
# rows that do not fill the last block, tile or warp
ROWS = 12_011


def matrix(form: str, rows: int = ROWS) -> tuple[np.ndarray, Any]:
    """Drawn rows, plainly and in one of the forms."""
    density, make = FORMS[form]
    A = planted(rows, density=density)
    return A, make(A)


def residual(A: np.ndarray, H: np.ndarray, W: np.ndarray) -> float:
    """``||A - H W||_F^2`` in float64."""
    return float(np.square(A.astype(float) - H.astype(float) @ W.astype(float)).sum())


@every_form
@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_cpu_and_gpu_agree(form: str, solver: str) -> None:
    A, given = matrix(form)
    # at the optimum: on the way there rounding may stop one of the two a pass earlier
    options: dict[str, Any] = {"solver": solver, "tol": 1e-7, "max_passes": 100}
    here = factorize(A, 5, device="cpu", **options)
    there = factorize(given, 5, device=DEVICE, **options)
    assert cosines(here.factors, there.factors).min() > 0.9999
    assert there.loss[-1] == pytest.approx(here.loss[-1], rel=1e-4)
    # its own account of the loss is that of what it returns
    assert residual(A, there.coefficients, there.factors) == pytest.approx(there.loss[-1], rel=1e-4)


@every_form
def test_the_defaults_agree_too(form: str) -> None:
    A, given = matrix(form)
    found = factorize_many(given, [1, 2, 3, 4, 5], device=DEVICE)
    expected = factorize_many(A, [1, 2, 3, 4, 5], device="cpu")
    for f, g in zip(found, expected, strict=True):
        assert cosines(f.factors, g.factors).min() > 0.9999
        assert f.loss[-1] == pytest.approx(g.loss[-1], rel=1e-4)


@every_form
def test_as_good_as_scikit_learn(form: str) -> None:
    A, given = matrix(form, 6007)
    H, W, _ = non_negative_factorization(
        A, n_components=5, init="nndsvda", tol=1e-5, max_iter=500, random_state=0
    )
    found = factorize(given, 5, device=DEVICE)
    assert found.loss[-1] <= residual(A, H, W) * 1.0005


@every_form
@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_repeated_runs_give_the_same_bits(form: str, solver: str) -> None:
    _, given = matrix(form)
    options = {"solver": solver, "device": DEVICE, "max_passes": 20}
    first, second = (factorize_many(given, [2, 5], [0, 1], **options) for _ in range(2))
    for f, g in zip(first, second, strict=True):
        for name in ("factors", "coefficients", "loss", "energy"):
            assert getattr(f, name).tobytes() == getattr(g, name).tobytes(), name


@every_form
@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_resumed_after_any_pass_it_gives_the_same_bits(form: str, solver: str) -> None:
    _, given = matrix(form, 4099)
    options: dict[str, Any] = {"solver": solver, "device": DEVICE, "max_passes": 8, "tol": 1e-9}
    whole = Sweep(given, [2, 5], [0, 1], **options)
    states = []
    while not whole.done:
        whole.step()
        states.append(saved(whole))
    expected = whole.finish()
    for state in states:
        with np.load(io.BytesIO(state), allow_pickle=False) as loaded:
            resumed = Sweep(given, [2, 5], [0, 1], **options, resume=dict(loaded))
        while not resumed.done:
            resumed.step()
        for f, g in zip(resumed.finish(), expected, strict=True):
            assert f.passes == g.passes
            for name in ("factors", "coefficients", "loss", "energy"):
                assert getattr(f, name).tobytes() == getattr(g, name).tobytes(), name


def saved(sweep: Sweep) -> bytes:
    """Its state as the pipeline keeps it on disk."""
    file = io.BytesIO()
    np.savez(file, **sweep.state())
    return file.getvalue()


# -- real activations ------------------------------------------------------------------------


def real_collection() -> tuple[list[Path], Path] | None:
    """Photographs and squeezenet1_1's weights, where the environment names both."""
    if real := os.environ.get("DFF_REAL_DATA"):
        root, weights = Path(real) / "msrc_cow/images", Path(real) / "weights"
        weights = weights / "squeezenet1_1_imagenet_features.pth"
    else:
        root = Path(os.environ.get("DFF_GPU_PHOTOGRAPHS") or "nowhere")
        weights = Path(os.environ.get("DFF_GPU_WEIGHTS") or "nowhere")
    files = [path for path in sorted(root.rglob("*")) if path.suffix in (".jpg", ".png")]
    files = [path for path in files if "masks" not in path.parts]
    return (files[:48], weights) if files and weights.is_file() else None


@pytest.mark.real
@pytest.mark.skipif(real_collection() is None, reason="needs real photographs and weights")
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_real_activations_agree(form: str) -> None:
    photographs, weights = real_collection() or ([], Path())
    network = load_backbone("squeezenet1_1", ["features.12"], str(weights))
    pixels = [
        normalise(resize_rgb(decode_rgb(path.read_bytes()), (224, 224)), network.mean, network.std)
        for path in photographs
    ]
    maps = network(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))["features.12"]
    A = maps.reshape(-1, 512).float().numpy()
    given = scipy.sparse.csr_array(A) if form == "sparse" else A
    for k in (1, 3, 5):
        options: dict[str, Any] = {"tol": 1e-7, "max_passes": 500}
        here = factorize(A, k, device="cpu", **options)
        there = factorize(given, k, device=DEVICE, **options)
        assert cosines(here.factors, there.factors).min() > 0.9999
        assert there.loss[-1] == pytest.approx(here.loss[-1], rel=1e-4)
