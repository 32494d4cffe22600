"""`dff init` as people type it: where they stand, what they name, and what a run then finds."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.init import write_params
from pipeline.params import ParamsError, read_params
from tools import draw, edit, message, run_dff

NETWORK = ("--backbone", "squeezenet1_1", "--layer", "features.5")


@dataclass
class Case:
    """A command typed in a folder, and the folder of the project that it makes.

    Attributes
    ----------
    typed : sequence of str
        After `dff init`.
    here : str
        Where, below a folder that holds `flat` (photographs), `sets` (folders of them), weights and
        a link to `elsewhere/deep`.
    project : str
        From there; '' where the command is refused with one to type instead.
    """

    typed: Sequence[str]
    here: str = "."
    project: str = ""


CASES: dict[str, Case] = {
    "photographs beside the project": Case(["flat"], project="."),
    "folders of them": Case(["sets"], project="."),
    "a slash at its end": Case(["sets/"], project="."),
    "another folder": Case(["sets", "--project", "p/q"], project="p/q"),
    "from below": Case(["../flat"], "elsewhere", project="."),
    "behind a link": Case(["flat", "-C", "link"], project="link"),
    "at home": Case(["~/flat", "-C", "p"], project="p"),
    "weights": Case(["flat", "-C", "p", "--weights", "w.pth.tar"], project="p"),
    "weights from below": Case(["../flat", "--weights", "../w.pth.tar"], "elsewhere", project="."),
    "weights behind a link": Case(["flat", "-C", "link", "--weights", "w.pth.tar"], project="link"),
    "weights at home": Case(["flat", "-C", "p", "--weights", "~/w.pth.tar"], project="p"),
    "here": Case(["."], "flat"),
    "here, with a slash": Case(["./"], "flat"),
    "here, by name": Case(["../flat"], "flat"),
    "here, folders of them": Case(["."], "sets"),
    "here, in one of them": Case([".."], "sets/a b"),
    "here, with weights": Case([".", "--weights", "../w.pth.tar"], "flat"),
    "there": Case(["flat", "--project", "flat"]),
    "below them": Case(["flat", "--project", "flat/p"]),
    "a preset": Case(["icoseg", "."], "sets"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_project(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "ho me"
    for i, name in enumerate(["flat/0.png", "flat/1.png", "sets/a b/0.png", "sets/c/1.png"]):
        draw(home / name, i)
    (home / "elsewhere/deep").mkdir(parents=True)
    (home / "link").symlink_to("elsewhere/deep")
    (home / "w.pth.tar").write_bytes(b"no weights")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / case.here)
    before = sorted(home.rglob("*"))
    result = run_dff("init", *case.typed, *NETWORK)
    project = case.project
    if not project:
        said = message(result)
        assert sorted(home.rglob("*")) == before
        advised, then = [shlex.split(part) for part in said.split("`")[1::2]]
        assert advised[:2] == ["dff", "init"] and then[:3] == ["dff", "run", "--project"]
        assert said.startswith(f"{Path(case.typed[-1 if 'icoseg' in case.typed else 0])}: the")
        assert run_dff(*advised[1:]).exit_code == 0
        project = then[3]
    else:
        assert result.exit_code == 0
    elsewhere = (Path.cwd() / project).absolute()
    monkeypatch.chdir(tmp_path)
    assert run_dff("index", "--project", str(elsewhere)).exit_code == 0
    if "--weights" in case.typed:
        said = message(run_dff("extract", "--project", str(elsewhere)))
        assert "w.pth.tar cannot be read as a plain state dict" in said, "it is found"


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    draw(tmp_path / "flat/0.png", 0)
    for name in ("nowhere.pth", "nowhere.pth.tar", "./nowhere", "~/nowhere.pt"):
        with pytest.raises(ParamsError, match="no such file of weights"):
            write_params(tmp_path / "p", str(tmp_path / "flat"), None, weights=name)
    for name in ("DEFAULT", "random:7"):
        write_params(tmp_path / "p", str(tmp_path / "flat"), None, weights=name, force=True)
        assert read_params(tmp_path / "p")["extract"].weights == name


def test_photographs_around_a_project_that_is_there(project: Path) -> None:
    root = next(x for x in (project / "params.yaml").read_text().splitlines() if "  root:" in x)
    edit(project, root, "  root: ..")
    said = message(run_dff("index", "-C", str(project)))
    assert "holds this project's own folder; make the project elsewhere, such as `dff init" in said
