"""`dff label --from`: the names of a file are checked, and merged into those that are there."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from pipeline.registry import STAGES
from stages.artifacts.factors import Factors
from stages.naming.labels import labels_text, packed, read_labels
from stages.naming.names import directions_of
from tools import message, run_dff

Dff = Callable[..., Result]


@pytest.fixture
def named(finished: Path, tmp_path: Path) -> Path:
    """A project with factors of two sets, k = 1 and 2, and an empty labels.yaml."""
    project = shutil.copytree(finished, tmp_path / "named", symlinks=True)
    (project / "labels.yaml").unlink()
    return project


@pytest.fixture
def bring(named: Path, tmp_path: Path) -> Dff:
    """`dff label --from` with a file of that content."""

    def call(content: Any, *arguments: str) -> Result:
        path = tmp_path / "brought.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return run_dff("label", "--from", str(path), *arguments, "--project", str(named))

    return call


def factors_of(project: Path) -> Factors:
    return Factors.open(project / "artifacts/factors.zarr")


def of_these(project: Path, sets: Any, **more: Any) -> dict[str, Any]:
    """A file of the project's factors."""
    return {"factors": factors_of(project).fingerprint, "sets": sets, **more}


def test_names_come_beside_those_that_are_there(named: Path, bring: Dff) -> None:
    assert bring(of_these(named, {"discs": {2: ["ear", None]}})).exit_code == 0
    result = bring(of_these(named, {"discs": {2: [None, "eye"]}, "more discs": {1: [["a", "b"]]}}))
    assert result.exit_code == 0
    path = named / "labels.yaml"
    kept = "what it was is in labels.yaml.before"
    assert result.stdout.strip() == f"{path}: 2 new names; {kept}"
    assert "`dff run` then shows the names everywhere" in result.stderr
    labels = read_labels(path)
    assert labels.sets["discs"] == {1: ((),), 2: (("ear",), ("eye",))}
    assert labels.sets["more discs"][1] == (("a", "b"),)
    assert labels.factors == factors_of(named).fingerprint and set(labels.directions) == {
        "discs", "more discs",
    }  # fmt: skip
    assert read_labels(named / "labels.yaml.before").sets["discs"][2] == (("ear",), ())
    before = path.read_bytes()
    again = bring(of_these(named, {"discs": {2: ["ear", "eye"]}}))
    assert again.stdout.strip() == f"{path}: has these names already"
    assert path.read_bytes() == before


def test_names_of_others_are_replaced_by_force_alone(named: Path, bring: Dff) -> None:
    path = named / "labels.yaml"
    assert bring(of_these(named, {"discs": {2: ["ear", "eye"]}})).exit_code == 0
    before = path.read_bytes()
    other = of_these(named, {"discs": {2: ["nose", None]}})
    line = message(bring(other))
    assert "would replace 1 other name that it does not know of" in line
    assert "discs, k = 2, factor 0: 'ear' becomes 'nose'; --force lets it" in line
    assert path.read_bytes() == before
    result = bring(other, "--force")
    assert result.exit_code == 0 and "1 replaced" in result.stdout
    assert "discs, k = 2, factor 0: 'ear' becomes 'nose'" in result.stderr
    assert read_labels(path).sets["discs"][2] == (("nose",), ("eye",)), "null takes none away"
    assert (named / "labels.yaml.before").read_bytes() == before


def test_of_two_peoples_changes_none_is_lost(named: Path, bring: Dff) -> None:
    """Both began with the same names; each changed one, the first took one away, too."""
    path = named / "labels.yaml"
    assert bring(of_these(named, {"discs": {2: ["ear", "eye"], 1: ["disc"]}})).exit_code == 0
    began = {"discs": {2: ["ear", "eye"], 1: ["disc"]}}
    first = of_these(named, {"discs": {2: ["nose", "eye"], 1: [None]}}, before=began)
    second = of_these(named, {"discs": {2: ["ear", "mouth"], 1: ["disc"]}}, before=began)
    result = bring(first)
    assert result.exit_code == 0 and "1 replaced, 1 taken away" in result.stdout
    assert bring(second).exit_code == 0
    assert read_labels(path).sets["discs"] == {1: ((),), 2: (("nose",), ("mouth",))}
    # a third one changed what the first has changed since
    third = of_these(named, {"discs": {2: ["lip", "eye"]}}, before=began)
    assert "factor 0: 'nose' becomes 'lip'" in message(bring(third))


