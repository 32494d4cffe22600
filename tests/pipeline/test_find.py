"""`dff find`: images by how much of a concept they show."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.find import only_set
from pipeline.results import open_results
from tools import message, run_dff

pytestmark = pytest.mark.xdist_group("results")  # one worker makes its project


def lines(finished: Path, *arguments: str) -> list[tuple[str, float]]:
    result = run_dff("find", "--project", str(finished), *arguments)
    assert result.exit_code == 0, result.exception
    found = [line.split("\t") for line in result.stdout.splitlines()]
    return [(image, float(strength)) for image, strength in found]


def expected(finished: Path, k: int, factor: int) -> list[tuple[str, float]]:
    """Mean coefficients over the largest of the set, strongest first."""
    r = open_results(finished)
    grids = {image: r.coefficients(image, k)[..., factor] for image in r.images("discs")}
    largest = max(grid.max() for grid in grids.values())
    means = {image: float(grid.mean() / largest) for image, grid in grids.items()}
    return sorted(means.items(), key=lambda one: -one[1])


def test_by_name_and_by_number(finished: Path) -> None:
    by_name = lines(finished, "--set", "discs", "--concept", "object")
    wanted = [one for one in expected(finished, 2, 1) if one[1] > 0]
    assert [image for image, _ in by_name] == [image for image, _ in wanted]
    np.testing.assert_allclose([s for _, s in by_name], [s for _, s in wanted], atol=1e-4)
    assert lines(finished, "--set", "discs", "--concept", "1", "--k", "2") == by_name
    (first,) = lines(finished, "--set", "discs", "--concept", "0", "--k", "1", "--top", "1")
    assert first == pytest.approx(expected(finished, 1, 0)[0], abs=1e-4)


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["discs", "--concept", "objekt"], "did you mean 'object'?"),
        (["discs", "--concept", "object", "--k", "1"], "discs has no such concept with k = 1"),
        (["more discs", "--concept", "head"], "nothing has a name yet (`dff label`)"),
        (["discs", "--concept", "7"], "a number means a factor, 0 the strongest"),
        (["disc", "--concept", "object"], "set disc: not there; did you mean 'discs'?"),
        (["discs", "--concept", "0", "--k", "9"], "k 9: not there"),
    ],
)
def test_mistakes_are_one_line(finished: Path, arguments: list[str], line: str) -> None:
    result = run_dff("find", "--project", str(finished), "--set", *arguments)
    assert line in message(result)
    assert result.stdout == ""


def test_the_only_set_need_not_be_named(finished: Path) -> None:
    assert only_set(["horses"]) == "horses"
    result = run_dff("find", "--project", str(finished), "--concept", "0")
    assert "--set: name one of the 2 image sets: discs, more discs" in message(result)
    assert result.stdout == ""
