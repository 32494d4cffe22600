"""Sizes that networks do not take: one line a case, what the one line says and what works instead."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from pipeline.init import write_params
from stages.algorithms.backbone import BackboneError, grid_shape, next_side
from stages.algorithms.backbone.graph import build, prune, run, trace
from stages.algorithms.backbone.layers import full_node
from tools import draw_photographs, edit, message, run_dff

Dff = Callable[..., Result]


@dataclass
class Case:
    """A network at a layer, a size that it does not take, and the next one that it does.

    Attributes
    ----------
    real : bool
        Whether a real pass, not one on the meta device alone, is tried at both sizes.
    """

    network: str
    layer: str
    refused: int
    works: int
    real: bool = False


CASES: dict[str, Case] = {
    "a pool of three": Case("alexnet", "features.12", 40, 63, real=True),
    "right below": Case("alexnet", "features.12", 62, 63),
    "convolutions without padding": Case("inception_v3", "Mixed_7c.cat_2", 73, 75),
    "its first reduction": Case("inception_v3", "Mixed_6a.cat", 32, 43, real=True),
    "five pools of two": Case("vgg11", "features.20", 20, 32),
    "windows of seven": Case("maxvit_t", "blocks.0", 218, 221),
    "windows of seven, four times": Case("maxvit_t", "blocks.3", 225, 224),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_network_says_which_size_it_takes(case: Case) -> None:
    takes = f"it takes {case.works}x{case.works}" if case.works < case.refused else (
        f"the next size that it takes is {case.works}x{case.works}"
    )  # fmt: skip
    with pytest.raises(BackboneError) as refused:
        grid_shape(case.network, case.layer, case.refused, case.refused)
    assert str(refused.value).endswith(takes) and "\n" not in str(refused.value)
    assert min(grid_shape(case.network, case.layer, case.works, case.works)) >= 1
    if case.real:
        traced = trace(case.network, build(case.network, "cpu"))
        network = prune(traced, [full_node(case.network, case.layer)])
        (output,) = run(network, torch.zeros(1, 3, case.works, case.works)).values()
        assert output.numel()
        with pytest.raises(Exception, match=r"(?i)size"):
            run(network, torch.zeros(1, 3, case.works - 1, case.works - 1))


# Of every family whose layers have grids: these take what the smallest size in params gives them.
@pytest.mark.parametrize(
    ("network", "layer"),
    [
        ("vgg11", "conv5_2"),
        ("resnet18", "layer4"),
        ("squeezenet1_1", "fire9"),
        ("googlenet", "inception5b"),
        ("densenet121", "features.denseblock1"),
        ("mobilenet_v2", "features.18"),
        ("mobilenet_v3_small", "features.3"),
        ("mnasnet0_5", "layers.16"),
        ("shufflenet_v2_x0_5", "conv5"),
        ("regnet_x_400mf", "trunk_output"),
        ("efficientnet_b0", "features.1"),
        ("convnext_tiny", "features.1"),
        ("swin_t", "features.0.0"),
        ("vit_b_16", "conv_proj"),
    ],
)
def test_other_families_take_the_smallest(network: str, layer: str) -> None:
    assert next_side(network, layer, 32) == 32


def test_no_size_at_all() -> None:
    assert next_side("alexnet", "no such layer", 222) is None


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A run of alexnet over photographs, the last of them a strip."""
    photographs = draw_photographs(tmp_path / "photographs", 2, [(64, 56)]) / "images"
    Image.fromarray(np.full((20, 600, 3), 99, np.uint8)).save(photographs / "discs/strip.png")
    folder = tmp_path / "project"
    write_params(
        folder,
        str(photographs),
        None,
        backbone="alexnet",
        weights="random:0",
        layers=["features.12"],
    )
    return folder


def refusals(dff: Dff) -> list[str]:
    """What extract and the plan before it say."""
    assert dff("index").exit_code == 0
    return [message(dff(command)) for command in ("extract", "plan")]


def test_extract_refuses_a_size_in_one_line(project: Path, dff: Dff) -> None:
    edit(project, "size: 224", "size: 40")
    for said in refusals(dff):
        assert said.startswith("extract.size: 40: backbone 'alexnet' cannot run to layer")
        assert said.endswith("set extract.size: 63")
    assert not (project / "artifacts/activations.zarr").exists()
    edit(project, "size: 40", "size: 63")
    result = dff("extract")
    assert result.exit_code == 0
    assert "features.12 gives a single cell for 5 of 5 images, such as discs/0.png" in result.stderr


def test_extract_names_the_photograph_that_is_too_narrow(project: Path, dff: Dff) -> None:
    edit(project, "resize: squash", "resize: long_side")
    at_once, planned = refusals(dff)
    assert at_once.startswith("discs/strip.png of 20x600 pixels: backbone 'alexnet' cannot run")
    assert planned.startswith("a photograph of 20x600 pixels: backbone 'alexnet' cannot run")
    for said in (at_once, planned):
        assert "on an image of 32x224 pixels" in said
        assert "set extract.size: 1890, or extract.resize: squash with extract.size: 224" in said
    edit(project, "resize: long_side", "resize: squash")
    assert dff("plan").exit_code == 0


def test_weights_that_give_nothing_but_nan(project: Path, tmp_path: Path) -> None:
    network = build("squeezenet1_1", "cpu").state_dict()
    damaged = {name: torch.full_like(values, torch.nan) for name, values in network.items()}
    torch.save(damaged, tmp_path / "nan.pth")
    edit(project, "backbone: alexnet", "backbone: squeezenet1_1")
    edit(project, "layers: [features.12]", "layers: [fire2]")
    edit(project, "random:0", str(tmp_path / "nan.pth"))
    assert run_dff("index", "-C", str(project)).exit_code == 0
    said = message(run_dff("extract", "-C", str(project)))
    assert "layer 'fire2' of squeezenet1_1 gave NaN or infinite values" in said
