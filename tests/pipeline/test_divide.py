"""`dff factorize --within`: a factor divided further, from params.yaml to report and export."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import Result

from pipeline.params import read_params
from pipeline.results import open_results
from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.factors import Factors
from stages.naming.labels import read_labels
from tools import draw, draw_photographs, edit, message, run_dff, small_project

pytestmark = pytest.mark.xdist_group("divide")  # one worker makes its projects

LAYER, INSIDE, DEEPER = "features.5", "discs/2/1", "discs/2/1/3/0"
LATER = ("heatmaps", "refine", "evaluate", "explain", "report")


def dff(project: Path, *arguments: str) -> Result:
    return run_dff(*arguments, "--project", str(project))


def done(project: Path, *arguments: str) -> str:
    result = dff(project, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stderr


@pytest.fixture(scope="module", params=["64", "[48, 64]"])
def divided(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, str]:
    """A project that was run, the same after a factor was divided, and what that said.

    At one size of the network's input, and at two.
    """
    home = tmp_path_factory.mktemp("divided")
    project = small_project(home / "project", draw_photographs(home / "photographs"))
    edit(project, "  size: 64", f"  size: {request.param}")
    edit(project, "  k: [1, 2]", "  k: [1, 2] # few")
    for stage in ("index", "extract"):
        done(project, stage)
    before = home / "before"
    shutil.copytree(project, before)
    said = done(project, "factorize", "--within", INSIDE, "--within", DEEPER, "--k", "3")
    for stage in LATER:
        said += done(project, stage)
    # the same k without any division
    edit(before, "k: [1, 2]", "k: [1, 2, 3]")
    for stage in ("factorize", *LATER):
        done(before, stage)
    return before, project, said


def categories(export: Path) -> list[str]:
    """Of an export for COCO's tools."""
    every = [json.loads(path.read_bytes()) for path in sorted(export.rglob("*.json"))]
    (found,) = [
        one["categories"] for one in every if isinstance(one.get("categories", [0])[0], dict)
    ]
    return [one["name"] for one in found]


Projects = tuple[Path, Path, str]


def test_params_say_so_from_then_on(divided: Projects) -> None:
    _, project, said = divided
    text = (project / "params.yaml").read_text(encoding="utf-8")
    assert "k: [1, 2, 3] # few" in text and f"within: [{INSIDE}, {DEEPER}]" in text
    assert "# factors to divide further, each SET/K/FACTOR" in text
    params = read_params(project)["factorize"]
    assert params.within == (INSIDE, DEEPER) and params.k == (1, 2, 3)
    assert "factorize.k: 3 added, for all image sets" in said
    done(project, "plan")


def test_nothing_of_the_own_sets_changes(divided: Projects) -> None:
    before, project, _ = divided
    for name in ("heatmaps", "refined"):
        one, other = (
            ConceptMaps.open(p / f"artifacts/{name}.zarr")[LAYER] for p in (before, project)
        )
        for entry in range(len(one.maps)):
            for mine, its in zip(one.both(entry), other.both(entry), strict=True):
                np.testing.assert_array_equal(mine, its)
        np.testing.assert_array_equal(one.thresholds, other.thresholds[:2])
        assert len(other.maps) == len(one.maps) + 2 * 7
    plain, more = (Evaluation.open(p / "artifacts/evaluation") for p in (before, project))
    own = ["discs", "more discs"]
    for table in ("scores", "quality", "partitions", "labels", "choice", "links", "loss"):
        rows = getattr(more, table)
        kept = rows[rows["set"].isin(own)].reset_index(drop=True)
        pd.testing.assert_frame_equal(kept, getattr(plain, table))
        assert table == "labels" or set(rows["set"]) == {*own, INSIDE, DEEPER}
    pd.testing.assert_frame_equal(plain.figure4, more.figure4)
    metrics = more.metrics[LAYER]
    assert {metrics.pop(name) is not None for name in (INSIDE, DEEPER)} == {True}
    assert metrics == plain.metrics[LAYER]
    assert (project / "artifacts/evaluation/detections/images.json").read_bytes() == (
        before / "artifacts/evaluation/detections/images.json"
    ).read_bytes()
    shown = [dff(p, "show").stdout.splitlines() for p in (before, project)]
    line = f"divided further: {INSIDE}, {DEEPER}; the report shows into what"
    assert line in shown[1]
    assert [one for one in shown[1] if one != line][:-1] == shown[0][:-1]  # but for the address


