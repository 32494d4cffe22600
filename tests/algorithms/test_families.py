"""What holds for every family of networks: an entry in `CHEAP` each, and a stranger's family."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from noise import images
from pipeline.init import write_params
from pipeline.params import read_params
from stages.algorithms.backbone import (
    FAMILIES,
    BackboneError,
    Family,
    Preprocessing,
    Published,
    aliases,
    backbone_names,
    channels,
    default_layer,
    describe_layers,
    family_of,
    forward_bytes,
    grid_shape,
    load_backbone,
    resolve_layer,
)
from stages.algorithms.backbone.graph import build
from stages.algorithms.backbone.whole import skeleton
from stages.algorithms.shipped import shipped_weights
from stages.extract.stage import sources
from stages.frame.fingerprint import file_digest
from store import open_artifact
from tools import run_dff

# Networks whose forward pass takes a moment.
pytestmark = pytest.mark.usefixtures("one_thread")

OWN = f"module:{Path(__file__)}:own_network"
CHEAP = {
    "demo": ["demo"],
    "torchvision": ["squeezenet1_1", "torchvision/resnet18", "alexnet", "shufflenet_v2_x0_5"],
    "timm": ["timm/resnet18.a1_in1k", "timm/tf_efficientnet_lite0.in1k"],
    "module": [OWN],
}
every_network = pytest.mark.parametrize("name", [one for names in CHEAP.values() for one in names])
PATCH = 16


class Tokens(nn.Module):
    """Patches as tokens behind one that stands for the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 24, PATCH, PATCH)
        self.whole = nn.Parameter(torch.zeros(1, 1, 24))
        self.mix = nn.Linear(24, 24)
        self.act = nn.ReLU(inplace=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.whole.expand(tokens.shape[0], -1, -1), tokens], 1)
        return self.act(self.mix(tokens))


def own_network() -> nn.Module:
    """What `OWN` names."""
    first, second = nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.Conv2d(8, 16, 3, stride=2)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


class TokenFamily(Family):
    """A stranger's: one network whose layers give tokens."""

    summary = "tokens of a stranger"
    usual_weights = "random:3"

    def names(self) -> list[str]:
        return ["strange_tokens"]

    def build(self, name: str) -> nn.Module:
        return Tokens()

    def weights(self, name: str) -> Mapping[str, Published]:
        return {}

    def preprocessing(self, name: str) -> Preprocessing:
        return Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

    def aliases(self, name: str, network: nn.Module) -> Mapping[str, str]:
        return {"last": "act"}

    def default_layer(self, name: str, network: nn.Module) -> None:
        return None

    def to_grid(
        self, name: str, output: torch.Tensor, height: int, width: int
    ) -> torch.Tensor | None:
        h, w = height // PATCH, width // PATCH
        if output.ndim != 3 or output.shape[1] != 1 + h * w:
            return None
        return output[:, 1:].reshape(len(output), h, w, -1)


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(FAMILIES, "strangers", TokenFamily())
    return "strange_tokens"


def test_every_family_is_here() -> None:
    assert list(CHEAP) == list(FAMILIES)
    for family, names in CHEAP.items():
        assert all(family_of(name) is FAMILIES[family] for name in names)


def test_a_name_belongs_to_one_family() -> None:
    names = backbone_names()
    assert len(set(names)) == len(names)
    for family in FAMILIES.values():
        assert family.summary and all(family_of(name) is family for name in family.names())
    assert {"demo", "vgg19"} < set(names) and not any("/" in name for name in names)


def test_unknown_names_are_compared_with_those_of_all_families(strange: str) -> None:
    for wrong, near in (("dmo", "'demo'"), ("VGG_19", "'vgg19'"), ("strange_token", strange)):
        with pytest.raises(
            BackboneError, match=f"unknown backbone '{wrong}', did you mean .*{near}"
        ):
            family_of(wrong)
    with pytest.raises(BackboneError, match=r"use demo or a torchvision .* or tokens of"):
        family_of("0")


@every_network
def test_the_grid_is_that_of_a_forward_pass(name: str) -> None:
    layer = default_layer(name)
    backbone = load_backbone(name, [layer], "random:1")
    for height, width in ((97, 131), (160, 75)):
        (maps,) = backbone(images(2, 3, height, width)).values()
        assert maps.shape == (2, *grid_shape(name, layer, height, width), channels(name, layer))


