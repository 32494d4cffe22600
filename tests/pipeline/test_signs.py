"""Layers with values below zero are refused before extraction, unless W may have some."""

from pathlib import Path

import pytest

from pipeline.init import write_params
from pipeline.params import ParamsError, read_params
from pipeline.plan import planned
from pipeline.run_project import prepared
from pipeline.signs import check_signs
from stages.algorithms.backbone import describe
from stages.frame.resources import Resources
from tools import draw_photographs, edit, message, run_dff, run_in_process, small_project

POSITIVE, SIGNED = "features.5", "features.4.expand3x3"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return small_project(tmp_path / "project", draw_photographs(tmp_path / "photographs", 2))


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is tried from now on; everything is positive."""
    found: list[object] = []
    monkeypatch.setattr(describe, "_signed", lambda *of: found.append(of) or frozenset())
    return found


def test_a_signed_layer_is_refused_before_anything_runs(project: Path) -> None:
    check_signs(project, read_params(project))
    edit(project, f"layers: [{POSITIVE}]", f"layers: [{POSITIVE}, {SIGNED}]")
    refused = r"extract\.layers: features\.4\.expand3x3 of squeezenet1_1: .* set factorize\.nonneg"
    with pytest.raises(ParamsError, match=refused + r": H.*ReLUs near it: features\.4\.expand"):
        prepared(project, "cpu", 1, "auto", "", "", force=False)
    with pytest.raises(ParamsError, match=refused):
        list(planned(project, Resources(workers=1)))
    line = message(run_dff("run", "--project", str(project)))
    assert SIGNED in line
    assert not [path for path in project.glob("artifacts/*") if path.name != ".staging"]
    edit(project, "nonneg: W and H", "nonneg: H")
    check_signs(project, read_params(project))


def test_activations_that_are_there_say_themselves_what_they_have(
    project: Path, tries: list[object]
) -> None:
    run_in_process(project, "index", "extract")
    tries.clear()
    check_signs(project, read_params(project))
    assert not tries
    draw_photographs(project.parent / "photographs", 3)  # another photograph, the same network
    check_signs(project, read_params(project))
    assert not tries
    edit(project, "size: 64", "size: 96")
    check_signs(project, read_params(project))
    assert len(tries) == 1


def test_names_of_a_paper_need_no_trial(tmp_path: Path, tries: list[object]) -> None:
    write_params(tmp_path, "demo", None)
    check_signs(tmp_path, read_params(tmp_path))
    edit(tmp_path, "layers: [conv4_2]", "layers: [features.0]")
    check_signs(tmp_path, read_params(tmp_path))
    assert tries == [("demo", ("features.0",))]
