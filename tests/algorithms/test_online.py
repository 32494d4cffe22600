"""Where nobody answers, that is one line within seconds; what is in a cache is had all the same."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from stages.algorithms.backbone import BackboneError, family_of, load_backbone, online
from stages.algorithms.backbone.files import read_url
from stages.algorithms.backbone.online import hub, reach

WAITED, SOON = 0.5, 10.0  # seconds; the client alone takes more than twenty
NAME = "timm/vit_tiny_patch16_224"
REPOSITORY = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that takes connections and never says anything, and is not waited for long."""
    monkeypatch.setattr(online, "PATIENCE", WAITED)
    monkeypatch.setattr(online, "REMEMBERED", 1e9)  # no new minute begins within a test
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent_hub(silent: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setattr(constants, "ENDPOINT", silent)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return silent


def refused(ask: Callable[[], object], match: str) -> None:
    begun = time.monotonic()
    with pytest.raises(BackboneError, match=match) as caught:
        ask()
    assert time.monotonic() - begun < SOON
    assert "\n" not in str(caught.value)


def test_weights_of_a_hub_that_is_silent(silent_hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = family_of(NAME).weights(NAME)["DEFAULT"].place
    refused(
        lambda: read_url(str(place)),
        rf"the download of hf-hub:{REPOSITORY}/ failed \({silent_hub} does not answer, .*: try "
        r"again with a network, or give the path of a weights file",
    )
    with monkeypatch.context() as patch:
        patch.setattr("urllib.request.urlopen", lambda *_, **__: 1 / 0)  # would be "fails"
        assert reach(silent_hub) == "silent"  # remembered


def test_a_description_on_a_hub_that_is_silent(silent_hub: str) -> None:
    name = "hf-hub:nobody/nothing"
    refused(
        lambda: family_of(name).preprocessing(name),
        rf"description .* cannot be read \({silent_hub} does not answer, .*local-dir:FOLDER",
    )


def test_what_is_cached_is_had_where_nobody_answers(silent_hub: str, tmp_path: Path) -> None:
    repository = tmp_path / f"models--{REPOSITORY.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    with hub():
        found = huggingface_hub.hf_hub_download(REPOSITORY, "model.safetensors")
    assert Path(found).read_bytes() == b"weights"
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_is_switched_off_is_not_asked(
    silent_hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("stages.algorithms.backbone.online.reach", pytest.fail)
    refused(lambda: load_backbone(NAME, ["norm"], "DEFAULT"), "HF_HUB_OFFLINE")


def test_a_server_of_torch_that_is_silent(
    silent: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    refused(
        lambda: read_url(f"{silent}/squeezenet1_1-b8a52dc0.pth"),
        r"squeezenet1_1-b8a52dc0\.pth failed \(its server does not answer\): try again",
    )


def test_a_port_that_nobody_has_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert reach(f"http://127.0.0.1:{port}/a/file") == "fails"
