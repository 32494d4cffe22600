"""The rest of a network gives what the whole network gives, or says why there is none."""

from pathlib import Path

import pytest
import timm
import torch
from torchvision import models

from noise import images
from stages.algorithms.backbone import (
    BackboneError,
    NoClassifierError,
    load_backbone,
)
from stages.algorithms.backbone.cut import cut_at
from stages.algorithms.backbone.head import head_bytes, load_head

pytestmark = pytest.mark.usefixtures("one_thread")


def saved(folder: Path, network: torch.nn.Module) -> str:
    path = folder / "weights.pth"
    torch.save(network.state_dict(), path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("squeezenet1_1", "fire9"),
        ("squeezenet1_1", "fire5"),
        ("resnet18", "layer3"),
        ("resnet18", "layer4.0.add"),
        ("mobilenet_v2", "features.18.2"),
        ("googlenet", "inception5a"),
    ],
)
def test_torchvisions_logits(tmp_path: Path, name: str, layer: str) -> None:
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": True} if name == "googlenet" else {}
    network = getattr(models, name)(**options).eval()
    if hasattr(network, "transform_input"):
        network.transform_input = True
    weights = saved(tmp_path, network)
    batch = images(3, 3, 96, 128)
    with torch.inference_mode():
        expected = network(batch)
    backbone = load_backbone(name, [layer], weights)
    maps = backbone(batch)[layer]
    head = load_head(name, layer, weights, trunk=backbone.layer_digests[layer])
    with torch.inference_mode():
        torch.testing.assert_close(head(maps), expected, rtol=1e-3, atol=1e-4)
        some = head.only([7, 3], maps[:1])
        torch.testing.assert_close(some(maps), expected[:, [7, 3]], rtol=1e-3, atol=1e-4)
    assert head.classes == 1000 and some.classes == 2
    assert head.names and head.names.names[339] == "sorrel" and "ImageNet" in head.names.assumed


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("tf_efficientnet_lite0", "bn2"),  # whose paddings cannot be traced
        ("convnext_atto", "stages.3"),
        ("swin_tiny_patch4_window7_224", "layers.3"),  # channels last
        ("xcit_nano_12_p16_224", "blocks.11"),  # tokens, the class comes later
    ],
)
def test_timms_logits(tmp_path: Path, name: str, layer: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=11).eval()
    weights = saved(tmp_path, network)
    batch = images(2, 3, 224, 224)
    with torch.inference_mode():
        expected = network(batch)
    backbone = load_backbone(f"timm/{name}", [layer], weights)
    head = load_head(f"timm/{name}", layer, weights, trunk=backbone.layer_digests[layer])
    with torch.inference_mode():
        found = head(backbone(batch)[layer])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert head.classes == 11 and head.names is None


@pytest.mark.parametrize(
    ("name", "layer", "why"),
    [
        ("resnet18", "layer3.0.relu", "another path goes round it to the classes; layer3.0.add"),
        ("squeezenet1_1", "features.12.expand1x1_activation", "features.12.cat would do"),
        ("timm/resnet18", "layer4.0.act1", "another path goes round it"),
        ("timm/vit_tiny_patch16_224", "blocks.11", "cannot be told from the rest"),
        ("timm/vit_small_patch16_224.dino", "blocks.11.attn:key", "a part of an attention"),
    ],
)
def test_where_there_is_none_the_line_says_why(name: str, layer: str, why: str) -> None:
    with pytest.raises(NoClassifierError) as caught:
        cut_at(name, layer)
    message = str(caught.value)
    assert why in message and layer in message and "\n" not in message


def test_dropped_tokens_are_told_from_kept_ones(tmp_path: Path) -> None:
    """A transformer that can be traced, with a class token among its tokens."""
    code = (
        "import torch\nfrom torch import nn\n"
        "class Tokens(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.patches = nn.Conv2d(3, 8, 16, 16)\n"
        "        self.mix = nn.Linear(8, 8)\n"
        "        self.head = nn.Linear(8, 5)\n"
        "    def forward(self, x):\n"
        "        tokens = self.patches(x).flatten(2).transpose(1, 2)\n"
        "        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)\n"
        "        return self.head(self.mix(tokens)[:, 0])\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    return Tokens()\n"
    )
    (tmp_path / "net.py").write_text(code)
    with pytest.raises(NoClassifierError, match="tokens that decide about the classes are not"):
        cut_at(f"module:{tmp_path / 'net.py'}:build", "mix")


def test_features_alone_have_no_classifier(tmp_path: Path) -> None:
    network = models.squeezenet1_1()
    path = tmp_path / "features.pth"
    torch.save({n: t for n, t in network.state_dict().items() if "features" in n}, path)
    with pytest.raises(NoClassifierError, match=r"no classifier .*\(classifier.1.bias, class"):
        load_head("squeezenet1_1", "fire9", str(path))
    with pytest.raises(NoClassifierError, match="random start"):
        load_head("squeezenet1_1", "fire9", "random:0")
    torch.save(timm.create_model("resnet18", num_classes=0).state_dict(), path)
    with pytest.raises(NoClassifierError, match="no classifier"):
        load_head("timm/resnet18", "layer4", str(path))


def test_other_weights_than_those_of_the_activations_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = models.squeezenet1_1()
    weights = saved(tmp_path, network)
    digest = load_backbone("squeezenet1_1", ["fire9"], weights).layer_digests["fire9"]
    assert load_head("squeezenet1_1", "fire9", weights, trunk=digest).classes == 1000
    with torch.no_grad():
        network.features[3].squeeze.bias[0] += 1
    other = saved(tmp_path, network)
    with pytest.raises(BackboneError, match="are not those that the activations of fire9"):
        load_head("squeezenet1_1", "fire9", other, trunk=digest)


def test_a_fine_tuned_file_may_have_other_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = models.resnet18(num_classes=4).eval()
    path = tmp_path / "last.ckpt.pth"
    torch.save({"state_dict": {f"model.{n}": t for n, t in network.state_dict().items()}}, path)
    head = load_head("resnet18", "layer4", str(path))
    batch = images(1, 3, 96, 96)
    with torch.inference_mode():
        found = head(load_backbone("resnet18", ["layer4"], str(path))(batch)["layer4"])
        torch.testing.assert_close(found, network(batch), rtol=1e-3, atol=1e-4)
    assert head.classes == 4 and head.names is None


def test_memory_is_known_without_weights() -> None:
    """fire9 of 13 x 13: a map of 512, one of 1000 channels before and after the last ReLU."""
    weights, held = head_bytes("squeezenet1_1", "fire9", (13, 13))
    assert weights == sum(one.nbytes for one in models.squeezenet1_1().state_dict().values())
    cells = 13 * 13 * 4
    assert cells * (512 + 1000) <= held <= cells * (512 + 2 * 1000 + 1000)
