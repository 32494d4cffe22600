"""The door to a cluster, with processes on this machine that are killed, slow, full or others."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from arithmetic import (
    die,
    die_once,
    fail_at_three,
    fill_memory,
    process_number,
    slow_in,
    slow_square,
    square_of_late,
)
from clusters import cluster_here
from stages.frame.cluster import Cluster, clustered, local_cluster, work
from stages.frame.errors import StageError

pytestmark = pytest.mark.xdist_group("cluster")
SQUARES = [number * number for number in range(40)]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    import distributed  # noqa: F401  # its settings must be there before one is set
    from dask import config

    # a task that kills its worker is given up after the second, not the fourth
    with (
        config.set({"distributed.scheduler.allowed-failures": 1}),
        local_cluster("local:2", 2**30) as found,
    ):
        yield found


@pytest.fixture
def cluster(address: str) -> Iterator[Cluster]:
    with clustered(address) as found:
        assert found
        found.client.wait_for_workers(2, timeout=60)
        yield found


def test_work_is_shared_out(cluster: Cluster) -> None:
    assert cluster.slots == 2
    assert len(set(cluster.mapped(process_number, range(40)))) == 2
    assert sum(one.tasks for one in cluster.workers.values()) > 2


def test_a_task_may_need_others_and_shared_values(cluster: Cluster) -> None:
    shared = cluster.shared([1, 2, 3])
    one = cluster.submit(sum, shared, label="test: a sum")
    other = cluster.submit(max, one, 4, label="test: the larger")
    assert cluster.result(other) == 6
    failed = cluster.submit(fail_at_three, 3, label="test: fails")
    after = cluster.submit(max, failed, 1, label="test: after it")
    with pytest.raises(ValueError, match="three"):
        cluster.result(after)


def test_a_store_that_fails_once_is_asked_again(cluster: Cluster, tmp_path: Path) -> None:
    late = partial(square_of_late, tmp_path / "asked")
    assert list(cluster.mapped(late, range(3))) == SQUARES[:3]


def test_a_slow_worker_is_given_less(cluster: Cluster) -> None:
    pids = sorted(set(cluster.mapped(process_number, range(40))))
    began = time.monotonic()
    tasks = [
        cluster.submit(slow_in, pids[:1], number, label=f"test: item {number}")
        for number in range(40)
    ]
    found = list(cluster.results(tasks, limit=40))
    assert [square for square, _ in found] == SQUARES
    by_slow = sum(pid == pids[0] for _, pid in found)
    assert by_slow < 20 and time.monotonic() - began < 40 * 0.5 / 2


def test_a_worker_with_other_code_is_refused(cluster: Cluster) -> None:
    cluster.code = "0" * 64
    with pytest.raises(StageError, match=r"worker tcp.* another version of this program"):
        list(cluster.mapped(slow_square, range(4)))


def test_a_worker_that_is_lost_loses_its_task_alone(cluster: Cluster, tmp_path: Path) -> None:
    assert list(cluster.mapped(partial(die_once, tmp_path / "died"), range(40))) == SQUARES
    assert (tmp_path / "died").exists()


def test_what_kills_every_worker_is_given_up(cluster: Cluster) -> None:
    with pytest.raises(StageError, match=r"died again and again .*'test: items 0 to 1'"):
        list(cluster.mapped(die, range(4), label="test"))


def test_a_worker_that_runs_out_of_memory_is_told_of(cluster: Cluster) -> None:
    with pytest.raises(StageError, match="dask worker --memory-limit"):
        list(cluster.mapped(fill_memory, range(1), label="test"))


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for_port(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)


def scheduler(port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    place = ["--port", str(port), "--host", "127.0.0.1"]
    return subprocess.Popen([*command, *place], stderr=subprocess.DEVNULL)


def test_what_dask_says_when_it_closes_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import Client

    closed = list[bool]()

    class Failing(Client):
        def close(self, *some: Any, **more: Any) -> Any:
            found = super().close(*some, **more)
            if not closed:
                closed.append(True)
                raise RuntimeError("cannot change state")
            return found

    with cluster_here(1) as address:
        monkeypatch.setattr("distributed.Client", Failing)
        with pytest.raises(StageError, match="what is meant"), clustered(address, workers=1):
            raise StageError("what is meant")
    assert closed


def test_a_scheduler_that_is_gone_is_told_of(
    unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "WORKERLESS", 2.0)
    monkeypatch.setattr(work, "COUNT_EVERY", 0.2)
    process = scheduler(unused_port)
    wait_for_port(unused_port)
    address = f"tcp://127.0.0.1:{unused_port}"
    try:
        with clustered(address, workers=0) as cluster:
            assert cluster
            with pytest.raises(StageError, match="no workers are left; the work so far is kept"):
                list(cluster.mapped(slow_square, range(4)))
            process.kill()
            with pytest.raises(StageError, match="the scheduler is gone; the work so far is kept"):
                list(cluster.mapped(slow_square, range(4)))
    finally:
        process.kill()
        process.wait()
    with (
        pytest.raises(StageError, match="no workers"),
        cluster_here(0) as empty,
    ):
        monkeypatch.setattr("stages.frame.cluster.start.PATIENCE", 1)
        with clustered(empty):
            pass
