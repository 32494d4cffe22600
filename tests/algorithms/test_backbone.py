"""Backbones: names, layers and grids against torch itself, weights from everywhere, and errors."""

import copy
import time
import urllib.error
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.models.feature_extraction import get_graph_node_names

from noise import images
from stages.algorithms.backbone import (
    BackboneError,
    aliases,
    backbone_names,
    channels,
    describe_layers,
    grid_shape,
    load_backbone,
    relus_near,
    resolve_layer,
)
from stages.algorithms.backbone import describe as describing
from stages.algorithms.backbone import graph as graphs
from stages.algorithms.backbone import precision as precisions
from stages.algorithms.backbone import weights as weights_files
from stages.algorithms.backbone import whole as wholes
from stages.algorithms.backbone.families.demo import network as demo_network
from stages.images.resize import normalise

# Small enough that a forward pass takes a moment; the large ones go by shape alone.
pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "demo": "conv4_2",
    "alexnet": "features.11",
    "squeezenet1_0": "fire9",
    "squeezenet1_1": "fire9",
    "resnet18": "layer4",
    "mobilenet_v2": "features.18",
    "mobilenet_v3_small": "features.3.block.1",
    "shufflenet_v2_x0_5": "conv5",
    "mnasnet0_5": "layers.16",
    "googlenet": "inception5b",
    "densenet121": "relu",
    "regnet_x_400mf": "trunk_output",
    "inception_v3": "Mixed_5b",
}
LARGE = {
    "vgg11": "conv5_2",
    "vgg16": "conv5_3",
    "vgg16_bn": "conv5_3",
    "vgg19": "conv5_4",
    "vgg19_bn": "conv5_4",
    "resnet50": "layer4",
    "resnet101": "layer4",
}