def test_maps_of_the_own_sets_are_taken_over(divided: Projects, tmp_path: Path) -> None:
    project = tmp_path / "again"
    shutil.copytree(divided[0], project)
    shutil.copytree(divided[0].parent / "photographs", tmp_path / "photographs")
    done(project, "factorize", "--within", INSIDE)
    done(project, "heatmaps")
    assert "refine: 14 of 21 images are as they were" in done(project, "refine")
    # and taken away again
    done(project, "factorize", "--within", "none")
    assert read_params(project)["factorize"].within == ()
    assert Factors.open(project / "artifacts/factors.zarr").within == {}


def test_masks_begin_within_the_factor(divided: Projects) -> None:
    """Percentiles are of the cells in which the factor is."""
    _, project, _ = divided
    factors = Factors.open(project / "artifacts/factors.zarr")
    maps = ConceptMaps.open(project / "artifacts/heatmaps.zarr")[LAYER]
    H = factors.at(LAYER).coefficients
    for rank, (name, entries) in enumerate(factors.sets.items()):
        rows = np.concatenate(list(H.select(entries).blocks()))
        region = rows.any(axis=1).mean() if name in factors.within else 1.0
        assert maps.regions is not None and maps.regions[rank] == pytest.approx(region)
        every = [maps.maps.map(int(entry)).reshape(-1, len(maps.columns)) for entry in entries]
        values = np.concatenate(every) / 65535
        expected = np.percentile(values, 100 - 25 * region, axis=0)
        np.testing.assert_allclose(maps.thresholds[rank], expected, atol=2 / 65535)


def test_the_report_has_links_both_ways(divided: Projects) -> None:
    _, project, _ = divided
    report = project / "artifacts/report"
    index = (report / "index.html").read_text(encoding="utf-8")
    assert index.count('<section class="set-card">') == 2 and "2 image sets" in index
    own = (report / "pages/set-000.html").read_text(encoding="utf-8")
    assert own.count('<p class="inside"><a href="../pages/set-002.html">divided further') == 1
    inside = (report / "pages/set-002.html").read_text(encoding="utf-8")
    assert '<a href="../pages/set-000.html#l0-k2">discs, k = 2, factor 1</a>' in inside
    assert inside.count('<p class="inside"><a href="../pages/set-003.html">divided further') == 1
    deeper = (report / "pages/set-003.html").read_text(encoding="utf-8")
    assert '<a href="../pages/set-002.html#l0-k3">discs/2/1, k = 3, factor 0</a>' in deeper
    # in the table of scores each after what it lies within
    places = [
        index.index(f'rowspan="3">{name}<') for name in ("discs", INSIDE, DEEPER, "more discs")
    ]
    assert places == sorted(places)


def test_a_report_of_one_set_keeps_it_on_the_first_page(tmp_path: Path) -> None:
    for i in range(4):
        draw(tmp_path / "discs" / f"{i}.png", i)
    project = small_project(tmp_path / "project", tmp_path / "discs")
    for stage in ("index", "extract"):
        done(project, stage)
    for stage in (("factorize", "--within", "discs/2/0"), *((one,) for one in LATER)):
        done(project, *stage)
    report = project / "artifacts/report"
    index = (report / "index.html").read_text(encoding="utf-8")
    assert 'id="details"' in index and '<a href="pages/set-001.html">divided further' in index
    assert 'href="../index.html#l0-k2"' in (report / "pages/set-001.html").read_text("utf-8")
    assert not (report / "pages/set-000.html").exists()


def test_export_find_and_results_take_it_as_a_set(divided: Projects, tmp_path: Path) -> None:
    _, project, _ = divided
    done(project, "export", "--format", "coco", "--k", "2", "--out", str(tmp_path / "all"))
    names = categories(tmp_path / "all")
    assert names == ["discs/2/0", INSIDE, "more discs/2/0", "more discs/2/1"]
    out = str(tmp_path / "one")
    done(project, "export", "--format", "coco", "--k", "3", "--set", INSIDE, "--out", out)
    names = categories(tmp_path / "one")
    assert names == [DEEPER, "discs/2/1/3/1", "discs/2/1/3/2"]
    listed = dff(project, "find", "--set", INSIDE, "--concept", "0", "--k", "3").stdout
    r = open_results(project)
    assert r.sets == ["discs", "more discs"] and r.inside == [INSIDE, DEEPER]
    assert [line.split("\t")[0] for line in listed.splitlines()] == list(
        r.find(INSIDE, "0", 3).index
    )
    image = r.images(INSIDE)[0]
    assert r.images(INSIDE) == r.images("discs")
    assert r.coefficients(image, 3).shape == r.coefficients(image, 3, set=INSIDE).shape
    assert not np.array_equal(r.coefficients(image, 3), r.coefficients(image, 3, set=INSIDE))
    assert r.mask(image, 3, set=DEEPER).shape[0] == 3 and r.factors(INSIDE, 3).shape[0] == 3
    r.figure(INSIDE, [3], [image])


