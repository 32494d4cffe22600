"""Processes that `dff run` starts: what stops it stops them, and it waits for their end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

# What asks a process to stop: Ctrl-C, `kill`, a terminal that is closed.
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

PATIENCE = 60.0  # seconds that a stage may take to stop


def run_child(
    command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Run a command to its end; where it writes is not a result, so its output joins the errors.

    It has a process group of its own, and what asks this process to stop is passed on to all of
    the group: DVC, and the shell between it and a stage, would leave the stage behind.

    Raises
    ------
    KeyboardInterrupt, SystemExit
        When this process was asked to stop; after the command has ended.
    """
    group = 0 if os.name == "posix" else None
    child = subprocess.Popen(command, env=env, cwd=cwd, stdout=sys.stderr, process_group=group)
    with _passed_on(child) as received:
        child.wait()
        if received and group is not None:
            _await_end_of_group(child.pid)
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    if received:
        sys.exit(128 + received[0])
    return child


@contextmanager
def _passed_on(child: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        try:
            if os.name == "posix":
                os.killpg(child.pid, number)
            else:
                child.send_signal(number)
        except ProcessLookupError:
            pass  # it has ended by itself

    # Python hears signals in its first thread alone; a notebook's or a server's may be another
    heard = STOPS if threading.current_thread() is threading.main_thread() else []
    before = {number: signal.signal(number, pass_on) for number in heard}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _await_end_of_group(group: int) -> None:
    """DVC may be gone before the stage that it started has closed its files."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.05)
