"""The examples in the documents and in docstrings run, and give what they say."""

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.init import write_params
from tools import ROOT, draw, edit, run_dff

pytestmark = pytest.mark.xdist_group("examples")  # one worker makes its project

MODULES = ("store.artifact", "store.location", "stages.algorithms.nmf.factorization")


@pytest.fixture(scope="module")
def demo_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two sets of four images, seen by the demo's network."""
    home = tmp_path_factory.mktemp("examples")
    for name in ("bird", "car"):
        for i in range(4):
            draw(home / "photographs" / name / f"{i}.png", i)
    write_params(
        home,
        str(home / "photographs"),
        None,
        backbone="demo",
        weights="bundled",
        layers=["conv4_2"],
    )
    edit(home, "batch: 16", "batch: 4")
    for stage in ("index", "extract"):
        assert run_dff(stage, "--project", str(home)).exit_code == 0
    return home


def check(text: str, name: str) -> int:
    test = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    results = runner.run(test, out=said.append)
    assert results.failed == 0, "".join(said)
    return results.attempted


def test_the_store_document(demo_like: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo_like)
    text = (ROOT / "docs/store.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert check("\n".join(blocks), "docs/store.md") > 20


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(demo_like: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo_like)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner()
    attempted = 0
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        said: list[str] = []
        results = runner.run(test, out=said.append)
        assert results.failed == 0, "".join(said)
        attempted += results.attempted
    assert attempted > 0


def test_the_refinement_document(demo_like: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in ("factorize", "heatmaps", "refine"):
        assert run_dff(stage, "--project", str(demo_like)).exit_code == 0
    monkeypatch.chdir(demo_like)
    text = (ROOT / "docs/refinement.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec("\n".join(blocks), names)
    assert len(blocks) == 2 and names["q"].shape == names["heat"].shape
    assert not names["q"].equal(names["papers"]) and not names["q"].equal(names["tight"])
    assert names["again"].equal(names["smooth"]) and not names["again"].equal(names["fast"])
    assert names["maps"].masks(0).shape == names["maps"].shares(0).shape
    assert set(names["maps"].boxes) >= {"rank", "score"}


def test_the_factorization_document() -> None:
    text = (ROOT / "docs/factorization.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec("\n".join(blocks), names)
    assert len(blocks) == 3 and len(names["runs"]) == 6
    np.testing.assert_allclose(names["new"], names["f"].coefficients[:10], atol=1e-4)
    assert names["model"].components_.shape == names["f"].factors.shape