def test_new_photographs_are_seen_with_it(divided: Projects, tmp_path: Path) -> None:
    """Those of the set itself have the coefficients that they have there."""
    _, project, _ = divided
    photographs, out = project.parent / "photographs/images/discs", tmp_path / "out"
    done(project, "transform", str(photographs), "--set", DEEPER, "--k", "3", "--out", str(out))
    found = ConceptMaps.open(out / "heatmaps.zarr")[LAYER]
    known = ConceptMaps.open(project / "artifacts/heatmaps.zarr")[LAYER]
    assert found.columns_of(3) and len(found.maps) == 7
    for entry, theirs in enumerate(known.sets[DEEPER]):
        one = found.maps.map(entry)[..., found.columns_of(3)] / 65535
        other = known.maps.map(int(theirs))[..., known.columns_of(3)] / 65535
        np.testing.assert_allclose(one, other, atol=0.02)


def test_names_of_what_it_is_divided_into(divided: Projects) -> None:
    _, project, _ = divided
    done(project, "label")
    path = project / "labels.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert list(content["sets"]) == ["discs", "more discs", INSIDE, DEEPER]
    text = path.read_text(encoding="utf-8")
    content["sets"][INSIDE][3][1] = "rim"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    done(project, "evaluate")
    table = Evaluation.open(project / "artifacts/evaluation").concepts
    named = table[table["name"] == "rim"]
    assert set(zip(named["set"], named["k"], named["factor"], strict=True)) == {(INSIDE, 3, 1)}
    assert read_labels(path).sets[INSIDE][3][1] == ("rim",)
    path.write_text(text, encoding="utf-8")


def test_it_goes_on_from_pinned_factors(divided: Projects, tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    shutil.copytree(divided[1].parent / "photographs", photographs)
    project = tmp_path / "project"
    shutil.copytree(divided[1], project)
    done(project, "pin", "--freeze")
    root = str(read_params(project)["index"].root)
    edit(project, f"root: {root}", f"root: {photographs}")
    mask = draw(photographs / "images/discs/9.png", 99)
    assert mask.any()
    done(project, "index")
    done(project, "extract")
    said = done(project, "factorize")
    for name, new in (("discs", True), (INSIDE, True), (DEEPER, True), ("more discs", False)):
        line = next(one for one in said.splitlines() if one.startswith(f"factorize: {name}: "))
        assert line.startswith(f"factorize: {name}: 7 of 7 pinned images hold still")
        assert ("; new: 1, explained to" in line) == new
    before, now = (Factors.open(p / "artifacts/factors.zarr") for p in (divided[1], project))
    np.testing.assert_array_equal(before.at(LAYER).W, now.at(LAYER).W)
    assert list(now.sets) == list(before.sets) and len(now.sets[INSIDE]) == 8
    assert Activations.open(project / "artifacts/activations.zarr").sets.keys() == {
        "discs", "more discs",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--within", "disks/2/1"], "no image set 'disks'; did you mean 'discs'?"),
        (["--within", "discs/2"], "--within 'discs/2' is no factor; name a factor as SET/K/FACTOR"),
        (["--within", "discs/3/3"], "k = 3 has the factors 0 to 2, no factor 3"),
        (["--within", "discs/5/3"], "k = 5 is not among factorize.k (1, 2, 3); add it there"),
        (["--within", "none", "--k", "3"], "--within none: takes all of them away"),
        (["--within", "discs/2/1", "--k", "0"], "--k 0: must be at least 1"),
        (["--k", "3"], "--k goes with --within"),
    ],
)
def test_what_it_refuses(divided: Projects, arguments: list[str], line: str) -> None:
    _, project, _ = divided
    before = (project / "params.yaml").read_bytes()
    result = dff(project, "factorize", *arguments)
    assert result.exit_code == 1 and line in message(result)
    assert (project / "params.yaml").read_bytes() == before
