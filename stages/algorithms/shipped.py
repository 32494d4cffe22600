"""Files that a network of params is made of, found without torch, which takes seconds to import."""

import json
from pathlib import Path

FAMILIES = Path(__file__).parent / "backbone" / "families"
OF_TIMM = ("timm/", "hf-hub:", "local-dir:")  # names of networks that timm builds
LOCAL = "local-dir:"  # a folder with timm's config.json and weights
MODULE = "module:"  # a function of the user's that builds a network
# In the order in which timm looks for weights in a folder.
IN_FOLDER = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
SHARDS = ".safetensors.index.json"


def shipped_weights(backbone: str, weights: str) -> Path | None:
    """The file of a network's weights of this name, where a family brings it along.

    See `Family.weights`: it lies beside the family's module.
    """
    name = f"{backbone}-{weights}.pth"
    if Path(name).name != name:
        return None  # a path is no name
    return next(
        (path for folder in (FAMILIES, *FAMILIES.iterdir()) if (path := folder / name).is_file()),
        None,
    )


def local_weights(backbone: str) -> Path | None:
    """The weights in the folder of a network ``local-dir:FOLDER``."""
    folder = Path(backbone.removeprefix(LOCAL)).expanduser()
    if not backbone.startswith(LOCAL) or not folder.is_dir():
        return None
    named = [folder / name for name in (*IN_FOLDER, f"model{SHARDS}")]
    others = [path for end in (".safetensors", ".pth", ".bin") for path in folder.glob(f"*{end}")]
    return next((path for path in (*named, *sorted(others)) if path.is_file()), None)


def module_file(backbone: str) -> Path | None:
    """The file of a network ``module:FILE.py:FUNCTION``; None for a module that is imported."""
    if not backbone.startswith(MODULE):
        return None
    place = backbone.removeprefix(MODULE).rpartition(":")[0]
    return Path(place).expanduser() if place.endswith(".py") else None


def located(backbone: str, project: Path) -> str:
    """A network's name with its path, where it has one, relative to a project, made whole."""
    if backbone.startswith(LOCAL):
        return f"{LOCAL}{project / Path(backbone.removeprefix(LOCAL)).expanduser()}"
    if path := module_file(backbone):
        function = backbone.rpartition(":")[2]
        return f"{MODULE}{project / path}:{function}"
    return backbone


def shards_of(index: Path) -> tuple[Path, ...]:
    """The files that an index of shards (``model.safetensors.index.json``) names, sorted.

    Raises
    ------
    ValueError
        It is no such index.
    """
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return tuple(sorted(index.parent / str(name) for name in names))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"is no index of shards of safetensors ({error})") from error


def network_files(backbone: str, weights: str) -> tuple[Path, ...]:
    """Files that another content of makes another network: weights, description, code.

    Parameters
    ----------
    backbone, weights
        As params have them, paths made whole.
    """
    found = [module_file(backbone)]
    if backbone.startswith(LOCAL):
        folder = Path(backbone.removeprefix(LOCAL))
        found += [folder / "config.json", local_weights(backbone) if weights == "DEFAULT" else None]
    found.append(shipped_weights(backbone, weights) or (Path(weights) if weights else None))
    files = [one for one in found if one and one.is_file()]
    shards = [shard for one in files if one.name.endswith(SHARDS) for shard in _shards(one)]
    return (*files, *shards)


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        return shards_of(index)
    except ValueError:
        return ()  # who reads the weights says so
