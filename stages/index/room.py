"""Memory that threads share: who needs more than is left waits for the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Room:
    """So many bytes, for any number of threads.

    Attributes
    ----------
    size : int
        Bytes there are.
    most : int
        The most that were taken at once.
    """

    def __init__(self, size: int) -> None:
        self.size, self.most = size, 0
        self._taken = 0
        self._freed = Condition()

    def __reduce__(self) -> tuple[type["Room"], tuple[int]]:
        return Room, (self.size,)  # another process has its own memory

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Wait until so many bytes are free and hold them inside; at most `self.size`."""
        assert size <= self.size, "would wait for ever"
        with self._freed:
            self._freed.wait_for(lambda: self._taken + size <= self.size)
            self._taken += size
            self.most = max(self.most, self._taken)
        try:
            yield
        finally:
            with self._freed:
                self._taken -= size
                self._freed.notify_all()
