"""Weights of timm's networks as others save them, and where they come from."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import nn

from noise import images
from stages.algorithms.backbone import BackboneError, Preprocessing, family_of, load_backbone
from stages.algorithms.shipped import located, network_files

pytestmark = pytest.mark.usefixtures("one_thread")

NAME, LAYER = "timm/vit_tiny_patch16_224", "blocks.1"
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True).eval()


@pytest.fixture(scope="module")
def state(network: nn.Module) -> Tensors:
    return dict(network.state_dict())


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., str]:
    def save(content: object, name: str = "weights.pth") -> str:
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return save


def loaded(weights: str) -> tuple[str, str]:
    """Digest of what was loaded, and what was said of it."""
    found = load_backbone(NAME, [LAYER], weights)
    return found.weights_digest, found.told


def test_activations_are_those_of_timm(network: nn.Module, saved: Callable[..., str]) -> None:
    batch = images(2, 3, 48, 64)
    found: list[torch.Tensor] = []
    handle = network.get_submodule(LAYER).register_forward_hook(lambda *a: found.append(a[2]))
    with torch.inference_mode():
        network(batch)
    handle.remove()
    ours = load_backbone(NAME, [LAYER], saved(network.state_dict()))(batch)[LAYER]
    torch.testing.assert_close(ours.flatten(1, 2), found[0][:, 1:], rtol=1e-4, atol=1e-5)


def test_checkpoints_as_training_code_leaves_them(
    state: Tensors, saved: Callable[..., str], tmp_path: Path
) -> None:
    plain, told = loaded(saved(state))
    assert told == "28 of its 152 tensors are in use"
    other = {name: tensor + 1 for name, tensor in state.items()}
    lightning = {f"model.{n}": t for n, t in state.items()}
    # average first, student last; a namespace of options beside them runs nothing
    cases: dict[str, Any] = {
        "'state_dict', names without 'model.'": {"state_dict": lightning, "epoch": 3},
        "'state_dict_ema'": {"state_dict": other, "state_dict_ema": state},
        "'model_ema'": {"model": other, "model_ema": state, "args": argparse.Namespace(lr=1)},
        "'teacher', names without 'backbone.'": {
            "student": {f"backbone.{n}": t for n, t in other.items()},
            "teacher": {f"backbone.{n}": t for n, t in state.items()},
        },
        "'model' > 'module'": {"model": {"module": state}},
    }
    for number, (how, content) in enumerate(cases.items()):
        found, told = loaded(saved(content, f"{number}.ckpt"))
        assert found == plain, how
        assert told == f"taken from {how}, 28 of its 152 tensors are in use"
    parallel = {f"module.{n}": t for n, t in state.items()}
    assert loaded(saved(parallel, "parallel.pth"))[0] == plain


def test_a_head_of_other_classes_and_foreign_tensors_are_named(
    state: Tensors, saved: Callable[..., str]
) -> None:
    other = {**state, "head.weight": torch.zeros(7, 192), "head.bias": torch.zeros(7)}
    plain, _ = loaded(saved(state))
    found, told = loaded(saved({**other, "dino_head.mlp": torch.zeros(2)}, "head.pth"))
    assert found == plain
    assert "not of this network: dino_head.mlp" in told
    assert "of another shape, and not needed: head.weight, head.bias" in told
    partial = {n: t for n, t in state.items() if not n.startswith("blocks.1.")}
    with pytest.raises(BackboneError) as caught:
        loaded(saved(partial, "partial.pth"))
    message = str(caught.value)
    assert "12 of the 28 tensors it needs: blocks.1." in message and "is missing" in message


def test_shards_of_safetensors(state: Tensors, saved: Callable[..., str], tmp_path: Path) -> None:
    names = sorted(state)
    shards = {"model-1.safetensors": names[:70], "model-2.safetensors": names[70:]}
    for file, some in shards.items():
        save_file({name: state[name].contiguous() for name in some}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {n: f for f, s in shards.items() for n in s}}))
    assert loaded(str(index))[0] == loaded(saved(state))[0]
    files = network_files(NAME, str(index))
    assert [one.name for one in files] == [index.name, *shards]
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(BackboneError, match="cannot be read as a plain state dict"):
        loaded(str(index))
    index.write_text("{}")
    with pytest.raises(BackboneError, match="no index of shards"):
        loaded(str(index))


def test_two_networks_in_one_file(state: Tensors, saved: Callable[..., str]) -> None:
    both = {f"{who}.{n}": t for who in ("student", "teacher") for n, t in state.items()}
    with pytest.raises(BackboneError, match=r"2 networks that fit, student\. and teacher\.: save"):
        loaded(saved(both))


def test_weights_as_those_have_them_who_trained_the_network(saved: Callable[..., str]) -> None:
    """DINOv2's own files: positions of the training's size, registers by another name."""
    name = "vit_small_patch14_reg4_dinov2"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = timm.create_model(name, img_size=518).eval()
    theirs = {}
    for key, tensor in network.state_dict().items():
        key = key.replace("reg_token", "register_tokens")
        theirs[key] = tensor
    # theirs have a position for the class, which timm adds to the class itself
    theirs["pos_embed"] = torch.cat([torch.zeros(1, 1, 384), theirs["pos_embed"]], 1)
    theirs["mask_token"] = torch.zeros(1, 384)
    batch = images(1, 3, 518, 518)
    found: list[torch.Tensor] = []
    network.blocks[0].register_forward_hook(lambda *a: found.append(a[2].clone()))
    with torch.inference_mode():
        network(batch)
    ours = load_backbone(f"timm/{name}", ["blocks.0"], saved(theirs))(batch)["blocks.0"]
    torch.testing.assert_close(ours.flatten(1, 2), found[0][:, 5:], rtol=1e-4, atol=1e-5)


# ---- published weights, up to the network's edge


@pytest.fixture(autouse=True)
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked whether the Hub is there."""
    monkeypatch.setattr("stages.algorithms.backbone.online.reach", lambda url: "answers")


