"""Functions that worker processes can import by name."""

import time


def slow_square(number: int) -> int:
    """Later items finish earlier."""
    time.sleep(0.01 * (5 - number % 5))
    return number * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number
