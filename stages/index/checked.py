"""The images of a collection as they are found good or not: columns, never an object for each."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.artifacts.image_index import contents_digest
from stages.datasets import FoundImage, LeftOut

if TYPE_CHECKING:
    import pandas as pd

SHA256 = 32  # bytes
BLOCK = 1 << 16  # images whose rows are put together before they are stored
FAILURE_COLUMNS = ["name", "reason", "kind"]


@dataclass(frozen=True, slots=True)
class Checked:
    """One image file after the check: its facts, or the reason it cannot be used."""

    found: FoundImage
    reason: str = ""
    height: int = 0
    width: int = 0
    size: int = 0
    sha256: str = ""
    annotation_sha256: str = ""


@dataclass
class Found:
    """All images so far, in order.

    Attributes
    ----------
    good : list of FoundImage
        Their numbers in it are their image ids.
    failed : list of (name, reason)
    annotations : dict of image id to digest
        Of those with an annotation.
    """

    good: list[FoundImage] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    annotations: dict[int, str] = field(default_factory=dict)
    _numbers: array[int] = field(default_factory=lambda: array("q"))  # height, width, bytes
    _digests: bytearray = field(default_factory=bytearray)

    def add(self, one: Checked) -> None:
        """Take the next image."""
        if one.reason:
            self.failed.append((one.found.name, one.reason))
            return
        if one.annotation_sha256:
            self.annotations[len(self.good)] = one.annotation_sha256
        self.good.append(one.found)
        self._numbers.extend((one.height, one.width, one.size))
        self._digests += bytes.fromhex(one.sha256)

    @property
    def total(self) -> int:
        """Images that were looked at."""
        return len(self.good) + len(self.failed)

    def annotated(self) -> Iterator[tuple[tuple[str, ...], bool]]:
        """(sets, whether it has an annotation) of every good image."""
        for number, one in enumerate(self.good):
            yield one.sets, number in self.annotations

    def members(self) -> dict[str, list[int]]:
        """Image ids of each set, ascending; the sets by name."""
        found: dict[str, list[int]] = {}
        for number, one in enumerate(self.good):
            for name in one.sets:
                found.setdefault(name, []).append(number)
        return {name: found[name] for name in sorted(found)}

    def contents(self, members: dict[str, list[int]]) -> str:
        """See `ImageIndex.contents`."""
        named = ((one.name, self._sha256(number)) for number, one in enumerate(self.good))
        return contents_digest(named, members)

    def _sha256(self, number: int) -> str:
        return self._digests[number * SHA256 : (number + 1) * SHA256].hex()

    def write(
        self, folder: Path, members: dict[str, list[int]], left_out: Sequence[LeftOut]
    ) -> None:
        """Store the tables of the artifact, some ten thousand rows at a time."""
        import pandas as pd  # here: all else of the index is known without tables

        _write(folder / "images.parquet", self._images())
        _write(folder / "sets.parquet", _sets(members))
        reasons = [(name, reason, "image") for name, reason in self.failed]
        reasons += [(one.name, one.reason, one.kind) for one in left_out]
        pd.DataFrame(reasons, columns=FAILURE_COLUMNS).to_parquet(folder / "failures.parquet")

    def _images(self) -> Iterator[pd.DataFrame]:
        import pandas as pd

        numbers = np.frombuffer(self._numbers, np.int64).reshape(-1, 3)
        for start in range(0, max(1, len(self.good)), BLOCK):
            some = range(start, min(start + BLOCK, len(self.good)))
            height, width, size = numbers[some.start : some.stop].T
            yield pd.DataFrame(
                {
                    "name": pd.Series([self.good[i].name for i in some], dtype="str"),
                    "height": height,
                    "width": width,
                    "bytes": size,
                    "sha256": pd.Series([self._sha256(i) for i in some], dtype="str"),
                    "annotation_sha256": pd.Series(
                        [self.annotations.get(i, "") for i in some], dtype="str"
                    ),
                }
            )


def _sets(members: dict[str, list[int]]) -> Iterator[pd.DataFrame]:
    """Rows of the sets one after the other; an empty table where there are none."""
    import pandas as pd

    for name, ids in members.items() or [("", list[int]())]:
        named = pd.Series([name] * len(ids), dtype="str")
        yield pd.DataFrame({"set": named, "image_id": np.array(ids, np.int64)})


def _write(path: Path, frames: Iterator[pd.DataFrame]) -> None:
    """Frames as the row groups of one Parquet file."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    first = pa.Table.from_pandas(next(frames), preserve_index=False)
    with ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for frame in frames:
            writer.write_table(pa.Table.from_pandas(frame, first.schema, preserve_index=False))