@pytest.fixture(scope="module")
def squeezenet() -> torch.nn.Module:
    """An untrained SqueezeNet with torchvision's own forward, in-place ReLUs and all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return torchvision.models.squeezenet1_1().eval()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., str]:
    def save(content: object, name: str = "weights.pth") -> str:
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return save


# ---- names


def test_every_torchvision_classifier_and_the_demo_are_known() -> None:
    names = backbone_names()
    assert names[0] == "demo" and {"vgg19", "vgg19_bn", "resnet101", "squeezenet1_1"} < set(names)
    assert not any("quantized" in name or "rcnn" in name for name in names)


def test_a_misspelt_backbone_gets_a_suggestion() -> None:
    with pytest.raises(BackboneError, match=r"'vgg91', did you mean .*'vgg19'"):
        resolve_layer("vgg91", "conv5_4")
    with pytest.raises(BackboneError, match="torchvision classification model"):
        load_backbone("0", ["x"], "random:0")


# Counted by hand from the architectures (Simonyan and Zisserman, table 1). A convolution and its
# ReLU take two places in `features` and a pooling one; with batch-norm a convolution takes three.
# So the ReLU of the n-th convolution, after p poolings, has the index 2n + p - 1 or 3n + p - 1:
# VGG-19's conv5_4 is the 16th, after 4 poolings: 35, and 51 with batch-norm.
@pytest.mark.parametrize(
    ("backbone", "layer", "node"),
    [
        ("vgg11", "conv1_1", 1),
        ("vgg11", "conv3_2", 9),
        ("vgg11", "conv5_2", 19),
        ("vgg11_bn", "conv5_2", 27),
        ("vgg13", "conv1_2", 3),
        ("vgg13", "conv5_2", 23),
        ("vgg13_bn", "conv5_2", 33),
        ("vgg16", "conv1_1", 1),
        ("vgg16", "conv2_1", 6),
        ("vgg16", "conv4_3", 22),
        ("vgg16", "conv5_3", 29),
        ("vgg16_bn", "conv5_3", 42),
        ("vgg19", "conv1_2", 3),
        ("vgg19", "conv3_4", 17),
        ("vgg19", "conv4_4", 26),
        ("vgg19", "conv5_4", 35),
        ("vgg19_bn", "conv5_4", 51),
        ("squeezenet1_0", "fire2", 3),
        ("squeezenet1_0", "fire5", 7),
        ("squeezenet1_0", "fire9", 12),
        ("squeezenet1_1", "fire4", 6),
        ("squeezenet1_1", "fire9", 12),
    ],
)
def test_aliases_of_the_paper(backbone: str, layer: str, node: int) -> None:
    assert resolve_layer(backbone, layer) == f"features.{node}"


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
@pytest.mark.parametrize("norm", ["", "_bn"])
def test_every_vgg_alias_is_a_relu_and_none_is_missing(depth: int, norm: str) -> None:
    backbone = f"vgg{depth}{norm}"
    network = wholes.skeleton(backbone).network
    assert len(aliases(backbone)) == depth - 3  # the other three are fully connected
    for node in aliases(backbone).values():
        assert isinstance(network.get_submodule(node), torch.nn.ReLU)


def test_demo_aliases() -> None:
    assert resolve_layer("demo", demo_network.DEMO_LAYER) == "features.14"


@pytest.mark.parametrize(
    ("backbone", "layer", "hint"),
    [
        ("vgg16", "conv5_4", "did you mean 'conv5_3'"),
        ("vgg19", "Conv5_4", "did you mean 'conv5_4'"),
        ("resnet50", "layer5", "'layer4'"),
        ("resnet50", "layer4.2.relu_9", "'layer4.2.relu"),
        ("squeezenet1_1", "fire1", "did you mean 'fire"),
        ("alexnet", "zzz", "dff show-model alexnet"),
        ("alexnet", "", "dff show-model alexnet"),
        ("alexnet", "x", "has no layer"),  # the graph's input is no layer
    ],
)
def test_an_unknown_layer_gets_a_suggestion(backbone: str, layer: str, hint: str) -> None:
    with pytest.raises(BackboneError) as caught:
        resolve_layer(backbone, layer)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    "backbone", ["alexnet", "resnet18", "densenet121", "mobilenet_v3_small", "swin_t"]
)
def test_node_names_are_those_of_torchvision(backbone: str) -> None:
    theirs = get_graph_node_names(graphs.build(backbone, "meta"), suppress_diff_warning=True)[1]
    assert list(wholes.skeleton(backbone).nodes) == [n for n in theirs if n not in ("x", "output")]


# ---- shapes


def test_the_sizes_of_the_paper() -> None:
    assert (*grid_shape("vgg19", "conv5_4", 224, 224), channels("vgg19", "conv5_4")) == (
        14,
        14,
        512,
    )
    assert (*grid_shape("resnet101", "layer4", 224, 224), channels("resnet101", "layer4")) == (
        7,
        7,
        2048,
    )


@pytest.mark.parametrize("backbone", SMALL)
def test_grid_shape_is_that_of_a_forward_pass(backbone: str) -> None:
    layer = SMALL[backbone]
    network = load_backbone(backbone, [layer], "random:1")
    for height, width in ((97, 131), (160, 75)):
        (maps,) = network(images(1, 3, height, width)).values()
        expected = (1, *grid_shape(backbone, layer, height, width), channels(backbone, layer))
        assert maps.shape == expected
        assert maps.dtype == torch.float32 and maps.is_contiguous()


@pytest.mark.parametrize("backbone", LARGE)
def test_grid_shape_of_large_networks_at_odd_sizes(backbone: str) -> None:
    layer = LARGE[backbone]
    stride = 32 if backbone.startswith("resnet") else 16
    for height, width in ((224, 224), (97, 131), (333, 500), (448, 299)):
        up = stride == 32  # ResNets pad their strided convolutions, VGG's poolings drop the rest
        cells = tuple(-(-side // stride) if up else side // stride for side in (height, width))
        assert grid_shape(backbone, layer, height, width) == cells


def test_threads_matter_to_rounding_only() -> None:
    """What README says of runs whose memory leaves fewer batches than processors."""
    network, pixels = load_backbone("squeezenet1_1", ["fire9"], "random:0"), images(4, 3, 65, 65)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(network(pixels)["fire9"])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert torch.linalg.norm(other - found[0]) <= 1e-5 * torch.linalg.norm(found[0])


def test_an_image_too_small_is_refused() -> None:
    for backbone, layer in (("vgg19", "conv5_4"), ("alexnet", "features.12"), ("demo", "conv4_2")):
        with pytest.raises(
            BackboneError, match=r"of 5x7 pixels .*: the next size that it takes is \d+x\d+$"
        ):
            grid_shape(backbone, layer, 5, 7)
    with pytest.raises(BackboneError, match="5x7 pixels"):
        load_backbone("squeezenet1_1", ["fire9"], "random:0")(images(1, 3, 5, 7))


def test_a_network_of_one_size_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BackboneError, match="it takes 224x224"):
        grid_shape("maxvit_t", "blocks", 300, 300)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("backbone", "layer"),
    [("swin_t", "flatten"), ("vit_b_16", "heads.head"), ("vgg11", "flatten"), ("resnet18", "fc")],
)
def test_a_layer_without_feature_maps_is_refused(backbone: str, layer: str) -> None:
    with pytest.raises(BackboneError, match=r"does not give feature maps \[n, channels, h, w\]"):
        channels(backbone, layer)
    with pytest.raises(BackboneError, match="feature maps"):
        grid_shape(backbone, layer, 224, 224)


def test_describe_layers() -> None:
    layers = {info.node: info for info in describe_layers("squeezenet1_1")}
    assert next(iter(layers)) == "features.0"
    fire9 = layers["features.12.cat"]
    assert (fire9.alias, fire9.channels, fire9.stride, fire9.non_negative) == (
        "fire9",
        512,
        16,
        True,
    )
    assert not layers["features.0"].non_negative and layers["features.1"].non_negative
    assert not layers["features.12.expand3x3"].non_negative
    resnet = {info.alias: info for info in describe_layers("resnet18") if info.alias}
    assert [info.stride for info in resnet.values()] == [4, 8, 16, 32]
    assert list(resnet) == ["layer1", "layer2", "layer3", "layer4"]
    assert all(info.non_negative for info in resnet.values())


def test_describe_layers_of_a_network_of_one_size() -> None:
    layers = describe_layers("vit_b_16")
    first, last = layers[0], layers[-1]
    assert (first.node, first.channels, first.what) == ("conv_proj", 768, "map")
    assert (last.node, last.channels, last.what) == ("encoder.ln", 768, "tokens")
    assert all(one.stride == 16 and not one.non_negative for one in layers)


# ---- activations


def test_activations_are_those_of_the_whole_network(
    squeezenet: torch.nn.Module, saved: Callable[..., str]
) -> None:
    batch = images(2, 3, 97, 131)
    last = torch.channels_last
    with torch.inference_mode():
        plain = squeezenet.features(batch.clone()).permute(0, 2, 3, 1)
        turned = copy.deepcopy(squeezenet.features).to(memory_format=last)
        expected = turned(batch.contiguous(memory_format=last)).permute(0, 2, 3, 1)
    weights = saved(squeezenet.state_dict())
    ours = load_backbone("squeezenet1_1", ["fire9"], weights)(batch)["fire9"]
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)
    assert (ours - plain).norm() < 1e-5 * plain.norm(), "channels last is a matter of rounding"
    coarse = load_backbone("squeezenet1_1", ["fire9"], weights, precision="bfloat16")(batch)
    assert coarse["fire9"].dtype == torch.float32
    assert 1e-4 * plain.norm() < (coarse["fire9"] - plain).norm() < 0.05 * plain.norm()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("backbone", ["squeezenet1_1", "resnet18", "demo"])
def test_an_image_does_not_depend_on_its_batch(backbone: str, precision: str) -> None:
    """What incremental extraction relies on; true from two images on, not for one alone."""
    weights = "bundled" if backbone == "demo" else "random:0"
    network = load_backbone(backbone, [SMALL[backbone]], weights, precision=precision)
    batch = images(5, 3, 96, 64)
    (whole,) = network(batch).values()
    for chosen in ([0, 1], [4, 2], [3, 3], [1, 3, 4], [4, 3, 2, 1, 0]):
        (part,) = network(batch[chosen]).values()
        assert torch.equal(part, whole[chosen]), chosen


@pytest.mark.parametrize("backbone", ["googlenet", "densenet121", "resnet18"])
def test_the_traced_network_computes_what_torchvision_does(backbone: str) -> None:
    network = graphs.build(backbone, "cpu", seed=3)
    traced = graphs.trace(backbone, network)
    modules = [n for n, node in traced.nodes.items() if node.op == "call_module"]
    batch = images(2, 3, 96, 96)
    with torch.inference_mode():
        expected = network(batch.clone())
    outputs = graphs.run(graphs.prune(traced, modules), batch)
    torch.testing.assert_close(outputs["fc" if "fc" in outputs else modules[-1]], expected)


def test_nothing_runs_after_the_deepest_layer() -> None:
    network = load_backbone("squeezenet1_1", ["fire4", "fire2"], "random:0")._network
    nodes = [node for node in network.graph.nodes if node.op != "output"]
    assert str(nodes[-1].target).endswith("cat") or "cat" in nodes[-1].name
    names = set(network.state_dict())
    assert any(name.startswith("features.6.") for name in names)
    assert not any(name.startswith(("features.7.", "classifier")) for name in names)


def test_several_layers_at_once_are_as_each_alone() -> None:
    layers = ["features.6", "fire2", "fire9", "features.12"]
    batch = images(2, 3, 80, 112)
    together = load_backbone("squeezenet1_1", layers, "random:5")
    assert together.layers == tuple(layers)
    outputs = together(batch)
    assert list(outputs) == layers
    for layer in layers:
        alone = load_backbone("squeezenet1_1", [layer], "random:5")(batch)[layer]
        assert torch.equal(outputs[layer], alone)
    assert torch.equal(outputs["fire9"], outputs["features.12"])


@pytest.mark.parametrize(
    ("backbone", "before", "after"),
    [
        ("alexnet", "features.10", "features.11"),  # modules: nn.ReLU(inplace=True)
        ("googlenet", "conv1.bn", "conv1.relu"),  # functions: F.relu(x, inplace=True)
        ("resnet18", "layer1.0.bn2", "layer1.0.add"),  # operators: out += identity
    ],
)
def test_a_tapped_layer_is_not_overwritten_by_the_next(
    backbone: str, before: str, after: str
) -> None:
    traced = graphs.trace(backbone, graphs.build(backbone, "cpu", seed=1))
    batch = images(1, 3, 64, 64)
    both = graphs.run(graphs.prune(traced, [before, after]), batch)
    alone = graphs.run(graphs.prune(traced, [before]), batch)
    assert both[before].amin() < 0
    assert torch.equal(both[before], alone[before])
    assert not torch.equal(both[before], both[after])


def test_values_below_zero_are_kept_and_relus_named() -> None:
    network = load_backbone("vgg11", ["conv1_1", "features.3"], "random:0")
    batch = images(1, 3, 64, 64)
    found = network(batch)
    first, _, _, second = graphs.build("vgg11", "cpu").features[:4]
    with torch.inference_mode():
        pooled = torch.nn.functional.max_pool2d(first(batch).relu(), 2)
        torch.testing.assert_close(found["features.3"], second(pooled).permute(0, 2, 3, 1))
    assert found["features.3"].amin() < 0 <= found["conv1_1"].amin()
    assert "features.4 (conv2_1)" in relus_near("vgg11", "features.3")
    assert relus_near("vit_b_16", "conv_proj") == "this network has no ReLU"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    batch = images(1, 3, 64, 64)
    batch[0, 0, 30, 30] = value
    with pytest.raises(BackboneError, match="NaN or infinite"):
        load_backbone("squeezenet1_1", ["features.1"], "random:0")(batch)


def test_what_is_not_a_batch_of_images_is_refused() -> None:
    network = load_backbone("squeezenet1_1", ["features.1"], "random:0")
    for batch in (images(3, 64, 64), images(1, 1, 64, 64), images(1, 3, 64, 64).double()):
        with pytest.raises(BackboneError, match=r"float32 \[n, 3, h, w\]"):
            network(batch)
    assert network(images(0, 3, 64, 64))["features.1"].shape == (0, 31, 31, 64)


def test_arguments_of_load_backbone() -> None:
    for layers in ([], "fire9"):
        with pytest.raises(BackboneError, match="at least one layer"):
            load_backbone("squeezenet1_1", layers, "random:0")
    with pytest.raises(BackboneError, match="device 'gpu' cannot be used"):
        load_backbone("squeezenet1_1", ["fire2"], "random:0", device="gpu")


# ---- precision, and photographs as they are decoded

# Relative Frobenius difference from float32 on a CPU, as `load_backbone` states it.
WITHIN = {"float32": 1e-4, "tf32": 5e-3, "float16": 5e-3, "bfloat16": 5e-2}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def photographs(*shape: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (shape[0], 8, 8, 3))
    return coarse.repeat(shape[1] // 8, 1).repeat(shape[2] // 8, 2).astype(np.uint8)


def apart(found: torch.Tensor, exact: torch.Tensor) -> float:
    exact = exact.double()
    return float((found.cpu().double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("precision", WITHIN)
@pytest.mark.parametrize("backbone", ["squeezenet1_1", "resnet18", "demo"])
def test_photographs_are_normalised_as_on_the_host(backbone: str, precision: str) -> None:
    network = load_backbone(backbone, [SMALL[backbone]], "random:0", precision=precision)
    pixels = photographs(3, 64, 96)
    batch = torch.from_numpy(normalise(pixels, network.mean, network.std)).permute(0, 3, 1, 2)
    (expected,) = network(batch).values()
    found, extremes = network.maps(torch.from_numpy(pixels))
    (maps,) = found.values()
    assert maps.dtype == network.dtype and maps.is_contiguous()
    assert torch.equal(maps.float(), expected)
    assert extremes.tolist() == [[expected.min().item(), expected.max().item()]]
    network.check(extremes)


def test_precisions_on_a_cpu() -> None:
    pixels = torch.from_numpy(photographs(2, 96, 96))
    found = {
        precision: load_backbone("squeezenet1_1", ["fire9"], "random:0", precision=precision).maps(
            pixels
        )[0]["fire9"]
        for precision in WITHIN
    }
    assert torch.equal(found["tf32"], found["float32"])
    for precision, most in WITHIN.items():
        assert apart(found[precision], found["float32"]) < most
    assert apart(found["float16"], found["float32"]) > 1e-4
    with pytest.raises(BackboneError, match="choose float32 or tf32 or bfloat16 or float16"):
        load_backbone("squeezenet1_1", ["fire9"], "random:0", precision="float64")


def test_what_float16_cannot_hold_says_so(saved: Callable[..., str]) -> None:
    state = graphs.build("squeezenet1_1", "cpu").state_dict()
    state["features.0.weight"] *= 1e6
    network = load_backbone("squeezenet1_1", ["fire2"], saved(state), precision="float16")
    with pytest.raises(BackboneError, match=r"NaN or infinite values: float16 .* use bfloat16"):
        network.check(network.maps(torch.from_numpy(photographs(2, 64, 64)))[1])


def test_tf32_is_switched_for_the_pass_alone() -> None:
    """Also with threads that want different things at once."""
    before = precisions._get()

    def seen(tf32: bool) -> bool:
        with precisions.convolutions(tf32):
            first = precisions._get()
            time.sleep(0.001)
            return first == precisions._get() == precisions._wanted(tf32, before)

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(seen, [True, False] * 40))
    assert precisions._get() == before
    with pytest.raises(ZeroDivisionError), precisions.convolutions(False):
        _ = 1 / 0
    assert precisions._get() == before


@needs_cuda
@pytest.mark.parametrize("backbone", ["squeezenet1_1", "resnet18", "vgg11"])
@pytest.mark.parametrize("precision", WITHIN)
def test_cuda_agrees_with_the_cpu(backbone: str, precision: str) -> None:
    layer = {"vgg11": "conv5_2", **SMALL}[backbone]
    pixels = torch.from_numpy(photographs(4, 128, 96))
    exact = load_backbone(backbone, [layer], "random:0").maps(pixels)[0][layer]
    network = load_backbone(backbone, [layer], "random:0", "cuda", precision)
    maps, extremes = network.maps(pixels.cuda())
    network.check(extremes)
    assert maps[layer].dtype == network.dtype and maps[layer].is_cuda
    difference = apart(maps[layer], exact)
    assert difference < WITHIN[precision]
    if precision == "tf32":
        assert difference > WITHIN["float32"], "else float32 may have been in TF32, too"
    batch = torch.from_numpy(normalise(pixels.numpy(), network.mean, network.std))
    called = network(batch.permute(0, 3, 1, 2))[layer]
    torch.testing.assert_close(called, maps[layer].float(), rtol=1e-3, atol=1e-3)


# ---- weights


def test_random_weights_are_repeatable_and_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (load_backbone("alexnet", ["features.1"], f"random:{s}") for s in (4, 4, 5))
    assert torch.equal(before, torch.get_rng_state())
    assert one.weights_digest == same.weights_digest != other.weights_digest
    batch = images(1, 3, 64, 64)
    assert torch.equal(one(batch)["features.1"], same(batch)["features.1"])


def test_the_digest_sees_every_tensor_in_use_and_no_other(
    squeezenet: torch.nn.Module, saved: Callable[..., str]
) -> None:
    def digest(change: str | None) -> str:
        state = {name: tensor.clone() for name, tensor in squeezenet.state_dict().items()}
        if change:
            state[change].view(-1)[-1] += 1
        return load_backbone("squeezenet1_1", ["fire2"], saved(state)).weights_digest

    plain = digest(None)
    assert len(plain) == 64 and plain == digest(None)
    assert plain != digest("features.0.bias") != digest("features.3.expand3x3.weight") != plain
    assert plain == digest("features.4.squeeze.weight") == digest("classifier.1.bias")


def test_a_file_may_be_wrapped_prefixed_partial_half_or_safetensors(
    squeezenet: torch.nn.Module, saved: Callable[..., str], tmp_path: Path
) -> None:
    state = dict(squeezenet.state_dict())
    features = {name: tensor for name, tensor in state.items() if name.startswith("features.")}
    save_file(state, tmp_path / "weights.safetensors")
    paths = [
        saved(state, "a.pth"),
        saved({"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 3}, "b.pt"),
        saved({"model": state}, "c.pth"),
        saved(features, "d.pth"),
        saved(squeezenet.features.state_dict(), "e.pth"),
        saved(state, "f.checkpoint"),
        str(tmp_path / "weights.safetensors"),
    ]
    digests = {load_backbone("squeezenet1_1", ["fire9"], path).weights_digest for path in paths}
    assert len(digests) == 1
    half = saved({name: tensor.half() for name, tensor in state.items()}, "half.pth")
    network = load_backbone("squeezenet1_1", ["fire9"], half)
    assert network(images(1, 3, 64, 64))["fire9"].dtype == torch.float32


@pytest.mark.parametrize("lacking", ["", "features."])
@pytest.mark.parametrize(
    "prefix",
    [
        "backbone.",
        "net.",
        "model.",
        "module.",
        "module.model.backbone.",
        "_orig_mod.module.encoder.",
    ],
)
def test_names_may_have_any_prefix(
    squeezenet: torch.nn.Module, saved: Callable[..., str], prefix: str, lacking: str
) -> None:
    state = dict(squeezenet.state_dict())
    plain = load_backbone("squeezenet1_1", ["fire9"], saved(state, "plain.pth")).weights_digest
    named = {prefix + n.removeprefix(lacking): t for n, t in state.items()}
    others = {"head.weight": torch.zeros(3), "epoch": torch.tensor(3)}
    for content in (named | others, {"state_dict": others | named}, {"model": {"net": named}}):
        path = saved(content, "prefixed.ckpt")
        assert load_backbone("squeezenet1_1", ["fire9"], path).weights_digest == plain


def test_blocks_that_look_like_the_beginning_of_a_network_are_none(
    saved: Callable[..., str],
) -> None:
    """Every batch norm of a ResNet's first block is called and shaped as that of its stem."""
    state = graphs.build("resnet18", "cpu", seed=1).state_dict()
    plain = load_backbone("resnet18", ["relu"], saved(state)).weights_digest
    prefixed = saved({f"net.{name}": tensor for name, tensor in state.items()}, "net.pth")
    assert load_backbone("resnet18", ["relu"], prefixed).weights_digest == plain


