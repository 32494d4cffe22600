import os

import pytest

from stages.algorithms.cores import cores


def test_as_many_as_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    assert cores() == 3


@pytest.mark.parametrize("count, expected", [(8, 8), (None, 1)])
def test_systems_without_affinity(monkeypatch, count, expected):
    """macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert cores() == expected
