"""Image files that an earlier index has checked: the same content need not be decoded again.

Which content a file has is known from its digest, which is remembered with its size, time and inode
(`stages.index.digests`): such a file is not read at all. ``dff index --no-reuse`` reads them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import PIL

from stages.artifacts.tables import read_table
from stages.frame.code import code_digest
from stages.frame.fingerprint import digest
from store import Staging, StoreError
from store.artifact import read_attrs
from store.kept import kept_copies

Facts = tuple[int, int, int, str]  # height, width, bytes, SHA-256


def recipe() -> str:
    """What decides whether an image can be used, and its size, besides its file."""
    return digest(code_digest("stages.images.decode"), PIL.__version__)


@dataclass(frozen=True)
class Known:
    """What is known of files without reading them.

    Attributes
    ----------
    digests : mapping of path to the digest of its content
    checked : mapping of SHA-256 to height, width and bytes
        Of all that an earlier index could use.
    """

    digests: Mapping[Path, str]
    checked: Mapping[str, tuple[int, int, int]]

    @classmethod
    def none(cls) -> "Known":
        """Nothing."""
        return cls({}, {})

    def facts(self, path: Path) -> Facts | None:
        """What a check of an image file would find; None where it must be made."""
        content = self.digests.get(path, "")
        found = self.checked.get(content)
        return (*found, content) if found else None


def checked_before(work: Staging) -> dict[str, tuple[int, int, int]]:
    """Images of the last index by the same recipe, published or kept; see `Known.checked`."""
    wanted = recipe()
    published = (path for path, progress in work.earlier() if progress is None)
    for path in chain(published, (copy.artifact for copy in kept_copies(work.out))):
        try:
            if (read_attrs(path) or {}).get("recipe") != wanted:
                continue
            images = read_table(path / "images.parquet")
        except (StoreError, OSError, ValueError):
            continue  # absent, of another layout, or damaged
        facts = zip(*(images[name].tolist() for name in ("height", "width", "bytes")), strict=True)
        return dict(zip(images["sha256"].tolist(), facts, strict=True))
    return {}
