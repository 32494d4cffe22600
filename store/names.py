"""Image names of an artifact as two arrays: a collection of millions is no attribute.

In JSON the names of two million images are some 70 MB that whoever opens the artifact parses into
200 MB of text; as arrays they are read when one is asked for, at about 35 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

TEXT, ENDS = "images/text", "images/ends"
BLOCK = 1 << 16  # names that are decoded together


class Names(Sequence[str]):
    """Names that are decoded when they are asked for; equal to any sequence of the same.

    Parameters
    ----------
    text : uint8 array
        All names one after the other, as UTF-8.
    ends : int64 array [n]
        Where each ends.
    """

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Those of any strings."""
        if isinstance(names, Names):
            return names
        encoded = [name.encode("utf-8", "surrogatepass") for name in names]
        ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[number] for number in range(len(self))[at]]
        number = range(len(self))[at]  # -1 is the last; too large is an IndexError
        start = int(self.ends[number - 1]) if number else 0
        return _decoded(self.text[start : int(self.ends[number])].tobytes())

    def __iter__(self) -> Iterator[str]:
        start = 0
        for first in range(0, len(self), BLOCK):
            ends = self.ends[first : first + BLOCK].tolist()
            content, base = self.text[start : ends[-1]].tobytes(), start
            for end in ends:
                yield _decoded(content[start - base : end - base])
                start = end

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Names):
            same = np.array_equal(self.ends, other.ends)
            return same and np.array_equal(self.text, other.text)
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        pairs = zip(self, other, strict=False)
        return len(self) == len(other) and all(one == two for one, two in pairs)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(repr(self[i]) for i in range(min(3, len(self))))
        return f"Names([{shown}{', ...' if len(self) > 3 else ''}], {len(self)} names)"


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
