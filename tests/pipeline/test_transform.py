"""`dff transform`: the concepts of a set in photographs that were not in it."""

import html
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import Result

from stages.artifacts.concept_maps import ConceptMaps
from store import Staging, open_artifact
from tools import draw, edit, message, run_dff

pytestmark = pytest.mark.xdist_group("transform")  # one worker makes its project

Dff = Callable[..., Result]
LAYER, OTHER = "features.5", "features.8"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has been run, and the folder it lies in."""
    from pipeline.init import write_params
    from pipeline.registry import STAGES

    home = tmp_path_factory.mktemp("transform")
    for name in ("discs", "more/discs"):
        for i in range(5):
            draw(home / "photographs" / name.replace("/", "_") / f"{i}.png", i, (64, 48))
    project = home / "project"
    project.mkdir()
    write_params(
        project, str(home / "photographs"), None, backbone="squeezenet1_1", weights="random:0",
        layers=[LAYER, OTHER],
    )  # fmt: skip
    edit(project, "size: 224", "size: 64")
    edit(project, "k: [1, 2, 3, 4]", "k: [1, 3]")
    edit(project, "stability_runs: 5", "stability_runs: 2")
    edit(project, "long_side: 224", "long_side: 40")
    for stage in STAGES:
        assert run_dff(stage.name, "--project", str(project)).exit_code == 0
    return project


def transform(project: Path, folder: Path, *options: str) -> Result:
    return run_dff("transform", str(folder), "--project", str(project), *options)


def test_names_are_on_the_page(finished: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new" / "a.png", 9, (64, 48))
    labels = finished / "labels.yaml"
    labels.write_text("sets: {discs: {3: [Kopf <b>&, ~, 頭]}}", encoding="utf-8")
    try:
        result = transform(
            finished, tmp_path / "new", "--set", "discs", "--k", "3", "--out", str(tmp_path / "out")
        )
    finally:
        labels.unlink()
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "factor 0 <b>Kopf &lt;b&gt;&amp;</b>" in text and "factor 2 <b>頭</b>" in text
    assert "factor 1</p>" not in text and text.count("<b>") == 2


def test_images_of_the_set_get_the_very_maps_they_have(finished: Path, tmp_path: Path) -> None:
    # other names and another order, so that nothing could be looked up
    for i, number in enumerate((3, 1)):
        source = finished.parent / "photographs" / "discs" / f"{number}.png"
        (tmp_path / "new").mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / "new" / f"{i}.png")
    out = tmp_path / "out"
    result = transform(finished, tmp_path / "new", "--set", "discs", "--k", "3", "--out", str(out))
    assert result.exit_code == 0 and result.stdout.strip() == str(out / "index.html")
    made = ConceptMaps(open_artifact(out / "heatmaps.zarr"), LAYER)
    known = ConceptMaps(open_artifact(finished / "artifacts/heatmaps.zarr"), LAYER)
    # k = 1, too: its figure decides which factor of three has which pixel
    columns = known.columns_of(1, 0) + known.columns_of(3, 0)
    assert made.columns == [known.columns[column] for column in columns]
    refined, masks = (
        ConceptMaps(open_artifact(path), LAYER)
        for path in (finished / "artifacts/refined.zarr", out / "refined.zarr")
    )
    images = known.artifact.images
    for i, number in enumerate((3, 1)):
        rank = list(known.artifact.sets).index("discs")
        entry = next(
            int(e) for e in known.artifact.sets["discs"]
            if images[int(known.maps.image_ids[e])].endswith(f"discs/{number}.png")
        )  # fmt: skip
        mine = next(
            e for e in range(2) if made.artifact.images[int(made.maps.image_ids[e])] == f"{i}.png"
        )
        difference = made.maps.map(mine).astype(int) - known.maps.map(entry)[:, :, columns]
        assert np.abs(difference).max() <= 65535 * 2e-3, "least squares, to its tolerance"
        differ = refined.masks(entry)[columns] != masks.masks(mine)
        assert differ.mean() <= 0.01 and refined.masks(entry)[columns].any()
        np.testing.assert_array_equal(made.thresholds[0], known.thresholds[rank, columns])


def test_the_page_names_every_photograph_and_loads_its_pictures(
    finished: Path, tmp_path: Path
) -> None:
    hostile = "<b>&'\"{{ 7*7 }}.png"
    draw(tmp_path / "new" / hostile, 1, (64, 48))
    draw(tmp_path / "new" / "below" / "more.png", 2, (40, 64))
    draw(tmp_path / "new" / "below" / "ok.png", 3, (40, 64))
    (tmp_path / "new" / "no image.jpg").write_bytes(b"no image")
    out = tmp_path / "out"
    result = transform(finished, tmp_path / "new", "--set", "discs", "--k", "1", "--out", str(out))
    assert result.exit_code == 0
    page = (out / "index.html").read_text()
    assert hostile not in page and hostile in html.unescape(page)
    assert "below/more.png" in page and "no image.jpg" in page
    pictures = sorted(path.name for path in (out / "pictures").iterdir())
    assert len(pictures) == 9 and all(name[:6].isdigit() for name in pictures)
    for name in pictures:
        assert f"pictures/{name}" in page
    with Image.open(out / "pictures" / pictures[0]) as image:
        assert image.size[0] > 0


def test_neither_refined_maps_nor_scores_are_needed(finished: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new" / "a.png", 1)
    copy = tmp_path / "project"
    shutil.copytree(finished, copy)
    for name in ("refined.zarr", "evaluation", "report"):
        shutil.rmtree(copy / "artifacts" / name)
    options = ("--set", "discs", "--k", "3")
    pages = []
    for project in (finished, copy):
        out = tmp_path / f"out {len(pages)}"
        result = transform(project, tmp_path / "new", *options, "--out", str(out))
        assert result.exit_code == 0, result.output
        pages.append((out / "index.html").read_bytes())
    assert pages[0] == pages[1]


def test_the_default_folder_cannot_lead_out_of_the_project(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "new" / "a.png", 1)
    assert transform(finished, tmp_path / "new", "--set", "discs", "--k", "1").exit_code == 0
    assert (finished / "transformed" / "discs-k1" / "index.html").exists()


def test_run_again_nothing_is_computed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "new" / "a.png", 1)
    options = ("--set", "discs", "--k", "1", "--out", str(tmp_path / "out"))
    assert transform(finished, tmp_path / "new", *options).exit_code == 0
    before = ConceptMaps(open_artifact(tmp_path / "out/heatmaps.zarr"), LAYER).maps.map(0)
    draw(tmp_path / "new" / "b.png", 2)
    assert transform(finished, tmp_path / "new", *options).exit_code == 0
    after = ConceptMaps(open_artifact(tmp_path / "out/heatmaps.zarr"), LAYER)
    assert len(after.maps) == 2
    np.testing.assert_array_equal(after.maps.map(0), before)


@pytest.mark.parametrize(
    "options, said",
    [
        (("--set", "disks", "--k", "1"), "no such image set, there are discs, more_discs"),
        (("--set", "discs", "--k", "2"), "--k 2: not factorized, there are 1, 3"),
        (("--set", "discs", "--k", "1", "--layer", "x"), "--layer x: not extracted"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    finished: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    draw(tmp_path / "new" / "a.png", 1)
    result = transform(finished, tmp_path / "new", *options, "--out", str(tmp_path / "out"))
    assert said in message(result)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there(finished: Path, tmp_path: Path) -> None:
    result = transform(finished, tmp_path / "nowhere", "--set", "discs", "--k", "1")
    assert "no such folder of photographs" in message(result)


def test_before_the_first_run(project: Path, dff: Dff, tmp_path: Path) -> None:
    draw(tmp_path / "new" / "a.png", 1)
    result = dff("transform", str(tmp_path / "new"), "--set", "discs", "--k", "1")
    assert "run `dff index` first, or `dff run` for all" in message(result)


def test_params_that_changed_since_are_refused(finished: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new" / "a.png", 1)
    copy = tmp_path / "project"
    shutil.copytree(finished, copy)
    edit(copy, "size: 64", "size: 96")
    result = transform(copy, tmp_path / "new", "--set", "discs", "--k", "1")
    assert "activations.zarr: was made from other params or inputs" in message(result)


def test_factors_that_are_newer_than_the_maps_are_refused(finished: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new" / "a.png", 1)
    copy = tmp_path / "project"
    shutil.copytree(finished, copy)
    edit(copy, "k: [1, 3]", "k: [3, 2]")
    assert run_dff("factorize", "--project", str(copy)).exit_code == 0
    result = transform(copy, tmp_path / "new", "--set", "discs", "--k", "3")
    assert "heatmaps.zarr: was made from other params or inputs" in message(result)


def test_pictures_among_the_photographs_are_refused(finished: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new" / "a.png", 1)
    out = tmp_path / "new" / "out"
    result = transform(finished, tmp_path / "new", "--set", "discs", "--k", "1", "--out", str(out))
    assert "lies in the folder of photographs" in message(result) and not out.exists()
    (tmp_path / "file").write_text("")
    options = ("--set", "discs", "--k", "1", "--out", str(tmp_path / "file"))
    assert "is a file" in message(transform(finished, tmp_path / "new", *options))


def test_the_photographs_of_the_set_get_the_masks_and_tables_they_have(
    finished: Path, tmp_path: Path
) -> None:
    """Every row of the project's own tables again, by another way: to least squares' tolerance."""
    out = tmp_path / "out"
    folder = finished.parent / "photographs" / "discs"
    assert (
        transform(finished, folder, "--set", "discs", "--k", "3", "--out", str(out)).exit_code == 0
    )
    mine, known = (
        pd.read_parquet(one / "concepts.parquet")
        for one in (out, finished / "artifacts/evaluation")
    )
    known = known[(known["layer"] == LAYER) & (known["set"] == "discs") & (known["k"] == 3)]
    known = known.assign(image=known["image"].str.removeprefix("discs/"))
    keys = ["layer", "set", "image", "k", "seed", "factor"]
    both = mine.merge(known, on=keys, suffixes=("", "_known"))
    assert len(both) == len(mine) == len(known) == 15
    for column in ("mean", "peak", "raw_area", "refined_area"):
        np.testing.assert_allclose(both[column], both[f"{column}_known"], atol=0.01)
    boxes = pd.read_parquet(out / "boxes.parquet")
    assert set(boxes["maps"]) == {"raw", "refined"} and set(boxes["k"]) == {3}
    refined = ConceptMaps(open_artifact(out / "refined.zarr"), LAYER)
    image = refined.artifact.images[int(refined.maps.image_ids[0])]
    columns = refined.columns_of(3)
    for factor in range(3):
        png = out / f"masks/parts/{Path(image).stem}/discs%2F3%2F{factor}.png"
        np.testing.assert_array_equal(
            np.asarray(Image.open(png)) > 0, refined.masks(0, (48, 64))[columns[factor]]
        )


def test_one_photograph_alone(finished: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new" / "a.png", 9, (64, 48))
    draw(tmp_path / "new" / "b.png", 8, (64, 48))
    options = ("--set", "discs", "--k", "1", "--out")
    one, all_of_them = tmp_path / "one", tmp_path / "all"
    assert transform(finished, tmp_path / "new/b.png", *options, str(one)).exit_code == 0
    assert transform(finished, tmp_path / "new", *options, str(all_of_them)).exit_code == 0
    alone, both = (pd.read_parquet(out / "concepts.parquet") for out in (one, all_of_them))
    assert alone["image"].tolist() == ["b.png"]
    np.testing.assert_allclose(alone["mean"], both.loc[both["image"] == "b.png", "mean"], rtol=1e-3)
    (tmp_path / "new/no image.txt").write_text("text")
    result = transform(finished, tmp_path / "new/no image.txt", *options, str(tmp_path / "text"))
    assert "no images found" in message(result)


def test_another_result_is_replaced_only_by_force(finished: Path, tmp_path: Path) -> None:
    for folder in ("new", "other"):
        draw(tmp_path / folder / f"{folder}.png", 9, (64, 48))
    out = tmp_path / "out"
    options = ("--k", "1", "--out", str(out), "--set")
    assert transform(finished, tmp_path / "new", *options, "discs").exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for folder, name in (("other", "discs"), ("new", "more_discs")):
        said = message(transform(finished, tmp_path / folder, *options, name))
        assert f"has an earlier result, of {tmp_path / 'new'}" in said and "--force" in said
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    forced = transform(finished, tmp_path / "other", *options, "more_discs", "--force")
    assert forced.exit_code == 0, forced.output
    assert set(pd.read_parquet(out / "concepts.parquet")["image"]) == {"other.png"}
    assert "more_discs" in (out / "index.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in (out / "masks/parts").iterdir()) == ["other"]


def test_folders_of_others_are_left_alone(finished: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new" / "a.png", 9, (64, 48))
    (tmp_path / "pages/pictures").mkdir(parents=True)
    (tmp_path / "pages/index.html").write_text("somebody's")
    options = ("--set", "discs", "--k", "1", "--force", "--out")
    for folder in (tmp_path / "pages", finished):
        said = message(transform(finished, tmp_path / "new", *options, str(folder)))
        assert "no result of `dff transform`" in said
    assert (tmp_path / "pages/index.html").read_text() == "somebody's"


@pytest.mark.parametrize("layer", [LAYER, OTHER])
def test_either_layer_and_an_interruption(
    finished: Path, tmp_path: Path, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.maps.write.SHARD_BYTES", 20_000)
    for i in range(9):
        draw(tmp_path / "new" / f"{i}.png", i, (64, 48))
    options = ("--set", "discs", "--k", "3", "--layer", layer)
    once, again = tmp_path / "once", tmp_path / "again"
    run = transform(finished, tmp_path / "new", *options, "--out", str(once))
    assert run.exit_code == 0
    checkpoint = Staging.checkpoint

    def interrupted(self: Staging, **progress: object) -> None:
        checkpoint(self, **progress)
        if f"rows {layer}" in progress and progress["done"]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "checkpoint", interrupted)
        assert transform(finished, tmp_path / "new", *options, "--out", str(again)).exit_code == 130
    assert not (again / "heatmaps.zarr").exists()
    assert transform(finished, tmp_path / "new", *options, "--out", str(again)).exit_code == 0
    made = [ConceptMaps(open_artifact(out / "heatmaps.zarr"), layer) for out in (once, again)]
    for entry in range(9):
        np.testing.assert_array_equal(made[0].maps.map(entry), made[1].maps.map(entry))
