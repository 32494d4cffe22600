"""Functions that worker processes can import by name."""

import os
import signal
import time
from pathlib import Path


def slow_square(number: int) -> int:
    """Later items finish earlier."""
    time.sleep(0.01 * (5 - number % 5))
    return number * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def square_of_late(path: Path, number: int) -> int:
    """The first time its store does not answer."""
    if not path.exists():
        path.touch()
        raise OSError("did not answer")
    return number * number


def die(number: int) -> int:
    """As a process that the kernel kills for its memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_once(path: Path, number: int) -> int:
    """One process is lost in the middle of its work, whichever it is."""
    if number == 20 and not path.exists():
        path.touch()
        die(number)
    return number * number


def fill_memory(number: int) -> int:
    """Takes memory until it is stopped."""
    held = []
    while True:
        held.append(bytearray(os.urandom(2**10) * 2**13))
        time.sleep(0.01)


def slow_in(pids: list[int], number: int) -> tuple[int, int]:
    """Some processes take fifty times as long."""
    time.sleep(0.5 if os.getpid() in pids else 0.01)
    return number * number, os.getpid()


def process_number(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()