@every_network
def test_the_default_layer_is_listed_as_one_that_can_be_factorised(name: str) -> None:
    node = skeleton(name).find(resolve_layer(name, default_layer(name)))
    (layer,) = (one for one in describe_layers(name) if one.node == node)
    assert layer.non_negative and layer.stride > 1


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("demo", "conv4_2"),
        ("vgg19", "conv5_4"),
        ("resnet50", "layer4"),
        ("squeezenet1_1", "fire9"),  # the ReLU behind it gives classes
        ("alexnet", "features.11"),  # not the pooling behind it
        ("googlenet", "inception5b.cat"),  # not the last branch of it
        ("mobilenet_v2", "features.18"),
    ],
)
def test_the_layer_that_is_tapped_unless_somebody_names_one(name: str, layer: str) -> None:
    assert default_layer(name) == layer


@pytest.mark.parametrize(
    ("name", "layer", "weights"),
    [("demo", "conv4_2", "bundled"), ("resnet18", "layer4", "DEFAULT")],
)
def test_init_writes_what_is_usual_for_a_network(
    tmp_path: Path, name: str, layer: str, weights: str
) -> None:
    (photographs := tmp_path / "photographs").mkdir()
    write_params(tmp_path / "project", str(photographs), None, backbone=name)
    extract = read_params(tmp_path / "project")["extract"]
    assert (extract.backbone, extract.layers, extract.weights) == (name, (layer,), weights)
    write_params(tmp_path / "own", str(photographs), None, backbone=name, weights="random:1")
    extract = read_params(tmp_path / "own")["extract"]
    assert (extract.layers, extract.weights) == ((layer,), "random:1")


class Gridless(TokenFamily):
    """What is known of a network by its name is kept, so this one has a name of its own."""

    def names(self) -> list[str]:
        return ["gridless"]

    def to_grid(self, *_: object) -> None:
        return None


def test_a_network_without_such_a_layer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "strangers", Gridless())
    with pytest.raises(BackboneError, match="'gridless' has no layer with a grid: choose"):
        default_layer("gridless")


# One of each kind of torchvision's; the others of a kind have more or wider layers.
KINDS = (
    "alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet "
    "inception_v3 maxvit_t mnasnet0_5 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small "
    "regnet_x_400mf regnet_y_400mf resnet18 resnext50_32x4d shufflenet_v2_x0_5 "
    "squeezenet1_0 swin_t swin_v2_t vgg11 vgg11_bn vit_b_16 wide_resnet50_2"
)


def test_the_kinds_are_all_there_are() -> None:
    def kind(name: str) -> str:
        return re.split(r"\d|_(?:tiny|small|base|large)|_[tsblh]\b|_[tsblh]_\d", name)[0]

    assert {kind(name) for name in KINDS.split()} == {
        kind(name) for name in FAMILIES["torchvision"].names()
    }


@pytest.mark.parametrize("name", KINDS.split())
def test_every_kind_of_torchvisions_has_a_usual_layer(name: str) -> None:
    """Known from shapes alone: no weights are drawn, which takes a minute for the largest."""
    layer = default_layer(name)
    h, w = grid_shape(name, layer, 224, 224)
    assert 5 <= h == w <= 16
    assert channels(name, layer) >= 256


@pytest.mark.parametrize(
    ("name", "layer", "sizes"),
    [
        ("swin_t", "permute", [(64, 96), (75, 64)]),  # its maps have channels last
        ("swin_v2_t", "permute", [(64, 96)]),
        ("vit_b_32", "encoder.ln", [(224, 224)]),
        ("maxvit_t", "blocks.3.layers.1.layers.grid_attention.departition_op.reshape_1",
         [(224, 224)]),
        ("convnext_tiny", "features.7.2.add", [(64, 96), (75, 64)]),
        ("efficientnet_b0", "features.8", [(64, 96), (75, 64)]),
        ("mobilenet_v3_small", "features.12", [(64, 96), (75, 64)]),
    ],
)  # fmt: skip
def test_networks_without_a_relu_at_their_end(
    name: str, layer: str, sizes: list[tuple[int, int]]
) -> None:
    assert default_layer(name) == layer
    (listed,) = (one for one in describe_layers(name) if one.node == layer)
    assert listed.stride == 32 and not listed.non_negative
    backbone = load_backbone(name, [layer], "random:1")
    for height, width in sizes:
        (maps,) = backbone(images(2, 3, height, width)).values()
        assert maps.shape == (2, *grid_shape(name, layer, height, width), channels(name, layer))