def test_two_networks_in_one_file_are_one_too_many(
    squeezenet: torch.nn.Module, saved: Callable[..., str]
) -> None:
    state = squeezenet.state_dict()
    both = {f"{who}.{n}": t for who in ("student", "teacher") for n, t in state.items()}
    with pytest.raises(BackboneError, match=r"2 networks that fit, student\. and teacher\.: save"):
        load_backbone("squeezenet1_1", ["fire9"], saved(both))


def test_a_file_that_fits_in_part_names_what_is_missing_and_what_is_there(
    squeezenet: torch.nn.Module, saved: Callable[..., str]
) -> None:
    state = {f"backbone.{n}": t for n, t in squeezenet.state_dict().items()}
    weight = state.pop("backbone.features.3.squeeze.weight")
    state = {"backbone.features.3.shrink.weight": weight, **state}
    with pytest.raises(BackboneError) as caught:
        load_backbone("squeezenet1_1", ["fire9"], saved(state))
    message = str(caught.value)
    assert "1 of the 50 tensors it needs: features.3.squeeze.weight is missing" in message
    assert "the file has backbone.features.3.shrink.weight" in message
    assert "\n" not in message


def test_batch_norm_statistics_must_be_there_but_not_its_counter(
    saved: Callable[..., str],
) -> None:
    state = graphs.build("resnet18", "cpu").state_dict()
    without = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    digest = load_backbone("resnet18", ["layer1"], saved(without)).weights_digest
    assert digest == load_backbone("resnet18", ["layer1"], saved(state)).weights_digest
    del without["layer1.1.bn2.running_mean"]
    with pytest.raises(BackboneError, match=r"layer1\.1\.bn2\.running_mean is missing"):
        load_backbone("resnet18", ["layer1"], saved(without))


