"""Weights: a family's, from a file, or random; checked before they are used."""

import contextlib
import hashlib
import http.client
import re
import socket
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from stages.algorithms.backbone.families import family_of
from stages.algorithms.backbone.family import BackboneError, Channels, Preprocessing
from stages.algorithms.backbone.graph import TRACED_CONSTANT, first_line
from stages.algorithms.names import suggestion

STALLED_SECONDS = 60.0
SUFFIXES = (".pth", ".pt", ".safetensors")
# Keys under which training code and frameworks put the state dict in a checkpoint.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "backbone")


@dataclass(frozen=True)
class Source:
    """Where weights come from: exactly one of the first three is set.

    Attributes
    ----------
    url
        Of weights that are downloaded once.
    path
        A weights file.
    seed
        Of a random start.
    mean, std
        What images are normalised with: red, green, blue, for values in 0 to 1.
    """

    url: str | None = None
    path: Path | None = None
    seed: int | None = None
    mean: Channels = Preprocessing.mean
    std: Channels = Preprocessing.std


def parse_weights(backbone: str, weights: str) -> Source:
    """What a `weights` param means for a backbone; nothing is read or downloaded yet.

    A file gets the mean and std of the published weights of the same file name, else those of the
    family for weights of unknown origin.

    Raises
    ------
    BackboneError
        None of: a name that the family knows, a path, `random:<seed>`.
    """
    family = family_of(backbone)
    published = family.weights(backbone)
    usual = family.preprocessing(backbone)
    if weights in published:
        place = published[weights].place
        url, file = (place, None) if isinstance(place, str) else (None, place)
        return _prepared(Source(url=url, path=file), published[weights].preprocessing)
    if random := re.fullmatch(r"random:(\d{1,18})", weights):
        return _prepared(Source(seed=int(random[1])), usual)
    path = Path(weights).expanduser()
    if path.suffix in SUFFIXES or (weights and path.is_file()):
        names = {Path(one.place).name: one.preprocessing for one in published.values()}
        return _prepared(Source(path=path), names.get(path.name, usual))
    hint = suggestion(weights, published, most=3, otherwise="")
    raise BackboneError(
        f"weights {weights!r} of backbone {backbone!r} are none of {', '.join(published)}, the "
        f"path of a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file, random:<seed>"
        + (f", {hint}" if hint else "")
    )


def _prepared(source: Source, preprocessing: Preprocessing) -> Source:
    return replace(source, mean=preprocessing.mean, std=preprocessing.std)


def read_tensors(source: Source) -> dict[str, torch.Tensor]:
    """The tensors of published weights (downloaded when not cached) or of a weights file.

    Raises
    ------
    BackboneError
        The download fails or is damaged, or the file is missing or holds no state dict.
    """
    if source.path is not None:
        return _state_dict(_read_file(source.path), str(source.path))
    assert source.url is not None  # a random start has no tensors to be read
    return _state_dict(_download(source.url), source.url)