def test_tokens_of_torchvisions_transformers_lie_where_they_look() -> None:
    layers = ["encoder.layers.encoder_layer_0.mlp", "encoder.ln"]
    backbone = load_backbone("vit_b_32", layers, "random:1")
    network = build("vit_b_32", "cpu", seed=1).eval()
    batch = images(2, 3, 224, 224)
    tokens: list[torch.Tensor] = []
    network.encoder.ln.register_forward_hook(lambda *of: tokens.append(of[2]))
    with torch.inference_mode():
        network(batch)
    expected = tokens[0][:, 1:].reshape(2, 7, 7, 768)
    torch.testing.assert_close(backbone(batch)["encoder.ln"], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(BackboneError, match=r"on an image of 96x96 pixels .* takes is 224x224"):
        backbone(images(2, 3, 96, 96))


def test_swins_channels_come_last() -> None:
    backbone = load_backbone("swin_t", ["features.1.1.add_1", "permute"], "random:1")
    found = backbone(images(2, 3, 64, 96))
    assert found["features.1.1.add_1"].shape == (2, 16, 24, 96)
    assert found["permute"].shape == (2, 2, 3, 768)


@every_network
def test_aliases_mean_layers(name: str) -> None:
    for alias, node in aliases(name).items():
        assert resolve_layer(name, alias) == node
        assert channels(name, alias) > 0


@every_network
def test_names_of_weights_and_what_images_are_normalised_with(name: str) -> None:
    family = family_of(name)
    published = family.weights(name)
    assert family.usual_weights in published
    scales = [family.preprocessing(name), *(one.preprocessing for one in published.values())]
    for scale in scales:
        assert len(scale.mean) == len(scale.std) == 3 and min(scale.std) > 0
    backbone = load_backbone(name, [default_layer(name)], "random:0")
    assert Preprocessing(backbone.mean, backbone.std) == scales[0]


@every_network
def test_wrong_weights_are_refused(name: str, tmp_path: Path) -> None:
    layer = default_layer(name)
    published = ", ".join(family_of(name).weights(name))
    with pytest.raises(BackboneError, match=f"are none of {published}, the path of a .pth"):
        load_backbone(name, [layer], "no such name")
    other = "squeezenet1_0" if name != "squeezenet1_0" else "alexnet"
    torch.save(build(other, "cpu").state_dict(), tmp_path / "other.pth")
    with pytest.raises(BackboneError, match=f"do not fit backbone '{name}'.* of another model"):
        load_backbone(name, [layer], str(tmp_path / "other.pth"))


def test_shipped_weights_are_found_without_torch() -> None:
    """By the rule that `Family.weights` states; their digest is part of the fingerprint."""
    shipped = {
        (name, weights): one.place
        for family in FAMILIES.values()
        for name in family.names()
        for weights, one in family.weights(name).items()
        if isinstance(one.place, Path)
    }
    assert ("demo", "bundled") in shipped
    for (name, weights), place in shipped.items():
        assert place.is_file() and shipped_weights(name, weights) == place
    params = dataclasses.replace(read_params(Path(__file__).parents[2])["extract"])
    assert sources(params, Path()) == file_digest(shipped["demo", "bundled"])
    assert sources(dataclasses.replace(params, backbone="vgg19", weights="DEFAULT"), Path()) == ""
    assert shipped_weights("vgg19", "bundled") is shipped_weights("demo", "../bundled") is None


def test_a_strangers_tokens_have_a_grid(strange: str) -> None:
    assert default_layer(strange) == "last"
    assert grid_shape(strange, "last", 50, 64) == (3, 4) and channels(strange, "last") == 24
    listed = {layer.node: layer for layer in describe_layers(strange)}
    assert (listed["act"].stride, listed["act"].non_negative) == (PATCH, True)
    assert not listed["mix"].non_negative
    assert "embed" not in listed, "this family has no grid for it"
    backbone = load_backbone(strange, ["last"], "random:3")
    batch = images(2, 3, 50, 64)
    found = backbone(batch)["last"]
    network = build(strange, "cpu", seed=3)
    with torch.inference_mode():
        tokens = network(batch)[:, 1:]
    torch.testing.assert_close(found, tokens.reshape(2, 3, 4, 24))
    assert forward_bytes(strange, ("last",), 2, 50, 64)[1] == 2 * 13 * 24 * 4
    with pytest.raises(BackboneError, match="does not give feature maps"):
        channels(strange, "embed")


def test_a_strangers_network_runs_in_the_pipeline(
    strange: str, tmp_path: Path, photographs: Path
) -> None:
    write_params(tmp_path, str(photographs), None, backbone=strange)
    extract = read_params(tmp_path)["extract"]
    assert (extract.layers, extract.weights) == (("last",), "random:3")
    for command in (
        ["show-model", strange],
        *([s, "--project", str(tmp_path)] for s in ("index", "extract")),
    ):
        result = run_dff(*command)
        assert result.exit_code == 0, result.output
    artifact = open_artifact(tmp_path / "artifacts/activations.zarr")
    assert artifact.attrs["backbone"] == strange
    maps = artifact.ragged("last")
    assert maps.channels == 24 and maps.grid_hw.tolist() == 14 * [[14, 14]]
