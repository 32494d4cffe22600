"""Progress of long work, on standard error: a bar on a terminal, plain lines otherwise."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY = 10.0  # seconds between plain lines
TOLD_EVERY = 1.0  # seconds between checkpoints of image sets, of which there may be thousands


def note(line: str) -> None:
    """One line that a person should see, on standard error."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def track(label: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show the progress of `total` units; yields ``advance(n)``.

    `done` units were finished by an earlier run: they count, but not towards the rate.
    """
    from rich.console import Console  # here: few that say a line show a bar

    console = Console(stderr=True)
    shown = _bar if console.is_terminal else _plain_lines
    with shown(label, total, unit, done) as advance:
        yield advance


@contextmanager
def _bar(label: str, total: int, unit: str, done: int) -> Iterator[Callable[[int], None]]:
    from stages.frame.progress_bar import make_bar

    with make_bar(unit) as progress:
        task = progress.add_task(label, total=total, completed=done)

        def advance(n: int = 1) -> None:
            progress.advance(task, n)

        yield advance


@contextmanager
def _plain_lines(label: str, total: int, unit: str, done: int) -> Iterator[Callable[[int], None]]:
    began = spoke = time.monotonic()
    count = done
    first: tuple[int, float] | None = None

    def advance(n: int = 1) -> None:
        nonlocal count, spoke, first
        count += n
        now = time.monotonic()
        # what comes before the first, as compiling, is no sign of how long the others take
        first = first or (count, now)
        if now - spoke >= LINE_EVERY:
            spoke = now
            rate = (count - first[0]) / max(now - first[1], 1e-9)
            left = f", {rate:.1f}/s, {(total - count) / rate:.0f} s left" if rate > 0 else ""
            print(f"{label}: {count}/{total} {unit}{left}", file=sys.stderr)

    yield advance
    seconds = time.monotonic() - began
    resumed = f" ({done} from an earlier run)" if done else ""
    counted = unit.removesuffix("s") if count == 1 else unit
    print(f"{label}: {count} {counted} in {seconds:.1f} s{resumed}", file=sys.stderr, flush=True)
