"""Somebody's own activations as a project: the stages from factorize to report run on them."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.init import write_params
from pipeline.params import PARAMS, load, read_params, render
from stages.artifacts.activations import OWN
from stages.extract.own import Channels, OwnActivations, OwnArray, digest_of
from stages.frame.errors import StageError
from stages.frame.params import user_path
from store import write_atomically
from store.publication import replacing


def bring_activations(
    project: str | Path,
    activations: Any,
    images: Sequence[str | Path],
    photographs: str | Path | None = None,
    *,
    channels: Channels = "last",
    dtype: str = "float16",
) -> Path:
    """Make your own activations those of a project; `run` does all the rest with them.

    Writes params.yaml (``extract.backbone: own``) and, beside it, a file that says where the arrays
    are and whose they are. Arrays in memory are saved there, too; a Zarr array or a ``.npy`` file
    stays where it is, is read block by block, and must stay as it is. Other sections of a
    params.yaml that is there are kept.

    Parameters
    ----------
    activations : array, path of a Zarr array or ``.npy`` file, or {layer: such}
        ``[n, h, w, channels]`` or, with ``channels="first"``, ``[n, channels, h, w]``: finite and
        >= 0. A single one becomes the layer ``own``.
    images : sequence of n paths
        The image file of each; absolute, relative to `photographs`, or to where you are.
    photographs : path, optional
        Folder that they are all in; its folders are the image sets. Needed unless there is a
        params.yaml.
    dtype : str
        ``float16`` or ``float32``, on disk (``extract.dtype``).

    Returns
    -------
    Path
        Of params.yaml.

    Raises
    ------
    StageError, ParamsError
        One line: what is wrong with which array or image.
    """
    project = Path(project)
    if photographs is not None:
        root = _plain(photographs)
        if not (project / PARAMS).exists():
            write_params(project, str(root), None)
    else:
        root = _plain(user_path(read_params(project)["index"].root, project))
    names = _names(images, root)
    given = activations if isinstance(activations, Mapping) else {OWN: activations}
    if not given:
        raise StageError("activations: there is no layer")
    arrays, digests = {}, {}
    for layer, one in given.items():
        array = _opened(one, channels)
        digests[layer] = _checked(layer, array, names)
        where = _path_of(one) or _saved(project, array.array, digests[layer])
        arrays[layer] = (where, channels)
    own = OwnActivations(project / "own.json", names, arrays, digests)
    name = f"own-{hashlib.sha256(own.content()).hexdigest()[:12]}.json"
    write_atomically(project / name, own.content())
    extract = {"backbone": OWN, "weights": name, "layers": list(arrays), "dtype": dtype}
    return _write_params(project, root if photographs is not None else None, extract)


def _names(images: Sequence[str | Path], root: Path) -> list[str]:
    """Images as the index calls them."""
    names = []
    for image in images:
        file = next((p for p in (_plain(root / image), _plain(image)) if p.is_file()), None)
        if file is None:
            raise StageError(f"{image}: no such image file, neither here nor in {root}")
        try:
            names.append(file.relative_to(root).as_posix())
        except ValueError as error:
            raise StageError(f"{image}: is not in the folder of photographs, {root}") from error
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise StageError(f"{twice}: stands there twice; each image has one array")
    return names


def _plain(path: str | Path) -> Path:
    """Absolute and without ``..``; links stay, as they do in the index."""
    return Path(os.path.abspath(path))  # noqa: PTH100  resolve() follows links


def _path_of(given: Any) -> str:
    """Where an array is on disk; empty for one in memory."""
    if isinstance(given, zarr.Array):
        path = Path(re.sub(r"^file:/*", "/", str(given.store_path)))
        return str(path) if path.exists() else ""
    return str(Path(given).absolute()) if isinstance(given, str | Path) else ""


def _opened(given: Any, channels: Channels) -> OwnArray:
    if isinstance(given, str | Path):
        return OwnArray.open(str(given), channels)
    return OwnArray(given if isinstance(given, zarr.Array) else np.asarray(given), channels)


def _checked(layer: str, array: OwnArray, names: Sequence[str]) -> list[str]:
    """Digests of the array of each image.

    Raises
    ------
    StageError
        When it is not an array of activations, or not one of these images.
    """
    shape, axes = array.array.shape, "h, w, channels"
    if array.channels not in ("last", "first"):
        raise StageError(f"channels: {array.channels!r} is neither last nor first")
    if array.channels == "first":
        axes = "channels, h, w"
    if len(shape) != 4 or shape[0] != len(names) or 0 in shape:
        raise StageError(f"{layer}: is {list(shape)}, not [{len(names)} images, {axes}]")
    if np.dtype(array.array.dtype).kind not in "fiu":
        raise StageError(f"{layer}: is of {array.array.dtype}, not of numbers")
    digests = []
    for name, values in zip(names, array.rows(range(len(names))), strict=True):
        lowest, highest = float(values.min()), float(values.max())
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            raise StageError(f"{layer}: {name} has a value that is not finite")
        if lowest < 0:
            raise StageError(
                f"{layer}: {name} has a value of {lowest:.3g}; a factorization needs values >= 0: "
                "take a layer after a ReLU, or np.maximum(activations, 0)"
            )
        digests.append(digest_of(values))
    return digests


def _saved(project: Path, array: "NDArray[Any] | zarr.Array[Any]", digests: Sequence[str]) -> str:
    """Put an array that is in memory beside params.yaml; its name there."""
    name = f"own-{hashlib.sha256(''.join(digests).encode()).hexdigest()[:12]}.npy"
    with replacing(project / name) as file:
        np.save(file, np.asarray(array))
    return name


def _write_params(project: Path, root: Path | None, extract: Mapping[str, Any]) -> Path:
    path = project / PARAMS
    read_params(project)  # what is there is right, or its error is told
    sections = load(path)
    sections["extract"] |= extract
    if isinstance(size := sections["extract"]["size"], list):
        sections["extract"]["size"] = size[-1]  # what is brought is of one size
    if root is not None:
        sections["index"]["root"] = str(root)
        if sections["index"]["dataset"] == "demo":
            sections["index"]["dataset"] = "folder"
    text = render(sections, "Written by `bring_activations`.")
    write_atomically(path, text.encode())
    return path
