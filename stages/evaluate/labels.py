"""labels.yaml: what a person, or `dff label --auto`, says the factors show.

::

    layer: conv5_4              # whose factors these are; without it the first layer
    seed: 0                     # the same; without it the first seed
    factors: 5f0c2a...          # fingerprint of factors.zarr; other factors are refused
    seen:                       # images that were looked at: they do not count in the scores
      horse: [JPEGImages/2008_000008.jpg]
    sets:
      horse:
        3: [head, neck+torso, leg]        # by k, one entry per factor, strongest first

An entry is the name of an annotated part, ``object`` or ``background``, a list of names (their
union, eq. 8), or null for a factor nobody could name. Everything but ``sets`` may be left out.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from stages.frame.errors import StageError
from stages.frame.params import suggestion
from store import Artifact

Names = tuple[str, ...]  # of one factor; empty when nobody named it
KEYS = ("layer", "seed", "factors", "seen", "sets")


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
    """

    path: Path
    layer: str | None = None
    seed: int | None = None
    factors: str | None = None
    seen: Mapping[str, frozenset[str]] = field(default_factory=dict)
    sets: Mapping[str, Mapping[int, tuple[Names, ...]]] = field(default_factory=dict)

    def check(self, factors: Artifact) -> "Labels":
        """These labels with layer and seed filled in, if they are of these factors.

        Raises
        ------
        StageError
            When they name a layer, seed, image set, k or image that is not there, or other factors.
        """
        if not self.sets:
            return self
        if self.factors not in (None, factors.fingerprint):
            self.refuse(
                "was written for other factors (params or photographs changed since); label them "
                "again, or take out the line `factors:` if the names still hold"
            )
        problems = [(int(k), int(seed)) for k, seed in factors.attrs["problems"]]
        layer = self.layer if self.layer is not None else factors.layers[0]
        seed = self.seed if self.seed is not None else problems[0][1]
        self._known("layer", layer, factors.layers)
        self._known("seed", str(seed), [str(s) for _, s in problems])
        for name, by_k in self.sets.items():
            self._known("image set", name, list(factors.sets))
            for k in by_k:
                self._known("k", str(k), [str(k) for k, _ in problems])
        for name, images in self.seen.items():
            self._known("image set", name, list(factors.sets))
            ids = factors.ragged(layer).image_ids[factors.sets[name]]
            members = [factors.images[int(i)] for i in ids]
            for image in images:
                self._known(f"seen.{name}: image", image, members)
        return Labels(self.path, layer, seed, self.factors, self.seen, self.sets)

    def _known(self, what: str, value: str, known: Sequence[str]) -> None:
        if value not in known:
            self.refuse(f"{what} {value!r}: not factorized; {suggestion(value, known)}")

    def of(self, layer: str, image_set: str, k: int, seed: int) -> tuple[Names, ...] | None:
        """The names of a factorization's factors; None where coverage decides."""
        if (layer, seed) != (self.layer, self.seed):
            return None
        return self.sets.get(image_set, {}).get(k)

    def check_parts(self, image_set: str, scored: Collection[str], seen: Collection[str]) -> None:
        """Refuse names that are annotated on no image of the set, scored or seen.

        Raises
        ------
        StageError
        """
        annotated = {*scored, *seen}
        for k, factors in self.sets.get(image_set, {}).items():
            for name in {name for names in factors for name in names}:
                if name not in annotated:
                    self.refuse(
                        f"sets.{image_set}.{k}: {name!r} is annotated on none of its images; "
                        f"{suggestion(name, sorted(annotated))}"
                    )

    def refuse(self, why: str) -> NoReturn:
        """Raise a StageError that begins with the file."""
        raise StageError(f"{self.path}: {why}")


def read_labels(path: Path) -> Labels:
    """Read a labels file; without one, or with nothing in it, no factor is labelled.

    Raises
    ------
    StageError
        When it is not of the form above.
    """
    none = Labels(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return none
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        none.refuse(f"cannot be read ({reason})")
    if content is None:
        return none
    if not isinstance(content, dict) or not set(content) <= set(KEYS):
        none.refuse(f"must have the keys {', '.join(KEYS)} and no others")
    layer, seed, factors = (content.get(key) for key in KEYS[:3])
    if not isinstance(seed, int | None):
        none.refuse(f"seed: {seed!r} is not a whole number")
    seen, sets = (content.get(key) or {} for key in KEYS[3:])
    for key, value in (("seen", seen), ("sets", sets)):
        if not isinstance(value, dict):
            none.refuse(f"{key}: must have an entry for each image set")
    if not sets:
        return none
    return Labels(
        path,
        None if layer is None else str(layer),
        seed,
        None if factors is None else str(factors),
        {str(name): _seen(none, name, images) for name, images in seen.items()},
        {str(name): _by_k(none, name, by_k) for name, by_k in sets.items()},
    )


def _seen(labels: Labels, name: Any, images: Any) -> frozenset[str]:
    if not isinstance(images, list):
        labels.refuse(f"seen.{name}: must be a list of images")
    return frozenset(str(image) for image in images)


def _by_k(labels: Labels, name: Any, by_k: Any) -> dict[int, tuple[Names, ...]]:
    if not isinstance(by_k, dict):
        labels.refuse(f"sets.{name}: must have a list of names for each k")
    found = {}
    for k, factors in by_k.items():
        where = f"sets.{name}.{k}"
        if not isinstance(k, int) or not isinstance(factors, list) or len(factors) != k:
            labels.refuse(f"{where}: must be a list of {k} names, one per factor (null for none)")
        found[k] = tuple(_names(labels, where, one) for one in factors)
    return found


def _names(labels: Labels, where: str, value: Any) -> Names:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(one, str) and one for one in values):
        labels.refuse(f"{where}: {value!r} is not a name, a list of names or null")
    return tuple(values)
