"""The recipe for Figure 4, run through DVC on small images and a small network."""

import os
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.init import PRESETS
from pipeline.params import read_params
from pipeline.registry import BY_NAME
from tools import ROOT, copy_of_project, run_dff, run_in_process, shell

FULL = PRESETS["figure4"]["factorize"]
RECIPE = ROOT / "recipes" / "figure4"


def test_the_recipe_names_networks_and_layers_that_there_are() -> None:
    from stages.algorithms.backbone import resolve_layer

    networks = yaml.safe_load((RECIPE / "params.yaml").read_text())["networks"]
    assert [one["name"] for one in networks] == [
        "vgg19", "vgg19_bn", "vgg16", "vgg16_bn", "resnet101",
    ]  # fmt: skip
    for one in networks:
        for layer in one["layers"].replace("--layer", "").split():
            resolve_layer(one["name"], layer)


def test_the_recipe_runs_and_its_networks_are_compared(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photographs / "masks").rename(photographs / "ground_truth")
    for path in photographs.rglob("*.png"):
        if int(path.stem) > 2:
            path.unlink()
    clone = copy_of_project(tmp_path / "clone", "stages", "store", "pipeline", ".dvc", "recipes")
    # as the figure has them they would take minutes
    presets = clone / "pipeline" / "init.py"
    text = presets.read_text()
    assert (FULL["k"], FULL["seeds"]) == (tuple(range(1, 11)), tuple(range(5)))
    text = text.replace('"k": tuple(range(1, 11))', '"k": (1, 2)')
    presets.write_text(text.replace('"seeds": tuple(range(5))', '"seeds": (0, 1)'))
    subprocess.run(["git", "init", "-q"], cwd=clone, check=True)
    folder = clone / "recipes" / "figure4"
    layers = "--layer features.2 --layer features.5"
    networks = [{"name": "squeezenet1_1", "weights": "random:0", "layers": layers}]
    content = {"root": os.path.relpath(photographs, folder), "networks": networks}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        done = shell(folder, clone, *command)
        assert done.returncode == 0, done.stderr
        return done

    # What the recipe is to make, made here: a process for each stage spends most of its time on
    # loading libraries (DVC's test and the wheel's have those). Had the recipe other params than
    # these, nothing would be fresh.
    monkeypatch.setitem(PRESETS["figure4"], "factorize", FULL | {"k": (1, 2), "seeds": (0, 1)})
    monkeypatch.chdir(folder)
    project = Path("squeezenet1_1")
    of = ("--backbone", "squeezenet1_1", "--weights", "random:0", *layers.split())
    made = run_dff("init", "figure4", content["root"], "--project", str(project), *of)
    assert made.exit_code == 0, made.output
    run_in_process(project)
    (project / "params.yaml").unlink()

    done = run("dvc", "repro")
    assert re.findall(r"^(\w+): fresh$", done.stderr, re.MULTILINE) == list(BY_NAME)
    params = read_params(project)
    assert (params["factorize"].k, params["factorize"].seeds) == ((1, 2), (0, 1))
    shown = run("dff", "compare", "squeezenet1_1").stdout
    assert "squeezenet1_1 features.2" in shown
    table = pd.read_csv(folder / "figure4.csv")
    assert len(table) == 2 * 2 * 2  # layers, maps, k
    assert (table["seeds"] == 2).all() and (table["sets"] == 2).all()
    assert (table["part_iou_std"] > 0).any(), "random starts differ"
    assert (folder / "figure4.png").exists()
    assert "up to date" in run("dvc", "status").stdout
