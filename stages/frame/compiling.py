"""Saying that loops are being compiled: on a new machine nothing else happens for seconds."""

from collections.abc import Iterator
from contextlib import contextmanager

from stages.frame.progress import note


@contextmanager
def told_of_compiling() -> Iterator[None]:
    """Note once when Numba compiles a function that it has not kept from an earlier run."""
    from numba.core import event  # here: some stages have no loops of their own

    class Teller(event.Listener):
        told = False

        def on_start(self, event: object) -> None:
            if not self.told:
                self.told = True
                note("compiling loops for this processor; they are kept, later runs do not wait")

        def on_end(self, event: object) -> None:
            pass

    with event.install_listener("numba:compile", Teller()):
        yield