def test_no_tensor_is_left_without_a_value(saved: Callable[..., str]) -> None:
    state = graphs.build("resnet18", "cpu", seed=1).state_dict()
    network = load_backbone("resnet18", ["layer4"], saved(state))._network
    assert not any(tensor.is_meta for tensor in network.state_dict().values())
    for name, tensor in weights_files.used_tensors(network).items():
        assert torch.equal(tensor, state[name])


def test_old_densenet_names(saved: Callable[..., str]) -> None:
    state = graphs.build("densenet121", "cpu", seed=1).state_dict()
    old = {
        n.replace(".norm1.", ".norm.1.")
        .replace(".norm2.", ".norm.2.")
        .replace(".conv1.", ".conv.1.")
        .replace(".conv2.", ".conv.2."): t
        for n, t in state.items()
    }
    assert old.keys() != state.keys()
    digests = [
        load_backbone("densenet121", ["relu"], saved(s)).weights_digest for s in (state, old)
    ]
    assert digests[0] == digests[1]


def test_weights_of_another_model_are_listed(
    squeezenet: torch.nn.Module, saved: Callable[..., str]
) -> None:
    path = saved(squeezenet.state_dict())
    with pytest.raises(BackboneError) as caught:
        load_backbone("squeezenet1_0", ["fire9"], path)
    message = str(caught.value)
    assert "'squeezenet1_0'" in message and "is it of another model?" in message
    assert "features.0.weight is [64, 3, 3, 3] instead of [96, 3, 7, 7]" in message
    assert ", and " in message and message.count(" is [") + message.count("is missing") == 5
    with pytest.raises(BackboneError, match=r"features\.0\.weight is int64"):
        state = {n: t.long() for n, t in squeezenet.state_dict().items()}
        load_backbone("squeezenet1_1", ["features.1"], saved(state))


