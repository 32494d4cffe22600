"""ordered_map: one conformance suite over threads, processes and a dask cluster."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from arithmetic import fail_at_three, slow_square
from stages.frame.errors import StageError
from stages.frame.parallel import Kind, ordered_map


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    from distributed import LocalCluster

    # port 0: another process of this test run may have a cluster, too
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as local:
        yield local.scheduler_address


@pytest.fixture(params=["threads", "processes", "cluster"])
def mapped(request: pytest.FixtureRequest) -> Callable[..., Iterator[Any]]:
    """`ordered_map` over one kind of workers."""

    def call(function: Callable[[int], Any], items: Any) -> Iterator[Any]:
        if request.param == "cluster":
            return ordered_map(function, items, cluster=request.getfixturevalue("cluster"))
        return ordered_map(function, items, workers=2, kind=request.param)

    return call


def test_results_come_in_order(mapped: Callable[..., Iterator[Any]]) -> None:
    assert list(mapped(slow_square, range(12))) == [n * n for n in range(12)]
    assert list(mapped(slow_square, [])) == []


def test_an_exception_comes_at_its_place(mapped: Callable[..., Iterator[Any]]) -> None:
    results = mapped(fail_at_three, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_leaving_early_waits_for_no_more_than_what_runs(kind: Kind) -> None:
    """With work queued behind it, as after Ctrl-C; a pool of processes must not hang."""
    for _ in range(5):
        results = ordered_map(slow_square, range(50), workers=2, ahead=20, kind=kind)
        assert next(results) == 0
        began = time.monotonic()
        results.close()
        assert time.monotonic() - began < 5, "40 are queued; all of them would take longer"


def test_a_cluster_that_is_not_there() -> None:
    with pytest.raises(StageError, match="no dask scheduler answers"):
        next(ordered_map(slow_square, [1], cluster="foo bar"))


def test_the_work_ahead_is_bounded() -> None:
    started = 0
    lock = threading.Lock()

    def count(number: int) -> int:
        nonlocal started
        with lock:
            started += 1
        return number

    results = ordered_map(count, range(1000), workers=2, ahead=3)
    assert next(results) == 0
    time.sleep(0.1)
    assert started <= 8
    results.close()
