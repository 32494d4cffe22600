"""ordered_map: one conformance suite over threads, processes and a cluster; --cluster."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from arithmetic import fail_at_three, slow_square
from clusters import cluster_here
from pipeline.registry import BY_NAME, STAGES
from stages.frame.cluster import Cluster, check_cluster, clustered
from stages.frame.cluster import start as door
from stages.frame.errors import StageError
from stages.frame.parallel import Kind, note_unused, ordered_map
from stages.frame.resources import Resources
from tools import message

pytestmark = pytest.mark.xdist_group("cluster")  # one worker starts it


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with cluster_here(1, threads=2) as found:
        yield found


@pytest.fixture
def spread(cluster: str) -> Iterator[Cluster]:
    with clustered(cluster) as found:
        assert found
        yield found


@pytest.fixture(params=["threads", "processes", "cluster"])
def mapped(request: pytest.FixtureRequest) -> Callable[..., Iterator[Any]]:
    """`ordered_map` over one kind of workers."""

    def call(function: Callable[[int], Any], items: Any) -> Iterator[Any]:
        if request.param == "cluster":
            return ordered_map(function, items, cluster=request.getfixturevalue("spread"))
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
    with (
        pytest.raises(StageError, match="no dask scheduler answers"),
        clustered("foo bar"),
    ):
        pass


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


# -- --cluster -----------------------------------------------------------------------------------


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of this machine where nothing listens, and little patience with it."""
    monkeypatch.setattr(door, "PATIENCE", 1)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{one.getsockname()[1]}"


@pytest.fixture
def stranger() -> Iterator[str]:
    """An address where another program answers, once."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_scheduler_that_is_there_is_found(cluster: str) -> None:
    check_cluster(cluster)


def test_a_worker_is_no_scheduler(cluster: str) -> None:
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        (worker,) = client.scheduler_info()["workers"]
        with pytest.raises(StageError, match="this is a worker"):
            check_cluster(worker)


def test_an_address_where_nothing_listens(nobody: str) -> None:
    began = time.monotonic()
    with pytest.raises(StageError, match=f"--cluster {nobody}: no dask scheduler answers"):
        check_cluster(nobody)
    assert time.monotonic() - began < 5


def test_an_address_where_another_program_answers(stranger: str) -> None:
    with pytest.raises(StageError, match=f"--cluster {stranger}: no dask scheduler answers"):
        check_cluster(stranger)


@pytest.mark.parametrize("address", ["foo bar", "localhost", "http://127.0.0.1:1"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(StageError, match=f"--cluster {address}: .*run without --cluster"):
        check_cluster(address)


@pytest.mark.parametrize("command", ["run", "index", "refine"])
def test_a_cluster_is_looked_for_before_any_stage_works(
    command: str, project: Path, dff: Callable[..., Result], nobody: str
) -> None:
    line = message(dff(command, "--cluster", nobody))
    assert line.startswith(f"--cluster {nobody}: no dask scheduler answers")
    assert not (project / "artifacts").exists()


def test_local_processes_need_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "PATIENCE", 1)
    check_cluster("local")
    check_cluster("local:2")
    with pytest.raises(StageError, match="--cluster local:0: no dask scheduler answers"):
        check_cluster("local:0")


def test_only_explaining_works_alone(capsys: pytest.CaptureFixture[str]) -> None:
    given = Resources(cluster="tcp://192.0.2.1:8786")
    note_unused(BY_NAME["refine"], given)
    note_unused(BY_NAME["explain"], Resources())
    assert capsys.readouterr().err == ""
    note_unused(BY_NAME["explain"], given)
    assert capsys.readouterr().err.startswith("explain: works on this machine alone")
    assert [stage.name for stage in STAGES if not stage.clustered] == ["explain"]