class NotATensor:
    """Something only a full unpickling, which runs code, could restore."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NotATensor(), "cannot be read as a plain state dict"),
        ([1, 2], "holds list, not a state dict"),
        ({}, "holds dict, not a state dict"),
        ({"epoch": 1}, "holds dict, not a state dict"),
        (torch.zeros(3), "holds Tensor, not a state dict"),
    ],
)
def test_a_file_that_is_no_state_dict(
    content: object, message: str, saved: Callable[..., str]
) -> None:
    with pytest.raises(BackboneError, match=message):
        load_backbone("squeezenet1_1", ["fire9"], saved(content))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_and_foreign_files(
    suffix: str, squeezenet: torch.nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(squeezenet.state_dict(), path)
    else:
        save_file(squeezenet.state_dict(), path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:20], b"", b"<html>404</html>"):
        path.write_bytes(damaged)
        with pytest.raises(BackboneError, match="cannot be read as a plain state dict") as caught:
            load_backbone("squeezenet1_1", ["fire9"], str(path))
        assert "\n" not in str(caught.value)


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"absent\.pth does not exist"):
        load_backbone("squeezenet1_1", ["fire9"], str(tmp_path / "absent.pth"))


@pytest.mark.parametrize(
    ("backbone", "weights", "message"),
    [
        ("squeezenet1_1", "IMAGENET1K_V7", "did you mean 'IMAGENET1K_V1'"),
        ("squeezenet1_1", "default", "did you mean 'DEFAULT'"),
        ("squeezenet1_1", "", "none of IMAGENET1K_V1, DEFAULT, the path of a .pth, .pt"),
        ("squeezenet1_1", "bundled", "none of IMAGENET1K_V1"),
        ("squeezenet1_1", "random:x", "random:<seed>"),
        ("squeezenet1_1", "random:-1", "random:<seed>"),
        ("demo", "DEFAULT", "none of bundled, the path"),
        ("demo", "bundeld", "did you mean 'bundled'"),
    ],
)
def test_weights_that_mean_nothing(backbone: str, weights: str, message: str) -> None:
    layer = {"demo": "conv1_1", "squeezenet1_1": "fire2"}[backbone]
    with pytest.raises(BackboneError) as caught:
        load_backbone(backbone, [layer], weights)
    assert message in str(caught.value)


def test_default_weights_come_from_torchvision(
    squeezenet: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, saved: Callable[..., str]
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def serve(url: str, **options: Any) -> dict[str, torch.Tensor]:
        asked.append((url, options))
        return dict(squeezenet.state_dict())

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", serve)
    digests = {
        load_backbone("squeezenet1_1", ["fire9"], weights).weights_digest
        for weights in ("DEFAULT", "IMAGENET1K_V1", saved(squeezenet.state_dict()))
    }
    assert len(digests) == 1 and len(asked) == 2
    url, options = asked[0]
    assert url == torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    assert options["check_hash"] and options["weights_only"]


@pytest.mark.parametrize(
    "failure",
    [
        urllib.error.URLError("no route to host"),
        urllib.error.HTTPError("https://x", 404, "Not Found", None, None),  # type: ignore[arg-type]
        TimeoutError("timed out"),
        PermissionError(13, "Permission denied"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_failing_download_is_one_line(
    failure: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def urlopen(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", urlopen)
    monkeypatch.setattr("stages.algorithms.backbone.files.reach", lambda url: "answers")
    with pytest.raises(BackboneError) as caught:
        load_backbone("squeezenet1_1", ["fire9"], "DEFAULT")
    message = str(caught.value)
    assert "\n" not in message and "squeezenet1_1-b8a52dc0.pth failed" in message
    assert "the path of a weights file in `extract.weights`" in message


def test_a_damaged_download_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = tmp_path / "served"
    served.write_bytes(b"not what was published")
    real = torch.hub.urlopen
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda request: real(served.as_uri()))
    monkeypatch.setattr("stages.algorithms.backbone.files.reach", lambda url: "answers")
    with pytest.raises(BackboneError, match=r"is damaged \(invalid hash value .*extract.weights"):
        load_backbone("squeezenet1_1", ["fire9"], "DEFAULT")
    assert capsys.readouterr().out == ""  # stdout is for results
    cached = tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    cached.write_bytes(b"left behind by something else")
    with pytest.raises(BackboneError, match=r"damaged .*: delete .*squeezenet1_1-b8a52dc0\.pth"):
        load_backbone("squeezenet1_1", ["fire9"], "DEFAULT")


def test_mean_and_std() -> None:
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def of(backbone: str, weights: str) -> tuple[Any, Any]:
        source = weights_files.parse_weights(backbone, weights)
        return source.mean, source.std

    assert of("vgg19", "DEFAULT") == of("vgg19", "random:0") == of("vgg19", "x.pth") == imagenet
    assert of("efficientnet_v2_l", "x.pth") == ((0.5,) * 3, (0.5,) * 3)
    # a file torchvision published keeps its own numbers, however it came here
    caffe = of("vgg16", "IMAGENET1K_FEATURES")
    assert caffe[1] == (1 / 255,) * 3
    assert of("vgg16", "somewhere/vgg16_features-amdegroot-88682ab5.pth") == caffe
    assert of("demo", "random:0") == (demo_network.DEMO_MEAN, demo_network.DEMO_STD)


def test_the_bundled_network_loads() -> None:
    network = load_backbone("demo", [demo_network.DEMO_LAYER], "bundled")
    assert (network.mean, network.std) == (demo_network.DEMO_MEAN, demo_network.DEMO_STD)
    assert network(images(1, 3, 64, 96))[demo_network.DEMO_LAYER].shape == (1, 8, 12, 128)


def test_a_network_that_cannot_be_traced() -> None:
    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(BackboneError, match="'mine' cannot be traced"):
        graphs.trace("mine", Branching())


def test_relus_looked_for_by_several_threads_at_once() -> None:
    """None leaves torch's modules patched behind it."""
    backbone = load_backbone("squeezenet1_1", ["features.0"], "random:0")
    batch = torch.randn(2, 3, 64, 64)

    def message(_: int) -> str:
        backbone(batch)
        return relus_near("squeezenet1_1", "features.0")

    with ThreadPoolExecutor(8) as executor:
        messages = set(executor.map(message, range(40)))
    assert len(messages) == 1 and "ReLUs near it: features.1" in messages.pop()
    assert torch.nn.Conv2d(3, 4, 3)(batch).shape == (2, 4, 62, 62)


def test_large_weights_get_a_start_only_where_a_trial_needs_them() -> None:
    with describing._Unfilled() as unfilled:
        network = torch.nn.Sequential(torch.nn.Linear(3000, 3000), torch.nn.Linear(8, 8))
    large, small = (one.weight for one in network)
    assert unfilled.large == {id(large)}
    assert 0 < small.abs().max() <= 8**-0.5
    unfilled.fill(network)
    assert float(large.detach().std()) == pytest.approx(3000**-0.5, rel=0.01)
