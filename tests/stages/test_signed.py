"""Features with values below zero, all the way: tokens of a transformer, semi-NMF, maps, names."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.init import write_params
from pipeline.params import read_params
from stages.artifacts.activations import Activations
from stages.artifacts.factors import Factors
from stages.evaluate.stage import EVALUATE
from stages.extract.params import ExtractParams
from stages.extract.stage import EXTRACT
from stages.factorize.params import FactorizeParams
from stages.factorize.stage import FACTORIZE
from stages.frame.errors import StageError
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.heatmaps.params import HeatmapsParams
from stages.heatmaps.stage import HEATMAPS
from stages.index.params import IndexParams
from stages.index.stage import INDEX
from stages.naming.labels import packed, unpacked
from tools import draw

NETWORK, LAYER, SIZE = "timm/vit_tiny_patch16_224", "blocks.1", 96
RESOURCES = Resources(workers=1)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("signed") / "root"
    for i in range(6):
        draw(root / "images" / "discs" / f"{i}.png", i, (SIZE, SIZE))
    project = root.parent / "project"
    project.mkdir()
    execute(INDEX, IndexParams(dataset="folder", root=str(root)), project, RESOURCES)
    params = ExtractParams(NETWORK, "random:0", (LAYER,), size=SIZE)
    execute(EXTRACT, params, project, RESOURCES)
    return project


def test_they_are_refused_until_w_may_be_below_zero(project: Path) -> None:
    assert Activations.open(project / EXTRACT.writes).signed == [LAYER]
    with pytest.raises(StageError, match=r"blocks\.1 .*below zero.* set factorize\.nonneg: H"):
        execute(FACTORIZE, FactorizeParams((1, 2)), project, RESOURCES)


def test_semi_nmf_of_tokens_becomes_heat_maps(project: Path) -> None:
    activations = Activations.open(project / EXTRACT.writes)
    execute(FACTORIZE, FactorizeParams((1, 2, 3), nonneg="H"), project, RESOURCES)
    factors = Factors.open(project / FACTORIZE.writes)
    at = factors.at(LAYER)
    assert at.W.min() < 0
    assert "semi-NMF" in factors.solver
    norm, wrong = 0.0, np.zeros(3)
    W = at.W[0].astype(float)
    for entry in range(6):
        A = activations.at(LAYER).map(entry).reshape(36, -1).astype(float)
        H = at.coefficients.map(entry).reshape(36, -1).astype(float)
        assert (H >= 0).all()
        norm += np.square(A).sum()
        for i, columns in enumerate((slice(0, 1), slice(1, 3), slice(3, 6))):
            wrong[i] += np.square(A - H[:, columns] @ W[columns]).sum()
    np.testing.assert_allclose([one[np.isfinite(one)][-1] for one in at.loss[0]], wrong, rtol=1e-3)
    assert wrong[0] > wrong[1] > wrong[2]
    maps = execute(HEATMAPS, HeatmapsParams(long_side=32), project, RESOURCES)
    assert maps.exists()


def test_init_says_so_for_a_network_of_tokens(tmp_path: Path) -> None:
    draw(tmp_path / "photographs" / "a.png", 0, (SIZE, SIZE))
    root = str(tmp_path / "photographs")
    for network, nonneg in ((NETWORK, "H"), ("squeezenet1_1", "W and H")):
        project = tmp_path / nonneg.replace(" ", "")
        write_params(project, "folder", Path(root), backbone=network, weights="random:0")
        assert read_params(project)["factorize"].nonneg == nonneg
    assert EVALUATE.name in read_params(project)


def test_directions_of_any_sign_are_kept() -> None:
    W = np.random.default_rng(0).standard_normal((5, 200)).astype(np.float32)
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    again = unpacked(packed(W), 5)
    assert ((W * again).sum(axis=1) > 0.999).all()
    above = abs(W)
    assert ((above * unpacked(packed(above), 5)).sum(axis=1) > 0.9999).all()
    assert not packed(above).startswith("~")