def _read_file(path: Path) -> object:
    if not path.is_file():
        raise BackboneError(f"weights file {path} does not exist: correct extract.weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle or archive can raise anything
        raise BackboneError(
            f"weights file {path} cannot be read as a plain state dict ({first_line(error)}): "
            "copy it again, or save it anew with torch.save(network.state_dict(), path)"
        ) from error


def _download(url: str) -> object:
    advice = "or give the path of a weights file in `extract.weights`"
    try:
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
        cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        raise BackboneError(
            f"the download of {url} is damaged ({first_line(error)}): delete {cached} if it "
            f"exists and try again, {advice}"
        ) from error


@contextlib.contextmanager
def _stalling_is_an_error() -> Iterator[None]:
    """torch downloads without a time limit: a silent server would hold a run for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before or STALLED_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _state_dict(loaded: object, origin: str) -> dict[str, torch.Tensor]:
    """Unwrap a training checkpoint and undo the names that wrappers and old versions gave."""
    while isinstance(loaded, Mapping):
        inner = next((one for key in WRAPPERS if isinstance(one := loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    entries = loaded.items() if isinstance(loaded, Mapping) else ()
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
    return tensors


def used_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and buffers that decide a network's output in eval mode, by name."""
    state = network.state_dict()
    return {n: state[n] for n in sorted(state) if not n.endswith("num_batches_tracked")}


def install(
    network: nn.Module, tensors: Mapping[str, torch.Tensor], backbone: str, origin: str
) -> None:
    """Give every tensor of a pruned network its value, or none of them.

    Parameters
    ----------
    network
        Usually on the meta device; modified in place.
    tensors
        May hold more than the network needs; names may have a prefix, as of the module that the
        network was a part of (``backbone.``, ``module.model.``), and may lack a leading
        `features.`, as when only `network.features` was saved. Cast to the network's float32.
    origin
        Of the tensors, for messages.

    Raises
    ------
    BackboneError
        A tensor is missing or has another shape: the first five and a count.
    """
    used = used_tensors(network)
    # constants that tracing froze into the graph have their values already
    wanted = {name: t for name, t in used.items() if not name.startswith(TRACED_CONSTANT)}
    names = _names_in(tensors, wanted, origin)
    found = {name: tensors[given] for name, given in names.items() if given in tensors}
    faults = [fault for n, t in wanted.items() if (fault := _fault(n, t, found.get(n)))]
    if faults:
        rest = f", and {len(faults) - 5} more" if len(faults) > 5 else ""
        others = [name for name in tensors if name not in set(names.values())][:3]
        instead = f"; the file has {', '.join(others)} ..." if others else ""
        raise BackboneError(
            f"weights {origin} do not fit backbone {backbone!r}, {len(faults)} of the "
            f"{len(wanted)} tensors it needs: {', '.join(faults[:5])}{rest}{instead}; "
            "is it of another model?"
        )
    ready = {name: found[name].to(wanted[name].dtype) for name in wanted}
    for name, tensor in network.state_dict().items():
        # batch-norm's counter has no effect in eval mode, but must leave the meta device too
        ready.setdefault(name, torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor)
    network.load_state_dict(ready, assign=True)


def _names_in(
    tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], origin: str
) -> dict[str, str]:
    """What the file calls each tensor that is wanted: its name after the prefix that fits best.

    Raises
    ------
    BackboneError
        Two networks in the file fit.
    """
    prefixes: dict[str, list[str]] = {}  # by every end of a name, what comes before it
    for name in tensors:
        parts = name.split(".")
        for i in range(len(parts)):
            before = ".".join((*parts[:i], "")) if i else ""
            prefixes.setdefault(".".join(parts[i:]), []).append(before)
    fits: list[tuple[int, dict[str, str]]] = []
    whole: list[str] = []
    for lacking in ("", "features."):
        ends = {name: name.removeprefix(lacking) for name in wanted}
        tried = sorted(
            {one for end in ends.values() for one in prefixes.get(end, ())},
            key=lambda one: (len(one), one),
        )
        for prefix in tried:
            names = {name: prefix + end for name, end in ends.items()}
            good = sum(not _fault(n, t, tensors.get(names[n])) for n, t in wanted.items())
            # a block within a network may look like its beginning
            if good == len(wanted) and not any(prefix.startswith(one) for one in whole):
                whole.append(prefix)
            fits.append((good, names))
        if len(whole) > 1:
            raise BackboneError(
                f"weights {origin} hold {len(whole)} networks that fit, {' and '.join(whole)}: "
                "save the state dict of one of them"
            )
        if whole:
            break
    # the first of the best: the shortest prefix
    return max(fits, key=lambda one: one[0])[1] if fits else {name: name for name in wanted}


def _fault(name: str, wanted: torch.Tensor, given: torch.Tensor | None) -> str | None:
    if given is None:
        return f"{name} is missing"
    if given.shape != wanted.shape:
        return f"{name} is {list(given.shape)} instead of {list(wanted.shape)}"
    if given.is_floating_point() != wanted.is_floating_point() or given.is_sparse:
        return f"{name} is {str(given.dtype).removeprefix('torch.')}"
    return None


def digest(network: nn.Module, names: Collection[str] | None = None) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor that decides the output.

    Parameters
    ----------
    network
        Pruned, on the CPU.
    names
        Of the tensors; by default all.
    """
    total = hashlib.sha256()
    for name, tensor in used_tensors(network).items():
        if names is not None and name not in names:
            continue
        total.update(
            f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode(errors="backslashreplace")
        )
        total.update(tensor.detach().contiguous().numpy().data)
    return total.hexdigest()
