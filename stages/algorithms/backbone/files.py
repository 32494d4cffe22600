"""Tensors of weights: out of a file, its shards or a download, and out of a training checkpoint."""

import argparse
import contextlib
import http.client
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stages.algorithms.backbone.families.plain import first_line
from stages.algorithms.backbone.family import HUB, BackboneError, hub_parts
from stages.algorithms.backbone.online import hub, reach
from stages.algorithms.shipped import SHARDS, shards_of

STALLED_SECONDS = 60.0
SUFFIXES = (".pth", ".pt", ".safetensors")
# Keys under which training code and frameworks put the state dict in a checkpoint. The average of
# weights over a training comes first: it is what is evaluated and published where there is one.
AVERAGED = ("state_dict_ema", "model_ema_state_dict", "ema_state_dict", "model_ema", "ema")
WRAPPERS = (
    *AVERAGED,
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "backbone",
    "module",  # of DataParallel, where the wrapper itself was saved
    "teacher",  # of DINO, whose student is not what is used
)
# In the order in which they are looked for in a repository; the first cannot run code.
IN_REPOSITORY = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Read:
    """What was read.

    Attributes
    ----------
    tensors : mapping of name to tensor
        As the file has them.
    wrapped : tuple of str
        Keys of the checkpoint that they were under, from the outside in.
    revision : str
        Of the repository on the Hub that they came from; empty for other places.
    """

    tensors: Mapping[str, torch.Tensor]
    wrapped: tuple[str, ...] = ()
    revision: str = ""


def read_file(path: Path) -> Read:
    """The tensors of a weights file.

    Raises
    ------
    BackboneError
        It is missing, cannot be read, or holds no state dict.
    """
    return _state_dict(_loaded(path), str(path))


def read_url(url: str) -> Read:
    """The tensors of published weights, downloaded unless they are cached.

    Raises
    ------
    BackboneError
        The download fails or is damaged, or holds no state dict.
    """
    if not url.startswith(HUB):
        return _state_dict(_download(url), url)
    path = _from_hub(url)
    read = _state_dict(_loaded(path), url)
    # the Hub's cache has a folder by the commit
    commit = path.parent.name if path.parent.parent.name == "snapshots" else ""
    return Read(read.tensors, read.wrapped, commit or hub_parts(url)[1])


def _loaded(path: Path) -> object:
    if not path.is_file():
        raise BackboneError(f"weights file {path} does not exist: correct extract.weights")
    try:
        if path.name.endswith(SHARDS):
            tensors: dict[str, torch.Tensor] = {}
            for shard in shards_of(path):
                tensors.update(_safe(shard))
            return tensors
        if path.suffix == ".safetensors":
            return _safe(path)
        # a namespace of options, which training scripts leave beside the weights, runs nothing
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle or archive can raise anything
        raise BackboneError(
            f"weights file {path} cannot be read as a plain state dict ({first_line(error)}): "
            "copy it again, or save it anew with torch.save(network.state_dict(), path)"
        ) from error


def _safe(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _download(url: str) -> object:
    advice = "or give the path of a weights file in `extract.weights`"
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    try:
        if not cached.exists() and reach(url) == "silent":
            raise TimeoutError("its server does not answer")
        # torch announces the download on stdout, which belongs to the program's results
        with _stalling_is_an_error(), contextlib.redirect_stdout(sys.stderr):
            return torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
    except (OSError, http.client.HTTPException) as error:
        raise BackboneError(
            f"the download of {url} failed ({first_line(error)}): "
            f"try again with a network, {advice}"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a wrong hash, or a damaged pickle or archive
        raise BackboneError(
            f"the download of {url} is damaged ({first_line(error)}): delete {cached} if it "
            f"exists and try again, {advice}"
        ) from error


def _from_hub(url: str) -> Path:
    """The file in the Hub's cache, downloaded unless it is there."""
    # here, and not above: it comes with timm, and only its networks need it
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, revision, file = hub_parts(url)
    problem: Exception | None = None
    for name in [file] if file else IN_REPOSITORY:
        try:
            with _stalling_is_an_error(), hub():
                found = huggingface_hub.hf_hub_download(repository, name, revision=revision or None)
            return Path(found)
        except EntryNotFoundError as error:
            problem = problem or error
            if isinstance(error, LocalEntryNotFoundError):
                break  # not cached, and no network
        except Exception as error:  # whatever its client of the day raises
            problem = error
            break
    assert problem is not None
    raise BackboneError(
        f"the download of {url} failed ({first_line(problem)}): try again with a network, or give "
        "the path of a weights file in `extract.weights`"
    ) from problem


@contextlib.contextmanager
def _stalling_is_an_error() -> Iterator[None]:
    """torch downloads without a time limit: a silent server would hold a run for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before or STALLED_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _state_dict(loaded: object, origin: str) -> Read:
    """Unwrap a training checkpoint and undo the names that old versions gave."""
    wrapped: list[str] = []
    while isinstance(loaded, Mapping):
        key = next((key for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if key is None:
            break
        loaded = loaded[key]
        wrapped.append(key)
    entries: Any = loaded.items() if isinstance(loaded, Mapping) else ()
    tensors = {
        # torchvision's published DenseNets say `norm.1` where its code has said `norm1` since
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name): t
        for name, t in entries
        if isinstance(name, str) and isinstance(t, torch.Tensor)
    }
    if not tensors:
        raise BackboneError(
            f"weights file {origin} holds {type(loaded).__name__}, not a state dict of tensors: "
            "save it anew with torch.save(network.state_dict(), path)"
        )
    return Read(tensors, tuple(wrapped))
