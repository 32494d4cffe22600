"""What bad input gets: one clear line, exit code 1, earlier artifacts untouched."""

import io
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from PIL import Image
from typer.testing import Result

from pipeline.cli import interruptible
from pipeline.registry import STAGES
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.image_index import ImageIndex
from stages.datasets.voc import VocOptions
from stages.index.params import IndexParams
from stages.index.stage import sources
from store import open_artifact
from tools import draw, edit, message

Dff = Callable[..., Result]


def published(project: Path) -> dict[str, bytes]:
    """All published artifacts' files."""
    folder = project / "artifacts"
    files = [p for p in folder.rglob("*") if p.is_file() and ".staging" not in p.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


def test_no_photographs(project: Path, photographs: Path, dff: Dff) -> None:
    for path in photographs.rglob("*.png"):
        path.unlink()
    assert "no images found; it is empty" in message(dff("index"))
    (photographs / "images" / "notes.txt").write_text("not an image")
    assert "no images found; it holds 1 other files" in message(dff("index"))
    shutil.rmtree(photographs)
    line = message(dff("index"))
    assert "no such folder" in line and "index.root" in line and str(photographs) in line
    assert published(project) == {}


def test_a_folder_of_broken_images_stops_with_the_share(
    project: Path, photographs: Path, dff: Dff
) -> None:
    for i in range(3):
        (photographs / "images" / "discs" / f"{i}.png").write_bytes(b"text in disguise")
    line = message(dff("index"))
    assert "3 of 14 image files cannot be used, more than index.max_failed = 0.05" in line
    edit(project, "max_failed: 0.05", "max_failed: 0.5")
    assert dff("index").exit_code == 0
    index = ImageIndex.open(project / "artifacts/index", project)
    assert len(index.failures) == 3
    assert len(index.images) == 11


def test_stages_in_the_wrong_order(dff: Dff) -> None:
    line = message(dff("extract"))
    assert "artifacts/index: not there yet; run `dff index` first" in line


@pytest.mark.parametrize(
    ("stage", "before", "after", "expected"),
    [
        ("extract", "backbone: squeezenet1_1", "backbone: squeezenet", "squeezenet1_"),
        ("extract", "[features.5]", "[feature.5]", "features.5"),
        ("extract", "random:0", "nowhere.pth", "nowhere.pth"),
        ("extract", "random:0", "bundled", "bundled"),
        ("factorize", "k: [1, 2]", "k: [200]", "more than the 128 channels of features.5"),
    ],
)
def test_params_that_cannot_work(
    project: Path, dff: Dff, stage: str, before: str, after: str, expected: str
) -> None:
    for name in ("index", "extract"):
        assert dff(name).exit_code == 0
    earlier = published(project)
    edit(project, before, after)
    assert expected in message(dff(stage))
    assert published(project) == earlier


def test_weights_of_another_model(project: Path, dff: Dff) -> None:
    torch.save({"features.0.weight": torch.zeros(3, 3)}, project / "other.pth")
    edit(project, "weights: random:0", "weights: other.pth")
    assert dff("index").exit_code == 0
    line = message(dff("extract"))
    assert "other.pth" in line and "squeezenet1_1" in line


def test_no_network_for_default_weights(
    project: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("name resolution failed")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("torch.hub.urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", str(project / "torch"))
    edit(project, "weights: random:0", "weights: DEFAULT")
    assert dff("index").exit_code == 0
    line = message(dff("extract"))
    assert "extract.weights" in line and "squeezenet1_1" in line


def test_a_budget_that_is_too_small(project: Path, dff: Dff) -> None:
    assert dff("index").exit_code == 0
    line = message(dff("extract", "--memory", "1MiB"))
    assert "the budget is 1 MiB" in line and "--memory" in line
    for stage in ("extract", "factorize"):
        assert dff(stage).exit_code == 0
    line = message(dff("heatmaps", "--memory", "32MiB"))
    assert "the budget is 32 MiB" in line and "heatmaps.long_side" in line
    assert "write a size such as 8GiB" in message(dff("extract", "--memory", "lots"))
    assert "--device tpu: choose" in message(dff("extract", "--device", "tpu"))


def test_an_image_that_changed_since_the_index(project: Path, photographs: Path, dff: Dff) -> None:
    assert dff("index").exit_code == 0
    draw(photographs / "images" / "discs" / "3.png", seed=99)
    line = message(dff("extract"))
    assert "discs/3.png: has changed since the index was made" in line
    (photographs / "images" / "discs" / "3.png").unlink()
    assert "discs/3.png: cannot be read" in message(dff("extract"))


def test_weights_replaced_under_the_same_name(project: Path, dff: Dff) -> None:
    from pipeline.status import stage_states
    from stages.algorithms.backbone.graph import build

    torch.manual_seed(0)
    network = build("squeezenet1_1", "cpu")
    torch.save(network.state_dict(), project / "w.pth")
    edit(project, "weights: random:0", "weights: w.pth")
    for stage in ("index", "extract"):
        assert dff(stage).exit_code == 0
    assert {s.name: s.state for s in stage_states(project)}["extract"] == "fresh"
    scaled = {name: 2 * value for name, value in network.state_dict().items()}
    torch.save(scaled, project / "w.pth")
    assert {s.name: s.state for s in stage_states(project)}["extract"] == "stale"


def test_the_project_is_no_folder_of_photographs(project: Path, dff: Dff) -> None:
    draw(project / "mine.png", seed=1)
    text = (project / "params.yaml").read_text()
    root = next(line for line in text.splitlines() if line.startswith("  root:"))
    edit(project, root, "  root: .")
    assert "holds this project's own folder" in message(dff("index"))


def test_a_damaged_table(project: Path, dff: Dff) -> None:
    assert dff("index").exit_code == 0
    (project / "artifacts/index/images.parquet").write_bytes(b"")
    assert "images.parquet: cannot be read" in message(dff("extract"))


def odd_images(folder: Path) -> set[str]:
    """Odd but usable images of every kind; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 255, (48, 64, 3)).astype(np.uint8))
    rgb.convert("L").save(folder / "grey.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("P").save(folder / "palette.gif", save_all=True, append_images=[rgb, rgb])
    rgb.convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(rng.integers(0, 65535, (48, 64)).astype(np.uint16)).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    rgb.save(folder / "turned.jpg", exif=exif)
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.new("RGB", (12_000, 400), "blue").save(folder / "panorama.jpg")
    for name in ("with space", "quo\"te's", "naïve 写真", "<script>alert(1)<"):
        rgb.save(folder / f"{name}.png")
    return {path.name for path in folder.iterdir()}


def test_odd_images_go_all_the_way(project: Path, photographs: Path, dff: Dff) -> None:
    folder = photographs / "images" / "odd <b>&'\""
    usable = odd_images(folder)
    buffer = io.BytesIO()
    Image.new("RGB", (200, 200), "green").save(buffer, "JPEG")
    (folder / "truncated.jpg").write_bytes(buffer.getvalue()[:-300])
    (folder / "empty.jpg").write_bytes(b"")
    edit(project, "max_failed: 0.05", "max_failed: 0.2")
    for stage in STAGES:
        assert dff(stage.name).exit_code == 0
    index = ImageIndex.open(project / "artifacts/index", project)
    failed = {Path(name).name for name in index.failures["name"]}
    assert failed == {"truncated.jpg", "empty.jpg"}
    heat = open_artifact(project / "artifacts/heatmaps.zarr")
    found = {Path(name).name for name in heat.images if "odd" in name}
    assert found == usable
    turned = next(name for name in heat.images if name.endswith("turned.jpg"))
    maps = ConceptMaps(heat, heat.layers[0]).maps
    (entry,) = np.flatnonzero(maps.image_ids == heat.images.index(turned))
    h, w, _ = maps.map(int(entry)).shape
    assert (h, w) == (48, 36), "the image as a person sees it stands upright"
    page = (project / "artifacts/report/index.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "truncated.jpg" in page


# `dff factorize` that waits after each checkpoint, so that a signal finds it at work
SLOW_FACTORIZE = """
import signal, sys, time
from stages.factorize import states
from pipeline.cli import main

# a shell that runs the tests in the background lets them ignore Ctrl-C, and children inherit it
signal.signal(signal.SIGINT, signal.default_int_handler)
states.SECONDS = 0
save, naps = states.States._write, iter([60])
states.States._write = lambda *arguments: (save(*arguments), time.sleep(next(naps, 0)))
sys.argv = ["dff", "factorize"]
main()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_run_again(project: Path, dff: Dff, how: signal.Signals) -> None:
    for stage in ("index", "extract"):
        assert dff(stage).exit_code == 0
    command = [sys.executable, "-c", SLOW_FACTORIZE]
    running = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True)
    progress = project / "artifacts/.staging/factors.zarr"
    for _ in range(600):
        if list(progress.glob("*/scratch/*.npz")):
            break
        time.sleep(0.1)
    running.send_signal(how)
    _, errors = running.communicate(timeout=60)
    if how == signal.SIGINT:
        assert running.returncode == 130, errors
        assert "interrupted; the work so far is kept" in errors
        assert "Traceback" not in errors
    assert not (project / "artifacts/factors.zarr").exists()
    assert list(progress.glob("*/scratch/*.npz"))
    assert dff("factorize").exit_code == 0
    assert open_artifact(project / "artifacts/factors.zarr").layers == ["features.5"]


def test_an_interruption_under_another_error_is_still_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A library that is interrupted while it closes a file raises its own error over it."""
    with pytest.raises(typer.Exit) as stopped, interruptible():
        try:
            raise KeyboardInterrupt
        finally:
            raise ValueError("Can't close the ZIP file while there is an open writing handle on it")
    assert stopped.value.exit_code == 130
    assert "interrupted; the work so far is kept" in capsys.readouterr().err
    with pytest.raises(ValueError, match="real"), interruptible():
        raise ValueError("real")


def test_the_tables_hold_reasons(project: Path, photographs: Path, dff: Dff) -> None:
    (photographs / "images" / "discs" / "0.png").write_bytes(b"")
    edit(project, "max_failed: 0.05", "max_failed: 0.1")
    assert dff("index").exit_code == 0
    failures = pd.read_parquet(project / "artifacts/index/failures.parquet")
    assert list(failures["name"]) == ["images/discs/0.png"]
    assert failures["reason"].item()


def test_a_changed_class_list_is_noticed(tmp_path: Path) -> None:
    """The images are the same; which class they belong to is not."""
    root = tmp_path / "VOC2007"
    for folder in ("JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (32, 32)).save(root / "JPEGImages" / f"{name}.jpg")
    (root / "ImageSets/Main/cow_trainval.txt").write_text("a 1\nb 1\n")
    listed = root / "ImageSets/Main/dog_trainval.txt"
    listed.write_text("a 1\nb -1\n")
    params = IndexParams("voc", VocOptions(exclude="none"), root=str(root))
    before = sources(params, tmp_path / "project")
    listed.write_text("a 1\nb 1\n")
    assert sources(params, tmp_path / "project") != before


def test_only_the_image_sets_that_are_asked_for(project: Path, photographs: Path, dff: Dff) -> None:
    edit(project, "  sets: []", "  sets: [more discs]")
    assert dff("index").exit_code == 0
    index = ImageIndex.open(project / "artifacts/index", project)
    assert list(index.sets) == ["more discs"] and len(index.names) == 7
    edit(project, "  sets: [more discs]", "  sets: [mor discs]")
    line = message(dff("index"))
    assert "no image set 'mor discs' (index.sets); did you mean 'more discs'?" in line
