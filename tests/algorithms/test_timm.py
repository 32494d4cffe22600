"""Networks of timm: what is foretold of a layer is what timm's own network gives.

The table has a network of every kind, each with random weights. A plain hook on what `timm` itself
builds is what ours is compared with.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import timm
import torch
from torch import nn

from noise import images
from stages.algorithms.backbone import (
    BackboneError,
    channels,
    default_layer,
    describe_layers,
    family_of,
    forward_bytes,
    grid_shape,
    load_backbone,
    resolve_layer,
)
from tools import ROOT, shell

# name: (layer, height and width of an image, grid by hand, what timm is built with)
# Strides round up in networks that pad; 14, 16 and 32 pixels to a token.
ANY: dict[str, Any] = {"dynamic_img_size": True}
NETWORKS: dict[str, tuple[str, tuple[int, int], tuple[int, int], dict[str, Any]]] = {
    "resnet18.a1_in1k": ("layer4", (97, 131), (4, 5), {}),
    "resnext26ts": ("stages.2", (97, 131), (7, 9), {}),
    "seresnet18": ("layer3.1", (97, 131), (7, 9), {}),
    "resnetv2_18": ("norm", (97, 131), (4, 5), {}),
    "convnext_atto": ("stages.3", (97, 131), (3, 4), {}),
    "convnextv2_atto": ("stages.2.blocks.5", (97, 131), (6, 8), {}),
    "efficientnet_b0": ("blocks.6", (97, 131), (4, 5), {}),
    "tf_efficientnet_lite0": ("bn2", (97, 131), (4, 5), {}),
    "tf_efficientnetv2_b0": ("blocks.5", (97, 131), (4, 5), {}),
    "regnetx_002": ("s4", (97, 131), (4, 5), {}),
    "regnety_002": ("s3", (97, 131), (7, 9), {}),
    "mobilenetv2_050": ("bn2", (97, 131), (4, 5), {}),
    "mobilenetv3_small_050": ("blocks.3", (97, 131), (7, 9), {}),
    "mobilenetv4_conv_small": ("blocks.3", (97, 131), (4, 5), {}),
    "ghostnet_100": ("blocks.9", (97, 131), (4, 5), {}),
    "densenet121": ("features.denseblock2", (97, 131), (12, 16), {}),
    "vgg11_bn": ("features.28", (97, 131), (3, 4), {}),
    "poolformer_s12": ("stages.3", (97, 131), (3, 5), {}),
    "pvt_v2_b0": ("stages.3", (97, 131), (4, 5), {}),
    "swin_tiny_patch4_window7_224": ("layers.1", (96, 132), (12, 17), ANY),
    "vit_tiny_patch16_224": ("norm", (96, 144), (6, 9), ANY),
    "deit_tiny_distilled_patch16_224": ("blocks.5", (96, 144), (6, 9), ANY),
    "vit_small_patch16_224.dino": ("blocks.11.attn.qkv", (96, 144), (6, 9), ANY),
    "vit_small_patch14_dinov2.lvd142m": ("norm", (84, 126), (6, 9), ANY),
    "vit_small_patch14_reg4_dinov2.lvd142m": ("blocks.11", (84, 126), (6, 9), ANY),
    "eva02_tiny_patch14_224": ("blocks.11", (84, 126), (6, 9), ANY),
    "vit_tiny_r_s16_p8_224": ("norm", (96, 160), (3, 5), ANY),
    "xcit_nano_12_p16_224": ("blocks.11", (96, 144), (6, 9), {}),
    "beit_base_patch16_224": ("blocks.1", (224, 224), (14, 14), {}),
    "maxvit_rmlp_pico_rw_256": ("stages.1", (256, 256), (32, 32), {}),
    "coatnet_nano_rw_224": ("stages.3", (224, 224), (7, 7), {}),
}
pytestmark = pytest.mark.usefixtures("one_thread")

TOKENS = {"vit": 1, "deit": 2, "beit": 1, "eva02": 1, "xcit": 0}  # before those of the image
REGISTERS = {"vit_small_patch14_reg4_dinov2.lvd142m": 5}


def built_by_timm(name: str, options: dict[str, Any], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(name, **options).eval()


def hooked(network: nn.Module, module: str, batch: torch.Tensor) -> torch.Tensor:
    """What a module of timm's own network gives, by a plain hook."""
    found: list[torch.Tensor] = []
    network.get_submodule(module).register_forward_hook(lambda *a: found.append(a[2].clone()))
    with torch.inference_mode():
        network(batch)
    return found[-1]


