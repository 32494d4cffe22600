"""Weights: a family's, from a file, or random; checked before they are used."""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from stages.algorithms.backbone.families import family_of
from stages.algorithms.backbone.family import BackboneError, Channels, Preprocessing
from stages.algorithms.backbone.files import SUFFIXES, Read, read_file, read_url
from stages.algorithms.backbone.graph import TRACED_CONSTANT
from stages.algorithms.names import suggestion


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
        Of a random start, or of what a network is built with where it brings its own weights.
    mean, std, bgr
        What images are normalised with: red, green, blue, for values in 0 to 1; and whether the
        network takes blue first.
    interpolation
        See `Preprocessing`.
    tag, licence
        See `Published`.
    """

    url: str | None = None
    path: Path | None = None
    seed: int | None = None
    mean: Channels = Preprocessing.mean
    std: Channels = Preprocessing.std
    bgr: bool = False
    interpolation: str = "bilinear"
    tag: str = ""
    licence: str = ""


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
        one = published[weights]
        url, file = (one.place, None) if isinstance(one.place, str) else (None, one.place)
        seed = 0 if one.place is None else None
        source = Source(url, file, seed, tag=one.tag, licence=one.licence)
        return prepared(source, one.preprocessing)
    if random := re.fullmatch(r"random:(\d{1,18})", weights):
        return prepared(Source(seed=int(random[1])), usual)
    path = Path(weights).expanduser()
    if path.suffix in SUFFIXES or (weights and path.is_file()):
        names = {Path(one.place).name: one.preprocessing for one in published.values() if one.place}
        return prepared(Source(path=path), names.get(path.name, usual))
    hint = suggestion(weights, published, most=3, otherwise="")
    raise BackboneError(
        f"weights {weights!r} of backbone {backbone!r} are none of {', '.join(published)}, the "
        f"path of a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file, random:<seed>"
        + (f", {hint}" if hint else "")
    )


def prepared(source: Source, preprocessing: Preprocessing) -> Source:
    """The source of weights with another preprocessing."""
    of = preprocessing
    how = of.interpolation
    return replace(source, mean=of.mean, std=of.std, bgr=of.bgr, interpolation=how)


def read(source: Source) -> Read:
    """The tensors of published weights (downloaded when not cached) or of a weights file.

    Raises
    ------
    BackboneError
        The download fails or is damaged, or the file is missing or holds no state dict.
    """
    if source.path is not None:
        return read_file(source.path)
    assert source.url is not None  # a random start has no tensors to be read
    return read_url(source.url)


def used_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and buffers that decide a network's output in eval mode, by name."""
    state = network.state_dict()
    return {n: state[n] for n in sorted(state) if not n.endswith("num_batches_tracked")}


def install(
    network: nn.Module, tensors: Mapping[str, torch.Tensor], backbone: str, origin: str
) -> str:
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

    Returns
    -------
    str
        The prefix that names have in the file.

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
    return next((names[one].removesuffix(one) for one in names if names[one].endswith(one)), "")


def without_prefix(
    tensors: Mapping[str, torch.Tensor], network: nn.Module, origin: str
) -> tuple[str, Mapping[str, torch.Tensor]]:
    """The prefix under which a file has most of a network's names, and its tensors without it.

    Parameters
    ----------
    network
        Whole, on any device: names and shapes are compared.
    origin
        Of the tensors, for messages.

    Raises
    ------
    BackboneError
        Two networks in the file fit.
    """
    state = network.state_dict()
    found: dict[str, int] = {}
    for name in tensors:
        parts = name.split(".")
        for at in range(len(parts)):
            end = ".".join(parts[at:])
            if end in state and not _fault(end, state[end], tensors[name]):
                before = name.removesuffix(end)
                found[before] = found.get(before, 0) + 1
    if not found:
        return "", tensors
    most = max(found.values())
    best = sorted((one for one in found if found[one] == most), key=len)
    if len(best) > 1 and not best[1].startswith(best[0]) and most > 1:
        raise BackboneError(
            f"weights {origin} hold {len(best)} networks that fit, {' and '.join(best)}: "
            "save the state dict of one of them"
        )
    prefix = best[0]
    if not prefix:
        return "", tensors
    return prefix, {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}


def in_order(
    tensors: Mapping[str, torch.Tensor], network: nn.Module
) -> Mapping[str, torch.Tensor] | None:
    """A file's tensors by a network's names where only the names differ; else None.

    They must be as many, in the same order, each with the same shape and last part of its name
    (``weight``, ``running_mean``): so it is for the same architecture written by others.
    """
    state = network.state_dict()

    def kinds(of: Mapping[str, torch.Tensor]) -> list[object]:
        return [(name.rpartition(".")[2], tuple(tensor.shape)) for name, tensor in of.items()]

    if state.keys() & tensors.keys() or kinds(state) != kinds(tensors):
        return None
    return dict(zip(state, tensors.values(), strict=True))


def told(
    read_: Read,
    prefix: str,
    installed: Collection[str],
    network: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    renamed: bool,
) -> str:
    """What was made of a file, in one line: what was unwrapped and stripped, what is left over.

    Parameters
    ----------
    prefix
        That names had in the file.
    installed
        Names of the tensors in use.
    network
        Whole, with all its names.
    tensors
        Of the file, without the prefix and by the network's names.
    renamed
        Whether they were taken `in_order`.
    """
    state = network.state_dict()
    foreign = [name for name in tensors if name not in state]
    reshaped = [n for n in tensors if n in state and tensors[n].shape != state[n].shape]
    parts = [
        f"taken from {' > '.join(map(repr, read_.wrapped))}" if read_.wrapped else "",
        f"names without {prefix!r}" if prefix else "",
        "whose names are others', in their order" if renamed else "",
        f"{len(installed)} of its {len(read_.tensors)} tensors are in use",
        f"not of this network: {_few(foreign)}" if foreign else "",
        f"of another shape, and not needed: {_few(reshaped)}" if reshaped else "",
    ]
    return ", ".join(part for part in parts if part)


def _few(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


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