def test_published_weights_come_from_the_hub(
    state: Tensors, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, saved: Callable[..., str]
) -> None:
    asked: list[tuple[Any, ...]] = []
    cached = tmp_path / "snapshots" / "0123abc" / "model.safetensors"
    cached.parent.mkdir(parents=True)
    save_file({n: t.contiguous() for n, t in state.items()}, cached)

    def serve(repository: str, file: str, *, revision: str | None) -> str:
        asked.append((repository, file, revision))
        return str(cached)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", serve)
    tagged = f"{NAME}.augreg_in21k_ft_in1k"
    found = load_backbone(tagged, [LAYER], "DEFAULT")
    assert asked == [("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "model.safetensors", None)]
    assert found.weights_digest == loaded(saved(state))[0] and found.told == ""
    assert found.source == {
        "tag": "augreg_in21k_ft_in1k",
        "revision": "0123abc",
        "licence": "apache-2.0",
    }
    assert (found.mean, found.std) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("cause", ["offline", "connection", "absent"])
def test_a_download_that_fails_is_one_line(cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fail(repository: str, file: str, **_: object) -> None:
        asked.append(file)
        if cause == "offline":
            raise LocalEntryNotFoundError("not cached\nand no network")
        if cause == "connection":
            raise ConnectionError("no route to host")
        raise EntryNotFoundError(f"no {file}")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(BackboneError) as caught:
        load_backbone(NAME, [LAYER], "DEFAULT")
    message = str(caught.value)
    assert "\n" not in message and "timm/vit_tiny_patch16_224." in message
    assert "the path of a weights file in `extract.weights`" in message
    assert asked == ["model.safetensors"] + ["pytorch_model.bin"] * (cause == "absent")


def test_a_description_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", fail)
    with pytest.raises(BackboneError, match=r"Hub cannot be read \(no network\): .*local-dir:FOLD"):
        family_of("hf-hub:org/name@v1").weights("hf-hub:org/name@v1")
    with pytest.raises(BackboneError, match=r"'local-dir:/nowhere': no network of timm .*config"):
        family_of("local-dir:/nowhere").preprocessing("local-dir:/nowhere")


def test_a_folder_has_its_own_description(state: Tensors, tmp_path: Path) -> None:
    save_file({n: t.contiguous() for n, t in state.items()}, tmp_path / "model.safetensors")
    cfg = {"mean": [0.1, 0.2, 0.3], "std": [0.5] * 3, "license": "mit", "tag": "mine"}
    about = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": cfg}
    (tmp_path / "config.json").write_text(json.dumps(about))
    name = f"local-dir:{tmp_path}"
    found = load_backbone(name, [LAYER], "DEFAULT")
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.5,) * 3)
    assert found.source == {"tag": "mine", "revision": "", "licence": "mit"}
    batch = images(2, 3, 48, 64)
    same = load_backbone(NAME, [LAYER], str(tmp_path / "model.safetensors"))
    assert torch.equal(found(batch)[LAYER], same(batch)[LAYER])
    assert located("local-dir:models", tmp_path.parent) == f"local-dir:{tmp_path.parent / 'models'}"
    files = [one.name for one in network_files(name, "DEFAULT")]
    assert files == ["config.json", "model.safetensors"]


# ---- preprocessing


def test_preprocessing_of_params_comes_before_that_of_the_weights(state: Tensors) -> None:
    asked = Preprocessing((0.498,) * 3, (0.502,) * 3)
    found = load_backbone(NAME, [LAYER], "random:0", preprocessing=asked)
    assert (found.mean, found.std) == (asked.mean, asked.std)
    rgb = load_backbone(NAME, [LAYER], "random:0")
    bgr = load_backbone(NAME, [LAYER], "random:0", preprocessing=Preprocessing(bgr=True))
    batch = images(2, 3, 32, 48)
    torch.testing.assert_close(bgr(batch)[LAYER], rgb(batch.flip(1))[LAYER])


def test_shipped_weights_need_no_word() -> None:
    assert load_backbone("demo", ["conv4_2"], "bundled").told == ""
