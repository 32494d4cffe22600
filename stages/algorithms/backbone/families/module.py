"""Networks that a function of the user's builds: ``module:FILE.py:FUNCTION`` or of a package.

Asking for one runs the user's own code, named in params; nothing in a weights file is ever run.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.algorithms.backbone.families.plain import first_line, maps_either_way, tokens_to_grid
from stages.algorithms.backbone.family import BackboneError, Family, Preprocessing, Published
from stages.algorithms.shipped import MODULE, module_file

LEADING = range(17)  # tokens before the image's that are looked for


class ModuleFamily(Family):
    """See `Family`; the function takes nothing and returns a module.

    The module may say what images it takes: `mean`, `std` and `input_size` in a mapping
    ``pretrained_cfg``, as timm's models have one.
    """

    summary = "module:FILE.py:FUNCTION for a network of your own"
    usual_weights = "DEFAULT"
    prefixes = (MODULE,)
    modules_first = True

    def names(self) -> Sequence[str]:
        """See `Family.names`: nobody can list them."""
        return ()

    def knows(self, name: str) -> bool:
        """See `Family.knows`."""
        return name.startswith(MODULE)

    def build(self, name: str) -> nn.Module:
        """See `Family.build`."""
        wanted = torch.get_default_device()
        with torch.device("cpu"):  # it may read its weights
            return _made(name).to(wanted)

    def weights(self, name: str) -> Mapping[str, Published]:
        """See `Family.weights`: `DEFAULT` are those that the function gives its network."""
        return {"DEFAULT": Published(None, self.preprocessing(name))}

    def preprocessing(self, name: str) -> Preprocessing:
        """See `Family.preprocessing`."""
        cfg, usual = _cfg(name), Preprocessing()
        return Preprocessing(cfg.get("mean", usual.mean), cfg.get("std", usual.std))

    def side(self, name: str) -> int:
        """See `Family.side`."""
        return int(_cfg(name).get("input_size", (3, 224, 224))[-1])

    def aliases(self, name: str, network: nn.Module) -> Mapping[str, str]:
        """See `Family.aliases`: none."""
        return {}

    def default_layer(self, name: str, network: nn.Module) -> str | None:
        """See `Family.default_layer`."""
        return None

    def to_grid(
        self, name: str, output: torch.Tensor, height: int, width: int
    ) -> torch.Tensor | None:
        """See `Family.to_grid`: maps with channels first or last, tokens of a usual patch."""
        if output.ndim == 3:
            return tokens_to_grid(output, height, width, None, LEADING)
        return maps_either_way(output, height, width, channels_last=False)


@cache
def _function(name: str) -> Callable[[], Any]:
    place, _, function = name.removeprefix(MODULE).rpartition(":")
    path = module_file(name)
    try:
        if not place:
            raise ValueError(f"write {MODULE}FILE.py:FUNCTION or {MODULE}PACKAGE.MODULE:FUNCTION")
        found = getattr(_loaded(path) if path else importlib.import_module(place), function)
    except Exception as error:  # whatever the user's code does
        raise BackboneError(
            f"backbone {name!r} cannot be had ({type(error).__name__}: {first_line(error)})"
        ) from error
    if not callable(found):
        raise BackboneError(f"backbone {name!r}: {function} is no function")
    return found


def _loaded(path: Path) -> Any:
    """A module from its file; what lies beside it can be imported by it."""
    name = f"dff_network_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def _made(name: str) -> nn.Module:
    """What the function returns."""
    function = _function(name)
    try:
        network = function()
    except Exception as error:  # whatever the user's code does
        raise BackboneError(
            f"backbone {name!r} cannot be built ({type(error).__name__}: {first_line(error)})"
        ) from error
    if not isinstance(network, nn.Module):
        raise BackboneError(
            f"backbone {name!r} returned {type(network).__name__}: "
            "the function must return a torch.nn.Module"
        )
    return network


@cache
def _cfg(name: str) -> Mapping[str, Any]:
    network = _made(name)
    cfg = getattr(network, "pretrained_cfg", None) or {}
    return dict(cfg) if isinstance(cfg, Mapping) else {}