def test_names_of_other_factors_are_found_again(named: Path, bring: Dff) -> None:
    """The same factors in another order, and one that is none of these."""
    factors = factors_of(named)
    W = directions_of(factors, "features.5", 0)["discs"]
    text = labels_text(
        "features.5",
        0,
        "others",
        {"discs": {1: [("disc",)], 2: [("second",), ("first",)]}},
        {"discs": {1: 1 - W[1] / W[1].max(), 2: W[2][[1, 0]]}},
        {},
    )
    result = bring(text)
    assert result.exit_code == 0, result.exception
    assert read_labels(named / "labels.yaml").sets["discs"][2] == (("first",), ("second",))
    assert "discs, k = 2: 2 names found again by direction" in result.stderr
    assert "cosine of 0.99" in result.stderr or "cosine of 1.00" in result.stderr
    assert "discs, k = 1: no factor is 'disc' any more" in result.stderr
    assert "# discs, k = 1: no factor is 'disc'" in (named / "labels.yaml").read_text()
    (named / "labels.yaml").unlink()
    line = message(bring({"factors": "others", "sets": {"discs": {1: ["disc"]}}}))
    assert "brought.yaml: discs, k = 1: its names were given to other factors" in line
    assert not (named / "labels.yaml").exists()


def test_a_file_by_hand_is_taken_at_its_word(named: Path, bring: Dff) -> None:
    result = bring("sets: {discs: {2: [no, ~], 7: [a, b, c, d, e, f, g]}, dics: {1: [a]}}")
    assert result.exit_code == 0
    assert read_labels(named / "labels.yaml").sets["discs"][2] == (("no",), ())
    assert "image set 'dics' is not there, so it is left alone; did you mean 'discs'?" in (
        result.stderr
    )
    assert "sets.discs: k 7 is not there" in result.stderr


def test_images_that_were_looked_at_stay_out_of_scores(named: Path, bring: Dff) -> None:
    images = [f"images/discs/{i}.png" for i in range(3)]
    for some in (images[:2], images[1:]):
        content = of_these(named, {"discs": {1: ["disc"]}}, seen={"discs": some})
        assert bring(content, "--force").exit_code == 0
    # nothing but what was looked at is new in the second
    assert read_labels(named / "labels.yaml").seen["discs"] == set(images)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("sets: [", "brought.yaml: cannot be read (not valid YAML in line 1"),
        ("a photograph", "must have the keys"),
        ("", "names no factor"),
        ("before: {discs: {1: [a]}}", "names no factor"),
        ("sets: {discs: {1: [a]}}\nbefore: {discs: {1: [a, b]}}", "before.discs.1: must be a list"),
        ("sets: {dics: {1: [a]}}", "image set 'dics' is not there"),
        ("sets: {discs: {4: [a, b, c, d]}}", "sets.discs: k 4 is not there"),
        ("layer: features.7\nsets: {discs: {1: [a]}}", "layer 'features.7' is not there"),
    ],
)
def test_a_wrong_file_is_one_line(named: Path, bring: Dff, content: str, expected: str) -> None:
    line = message(bring(content))
    assert "brought.yaml: " in line and expected in line
    assert not (named / "labels.yaml").exists()


def test_a_file_that_is_not_there_and_two_ways_at_once(named: Path, tmp_path: Path) -> None:
    command = ("label", "--from", str(tmp_path / "none.yaml"), "--project", str(named))
    assert "none.yaml: no such file" in message(run_dff(*command))
    assert "--from and --auto" in message(run_dff(*command, "--auto"))


def test_what_was_brought_is_shown(named: Path, bring: Dff) -> None:
    assert bring(of_these(named, {"discs": {2: ["ear", "eye"]}})).exit_code == 0
    for stage in STAGES[-3:]:
        assert run_dff(stage.name, "--project", str(named)).exit_code == 0
    assert "ear" in run_dff("show", "--project", str(named)).stdout
    W = directions_of(factors_of(named), "features.5", 0)["discs"][2]
    assert packed(W) in (named / "labels.yaml").read_text().replace("\n      ", "")