def as_rows(output: torch.Tensor, name: str, grid: tuple[int, int]) -> torch.Tensor:
    """The same as ``[n, h, w, channels]``, by what is known of each kind of network."""
    kind = name.partition("_")[0]
    if output.ndim == 4:
        return output if kind == "swin" else output.permute(0, 2, 3, 1)
    leading = REGISTERS.get(name, TOKENS[kind])
    return output[:, leading:].unflatten(1, grid)


def test_the_table_has_every_kind() -> None:
    assert len(NETWORKS) >= 25
    assert all(family_of(f"timm/{name}").knows(f"timm/{name}") for name in NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_layer_is_what_timm_gives(name: str) -> None:
    layer, (height, width), grid, options = NETWORKS[name]
    ours = f"timm/{name}"
    assert grid_shape(ours, layer, height, width) == grid
    batch = images(2, 3, height, width)
    expected = as_rows(hooked(built_by_timm(name, options), layer, batch), name, grid)
    found = load_backbone(ours, [layer], "random:0")(batch)[layer]
    assert found.shape == (2, *grid, channels(ours, layer)) and found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


# ---- names


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("vit_small_patch14_dinov2.lvd142m", "'timm/vit_small_patch14_dinov2.lvd142m'?"),
        ("timm/vit_smal_patch14_dinov2.lvd142m", "'timm/vit_small_patch14_dinov2.lvd142m'"),
        ("timm/resnet50.a1_in2k", "'timm/resnet50.a1_in1k'"),
        ("timm/resnet_50", "'timm/resnet50'"),
        ("facebook/dinov2-small", "'hf-hub:facebook/dinov2-small'"),
        ("torchvision/resnet_50", "'resnet50'"),
        ("timm/", "timm/resnet50.a1_in1k"),
        ("transformers/facebook/dinov2-small", "take module:FILE.py:FUNCTION"),
    ],
)
def test_an_unknown_name_gets_the_string_to_write(wrong: str, hint: str) -> None:
    with pytest.raises(BackboneError) as caught:
        family_of(wrong)
    message = str(caught.value)
    assert message.startswith(f"unknown backbone {wrong!r}, ") and hint in message
    assert "\n" not in message


def test_timm_is_loaded_for_its_own_networks_alone() -> None:
    code = (
        "import sys\n"
        "from stages.algorithms.backbone import grid_shape, load_backbone\n"
        "for name, layer in (('demo', 'conv4_2'), ('vgg11', 'conv5_2'), ('resnet18', 'layer4')):\n"
        "    grid_shape(name, layer, 64, 64)\n"
        "    load_backbone(name, [layer], 'random:0')\n"
        "print('timm' in sys.modules)\n"
        "print(grid_shape('timm/resnet18', 'layer4', 64, 64), 'timm' in sys.modules)\n"
    )
    assert shell(ROOT, ROOT, sys.executable, "-c", code).stdout == "False\n(2, 2) True\n"


def test_torchvisions_names_may_say_so() -> None:
    assert family_of("torchvision/vgg19") is family_of("vgg19") is not family_of("timm/vgg19")
    assert grid_shape("torchvision/vgg19", "conv5_4", 224, 224) == (14, 14)


