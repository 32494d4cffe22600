"""What tests of stages that are killed share."""

from collections.abc import Iterator

import pytest

from killable import Killable


@pytest.fixture(scope="session")
def killable() -> Iterator[Killable]:
    with Killable() as server:
        yield server
