"""What all artifacts of arrays have: layers, images, image sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from store import Artifact, open_artifact


@dataclass(frozen=True)
class Layered:
    """An artifact of arrays by layer, open for reading."""

    artifact: Artifact

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a published artifact; errors as `store.open_artifact`."""
        return cls(open_artifact(path))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the stage, its version, its params and its inputs."""
        return self.artifact.fingerprint

    @property
    def layers(self) -> list[str]:
        """Tapped layers, as the params name them."""
        return self.artifact.layers

    @property
    def images(self) -> Sequence[str]:
        """Image names by image id."""
        return self.artifact.images

    @property
    def sets(self) -> dict[str, NDArray[np.int64]]:
        """Each image set's entries in the ragged arrays."""
        return self.artifact.sets


def contents_of(artifact: Artifact) -> str | None:
    """Digest of the images it was made from; see `ImageIndex.contents`."""
    found = artifact.attrs.get("contents")
    return None if found is None else str(found)