def test_tags_are_names_of_weights() -> None:
    family = family_of("timm/resnet50")
    tagged, bare = family.weights("timm/resnet50.a1_in1k"), family.weights("timm/resnet50")
    assert list(tagged) == ["DEFAULT"] and {"DEFAULT", "a1_in1k", "a2_in1k"} < set(bare)
    assert tagged["DEFAULT"] == bare["a1_in1k"]
    assert tagged["DEFAULT"].place == "hf-hub:timm/resnet50.a1_in1k/"
    assert (tagged["DEFAULT"].tag, tagged["DEFAULT"].licence) == ("a1_in1k", "apache-2.0")
    lite = family.weights("timm/tf_efficientnet_lite0.in1k")["DEFAULT"].preprocessing
    assert (lite.mean, lite.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


# ---- layers


@pytest.mark.parametrize(
    ("name", "layer", "non_negative"),
    [
        ("resnet18.a1_in1k", "layer4", True),
        ("tf_efficientnet_lite0.in1k", "bn2", True),
        ("convnext_atto", "stages.3", False),
        ("swin_tiny_patch4_window7_224", "layers.3", False),
        ("vit_tiny_patch16_224", "norm", False),
        ("vit_small_patch16_224.dino", "blocks.11.attn:key", False),
        ("beit_base_patch16_224", "blocks.11", False),
    ],
)
def test_the_usual_layer(name: str, layer: str, non_negative: bool) -> None:
    assert default_layer(f"timm/{name}") == layer
    if name in ("resnet18.a1_in1k", "vit_tiny_patch16_224"):
        (found,) = (one for one in describe_layers(f"timm/{name}") if one.node == layer)
        assert found.non_negative == non_negative and found.stride in (16, 32)


def test_features_as_timm_counts_them() -> None:
    listed = timm.create_model("resnet18", features_only=True).feature_info.module_name()
    assert [resolve_layer("timm/resnet18", f"features:{i}") for i in range(5)] == listed
    assert resolve_layer("timm/resnet18", "-1") == listed[-1]
    assert resolve_layer("timm/vit_tiny_patch16_224", "-2") == "blocks.10"
    with pytest.raises(BackboneError, match=r"no layer 'features:7', did you mean 'features:"):
        resolve_layer("timm/resnet18", "features:7")


def test_nodes_of_the_graph_where_there_is_one() -> None:
    """Sums of a ResNet are no modules; a network that cannot be traced says what it has."""
    both = load_backbone("timm/resnet18", ["layer4.0.add", "layer4.0"], "random:0")
    found = both(images(2, 3, 64, 96))
    torch.testing.assert_close(found["layer4.0.add"].relu(), found["layer4.0"])
    assert found["layer4.0.add"].amin() < 0
    with pytest.raises(BackboneError, match=r"no layer 'blocks\.11\.add'"):
        load_backbone("timm/vit_tiny_patch16_224", ["blocks.11.add"], "random:0")


def test_several_layers_in_one_pass_and_nothing_after_the_deepest() -> None:
    name, layers = "timm/vit_tiny_patch16_224", ["blocks.3", "blocks.5.attn:key", "blocks.1"]
    network = load_backbone(name, layers, "random:0")
    batch = images(2, 3, 64, 96)
    found = network(batch)
    assert list(found) == layers
    for layer in layers:
        alone = load_backbone(name, [layer], "random:0")
        torch.testing.assert_close(found[layer], alone(batch)[layer], rtol=0, atol=0)
        assert network.layer_digests[layer] == alone.weights_digest
    in_use = network._network.state_dict()
    assert not any(one.startswith(("blocks.6", "norm.", "head")) for one in in_use)
    assert "blocks.5.attn.qkv.weight" in in_use and "blocks.5.mlp.fc1.weight" not in in_use
    calls: list[object] = []
    network._network.network.blocks[6].register_forward_hook(lambda *_: calls.append(1))
    network(batch)
    assert not calls
    peak, outputs = forward_bytes(name, tuple(layers), 2, 64, 96)
    assert outputs == 2 * 25 * 192 * 4 * 3 < peak


def test_a_tapped_module_is_not_written_into_by_the_next() -> None:
    """timm's ResNet adds in place; its second norm is tapped before that."""
    found = load_backbone("timm/resnet18", ["layer1.0.bn2", "layer4"], "random:3")
    batch = images(2, 3, 64, 64)
    alone = load_backbone("timm/resnet18", ["layer1.0.bn2"], "random:3")
    assert torch.equal(found(batch)["layer1.0.bn2"], alone(batch)["layer1.0.bn2"])


def test_threads_go_through_one_network_side_by_side() -> None:
    network = load_backbone("timm/vit_tiny_patch16_224", ["blocks.1", "norm"], "random:0")
    batches = [images(2, 3, 32 * (1 + i % 3), 64) for i in range(12)]
    expected = [network(one)["norm"] for one in batches]
    with ThreadPoolExecutor(4) as executor:
        for found, wanted in zip(executor.map(network, batches), expected, strict=True):
            torch.testing.assert_close(found["norm"], wanted)


# ---- tokens


@pytest.mark.parametrize("facet", ["query", "key", "value"])
def test_facets_are_thirds_of_what_attention_projects(facet: str) -> None:
    name = "timm/vit_small_patch16_224.dino"
    batch = images(2, 3, 48, 64)
    network = built_by_timm("vit_small_patch16_224.dino", ANY)
    at = ("query", "key", "value").index(facet)
    third = hooked(network, "blocks.11.attn.qkv", batch)[:, 1:, at * 384 : (at + 1) * 384]
    found = load_backbone(name, [f"blocks.11.attn:{facet}"], "random:0")(batch)
    (rows,) = found.values()
    torch.testing.assert_close(rows, third.unflatten(1, (3, 4)), rtol=1e-4, atol=1e-5)


def test_the_token_of_an_attention_is_what_its_block_gives() -> None:
    name = "timm/vit_tiny_patch16_224"
    batch = images(2, 3, 48, 64)
    found = load_backbone(name, ["blocks.11.attn:token", "blocks.11"], "random:0")(batch)
    assert torch.equal(found["blocks.11.attn:token"], found["blocks.11"])
    for wrong in ("blocks.11.attn:keys", "blocks.11.mlp:key", "blocks.11.attn:"):
        with pytest.raises(BackboneError, match="has no layer"):
            resolve_layer(name, wrong)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("eva02_tiny_patch14_224", 56),
        ("beit_base_patch16_224", 224),
        ("eva02_base_patch14_224", 56),
    ],
)
def test_facets_of_attentions_that_have_biases_or_projections_of_their_own(
    name: str, side: int
) -> None:
    """EVA's and BEiT's biases are no part of the projection; the last has three projections."""
    batch = images(2, 3, side, side)
    network = built_by_timm(name, {} if name.startswith("beit") else ANY)
    given = hooked(network, "blocks.0.norm1", batch)
    attention: Any = network.get_submodule("blocks.0.attn")
    width = given.shape[-1]
    with torch.inference_mode():
        if getattr(attention, "k_proj", None) is None:
            expected = nn.functional.linear(given, attention.qkv.weight[width : 2 * width])
        else:
            expected = attention.k_proj(given)
    assert (getattr(attention, "k_proj", None) is not None) == (name == "eva02_base_patch14_224")
    (found,) = load_backbone(f"timm/{name}", ["blocks.0.attn:key"], "random:0")(batch).values()
    torch.testing.assert_close(found.flatten(1, 2), expected[:, 1:], rtol=1e-4, atol=1e-5)


