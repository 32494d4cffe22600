"""labels.yaml: what a person, or `dff label --auto`, says the factors show.

::

    layer: conv5_4              # whose factors these are; without it the first layer
    seed: 0                     # the same; without it the first seed
    factors: 5f0c2a...          # fingerprint of the factors.zarr that was named
    seen:                       # images that were looked at: they do not count in the scores
      horse: [JPEGImages/2008_000008.jpg]
    sets:
      horse:
        3: [head, neck+torso, leg]        # by k, one entry per factor, strongest first
    directions:                 # rows of W, by which other factors are recognised
      horse:
        3: eJy...
    before:                     # what the names were that a page's were typed over (`merge`)
      horse:
        3: [null, torso, leg]

An entry is a name in any words, a list of names (their union, eq. 8), or null for a factor nobody
could name. A name is what is written, whatever YAML would take it for (``no``, ``7``, ``1e3``);
``null``, ``~`` or nothing is none, and quotes make a name of these, too. Names that are annotated
parts, ``object`` or ``background`` are scored. Everything but ``sets`` may be left out.
"""

import base64
import binascii
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml
from numpy.typing import NDArray

from stages.frame.errors import StageError
from stages.frame.params import suggestion
from stages.frame.written import NoKeyTwice, dumped, problem_of
from store import write_atomically

Names = tuple[str, ...]  # of one factor; empty when nobody named it
Matrix = NDArray[np.float32]
BySet = Mapping[str, Mapping[int, Sequence[Names]]]  # image set -> k -> names of each factor
Directions = Mapping[str, Mapping[int, Matrix]]  # image set -> k -> W, [k, channels]
KEYS = ("layer", "seed", "factors", "seen", "sets", "directions", "before")
SIGNED = "~"  # begins packed rows of W that have values below zero; base64 has no such character
STEPS = 255  # values of a row of W that are told apart: cosines change by less than 1e-3

HEADING = """\
# Names of factors, strongest first, by image set and k: any words; a list is a union, null a factor
# without a name. Names of annotated parts, `object` and `background` are scored. Leave the other
# lines as they are: by them names find their factors again when these change.
"""

EMPTY = """\
# What the factors show, in your words: `dff label` writes a form to fill in. While it is empty,
# coverage decides which parts belong to a factor (eq. 7 of the paper).
"""


class _Plain(NoKeyTwice):
    """Takes scalars as they are written, but for null."""


_Plain.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] == "tag:yaml.org,2002:null"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Labels:
    """What a labels file says.

    Attributes
    ----------
    path : Path
    layer : str or None
    seed : int or None
    factors : str or None
        Fingerprint.
    seen : dict of image set to image names
    sets : dict of image set to {k: names of each factor}
    directions : dict of image set to {k: float32 [k, channels]}
        Unit rows of W of the factors that were named.
    before : dict of image set to {k: names of each factor}
        Of those factorizations of which a page to explore has changed names: what they were in it
        at first. Nothing but `stages.naming.merge` asks for them.
    """

    path: Path
    layer: str | None = None
    seed: int | None = None
    factors: str | None = None
    seen: Mapping[str, frozenset[str]] = field(default_factory=dict)
    sets: BySet = field(default_factory=dict)
    directions: Directions = field(default_factory=dict)
    before: BySet = field(default_factory=dict)

    @property
    def silent(self) -> bool:
        """Whether it says nothing of whose names these are."""
        return self.factors is None and not self.directions

    @property
    def counts(self) -> tuple[int, int]:
        """How many factors have a name, of how many that there is a place for."""
        every = [one for by_k in self.sets.values() for names in by_k.values() for one in names]
        return sum(bool(one) for one in every), len(every)

    def refuse(self, why: str) -> NoReturn:
        """Raise a StageError that begins with the file."""
        raise StageError(f"{self.path}: {why}")


def ensure_labels(path: Path) -> None:
    """Put an empty file where there is none: DVC wants what a stage reads to exist."""
    if not path.exists():
        write_atomically(path, EMPTY.encode())


def read_labels(path: Path) -> Labels:
    """Read a labels file; without one, or with nothing in it, no factor is labelled.

    Raises
    ------
    StageError
        When it is not of the form above.
    """
    none = Labels(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Plain)
    except FileNotFoundError:
        return none
    except yaml.YAMLError as error:
        none.refuse(f"cannot be read ({problem_of(error)})")
    except (OSError, ValueError, RecursionError) as error:
        none.refuse(f"cannot be read ({' '.join(str(error).split())})")
    if content is None:
        return none
    if not isinstance(content, dict):
        none.refuse(f"must have the keys {', '.join(KEYS)} and no others")
    for key in content:
        if key not in KEYS:
            none.refuse(f"{key}: unknown key, {suggestion(str(key), KEYS)}")
    layer, seed, factors = (content.get(key) for key in KEYS[:3])
    seen, sets, directions, before = (_mapping(none, key, content.get(key)) for key in KEYS[3:])
    if not sets:
        return none
    return Labels(
        path,
        None if layer is None else str(layer),
        None if seed is None else _whole(none, "seed", seed),
        None if factors is None else str(factors),
        {str(name): _seen(none, name, images) for name, images in seen.items()},
        {str(name): _by_k(none, "sets", name, by_k) for name, by_k in sets.items()},
        {str(name): _directions(none, name, by_k) for name, by_k in directions.items()},
        {str(name): _by_k(none, "before", name, by_k) for name, by_k in before.items()},
    )