def test_images_of_any_size_are_resampled_to_whole_patches() -> None:
    """To the nearest multiple; positions are interpolated to the grid, by timm itself."""
    name = "timm/vit_small_patch14_dinov2.lvd142m"
    for size, grid in {(224, 224): (16, 16), (97, 131): (7, 9), (160, 75): (11, 5)}.items():
        assert grid_shape(name, "norm", *size) == grid
    batch = images(2, 3, 97, 131)
    seen = nn.functional.interpolate(batch, (98, 126), mode="bilinear")
    expected = hooked(built_by_timm("vit_small_patch14_dinov2", ANY), "norm", seen)
    found = load_backbone(name, ["norm"], "random:0")(batch)["norm"]
    torch.testing.assert_close(found.flatten(1, 2), expected[:, 1:], rtol=1e-4, atol=1e-4)


def test_what_can_be_tapped_is_said_in_words() -> None:
    listed = {one.node: one for one in describe_layers("timm/vit_tiny_patch16_224")}
    assert listed["blocks.11"].what == listed["norm"].what == "tokens"
    assert listed["blocks.11"].alias == "features:11"
    key = listed["blocks.11.attn:key"]
    assert (key.what, key.channels, key.stride) == ("keys of attention", 192, 16)
    assert "head" not in listed and "blocks.3.drop_path1" not in listed
    resnet = {one.node: one for one in describe_layers("timm/resnet18")}
    assert (resnet["layer4"].what, resnet["layer4"].stride) == ("ReLU map", 32)
    assert resnet["layer4.1.act2"].what == "ReLU map" and resnet["conv1"].what == "map"
    assert not resnet["layer4.1.bn2"].non_negative, "its norm starts at zero"