def _mapping(labels: Labels, where: str, value: Any) -> dict[Any, Any]:
    if value is not None and not isinstance(value, dict):
        labels.refuse(f"{where}: must have an entry for each image set")
    return value or {}


def _whole(labels: Labels, where: str, value: Any) -> int:
    try:
        return int(str(value))
    except ValueError:
        labels.refuse(f"{where}: {value!r} is not a whole number")


def _seen(labels: Labels, name: Any, images: Any) -> frozenset[str]:
    if not isinstance(images, list):
        labels.refuse(f"seen.{name}: must be a list of images")
    return frozenset(str(image) for image in images)


def _by_k(labels: Labels, key: str, name: Any, by_k: Any) -> dict[int, tuple[Names, ...]]:
    if not isinstance(by_k, dict):
        labels.refuse(f"{key}.{name}: must have a list of names for each k")
    found = {}
    for written, factors in by_k.items():
        where = f"{key}.{name}.{written}"
        k = _whole(labels, where, written)
        if k in found:
            labels.refuse(f"{where}: {k} stands there twice")
        if not isinstance(factors, list) or len(factors) != k:
            labels.refuse(f"{where}: must be a list of {k} names, one per factor (null for none)")
        found[k] = tuple(_names(labels, where, one) for one in factors)
    return found


def _names(labels: Labels, where: str, value: Any) -> Names:
    values = value if isinstance(value, list) else [value]
    if any(isinstance(one, list | dict | set) for one in values):
        labels.refuse(f"{where}: {value!r} is not a name, a list of names or null")
    names = (clean(str(one)) for one in values if one is not None)
    return tuple(dict.fromkeys(name for name in names if name))


def clean(name: str) -> str:
    """A name on one line; what is no character (half of one, a control code) becomes U+FFFD."""
    told = (" " if c.isspace() else "\ufffd" if _is_none(c) else c for c in name)
    return " ".join("".join(told).split())


def _is_none(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs")


def _directions(labels: Labels, name: Any, by_k: Any) -> dict[int, Matrix]:
    if not isinstance(by_k, dict):
        labels.refuse(f"directions.{name}: must have an entry for each k")
    found = {}
    for written, text in by_k.items():
        where = f"directions.{name}.{written}"
        k = _whole(labels, where, written)
        if k in found:
            labels.refuse(f"{where}: {k} stands there twice")
        try:
            found[k] = unpacked(str(text), k)
        except (ValueError, binascii.Error, zlib.error):
            labels.refuse(f"{where}: is damaged; take it out, and the names of that k are lost")
    return found


def packed(W: NDArray[np.floating]) -> str:
    """Rows of W as text: 8 bits a value, compressed; for `unpacked`.

    Of W with values below zero one bit is the sign, and the text begins with `SIGNED`.
    """
    signed = W.min(initial=0) < 0
    largest = np.maximum(abs(W).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    levels = np.rint(W / largest * (STEPS // 2 if signed else STEPS))
    content = levels.astype(np.int8 if signed else np.uint8).tobytes()
    return (SIGNED if signed else "") + base64.b64encode(zlib.compress(content, 9)).decode()


def unpacked(text: str, k: int) -> Matrix:
    """Unit rows, float32 ``[k, channels]``, of what `packed` wrote.

    Raises
    ------
    ValueError, binascii.Error, zlib.error
        When it did not write that.
    """
    kind = np.int8 if text.startswith(SIGNED) else np.uint8
    content = base64.b64decode(text.removeprefix(SIGNED), validate=True)
    levels = np.frombuffer(zlib.decompress(content), kind)
    rows = levels.reshape(k, -1).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1))


def labels_text(
    layer: str,
    seed: int,
    factors: str,
    named: BySet,
    directions: Directions,
    seen: Mapping[str, Sequence[str]],
) -> str:
    """A labels file with these names; arguments are as the attributes of `Labels`."""
    content: dict[str, Any] = {"layer": layer, "seed": seed, "factors": factors}
    if seen:
        content["seen"] = {name: list(images) for name, images in seen.items()}
    content["sets"] = {
        name: {k: [_plain(names) for names in by_factor] for k, by_factor in by_k.items()}
        for name, by_k in named.items()
    }
    content["directions"] = {
        name: {k: packed(W) for k, W in by_k.items()} for name, by_k in directions.items()
    }
    return HEADING + dumped(content, default_flow_style=None, width=80)


def _plain(names: Names) -> str | list[str] | None:
    return None if not names else names[0] if len(names) == 1 else list(names)
