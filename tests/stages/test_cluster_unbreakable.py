"""Processes of a cluster that are killed at random instants: nothing is lost, nothing is wrong."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from typer.testing import Result

from pipeline.registry import BY_NAME
from stages.frame.cluster import local_cluster
from store import Layout
from tools import copied, movable_project, run_in_process

pytestmark = pytest.mark.xdist_group("cluster_unbreakable")

Dff = Callable[..., Result]
ROOT = Path(__file__).parents[2]
# `make soak` asks for more
KILLS = int(os.environ.get("DFF_CLUSTER_KILLS", "1"))
STAGES = ("extract", "factorize", "heatmaps", "refine")
# Workers of the others are killed in test_extract_on_cluster.py and test_factorize_spread.py.
KILLED = STAGES if KILLS > 1 else ("refine",)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages were run without a cluster, by many small shards and units."""
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        project = movable_project(tmp_path_factory.mktemp("alone"))
        run_in_process(project, "index", *STAGES)
    return project


def small(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("stages.extract.stage.plan_layout", lambda *_, **__: Layout(30, 120))
    patch.setattr("stages.extract.spread.RANGE_IMAGES", 3)


@contextmanager
def cluster_of_two() -> Iterator[str]:
    """The address of two new processes: a nanny may give up on one that is killed as it comes."""
    import distributed  # noqa: F401  # its settings must be there before one is set
    from dask import config

    # as often as one likes: what is killed here is not to blame for it
    with (
        config.set({"distributed.scheduler.allowed-failures": 1000}),
        local_cluster("local:2", 4 * 2**30) as found,
    ):
        yield found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@contextmanager
def killing(address: str, seconds: float, rng: random.Random) -> Iterator[list[int]]:
    """Kill one worker after the other, each after a random time, while the block runs.

    One that has just come is left alone for a second.
    """
    from distributed import Client

    killed: list[int] = []
    seen: dict[int, float] = {}
    over = threading.Event()

    def kill(client: Client) -> None:
        while not over.wait(rng.uniform(0.0, seconds)):
            with suppress(Exception):  # none may be there just now
                now = time.monotonic()
                for pid in client.run(os.getpid, on_error="ignore").values():
                    seen.setdefault(pid, now)
                there = [pid for pid, since in seen.items() if now - since > 1]
                os.kill(pid := rng.choice(there), signal.SIGKILL)
                killed.append(pid)
                del seen[pid]
            if len(killed) >= KILLS:
                return

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=120)
        time.sleep(1)
        seen |= dict.fromkeys(client.run(os.getpid).values(), 0.0)
        thread = threading.Thread(target=kill, args=(client,))
        thread.start()
        try:
            yield killed
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("stage", KILLED)
def test_workers_that_are_killed(
    alone: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    project = copied(alone, tmp_path)
    out = project / BY_NAME[stage].writes
    expected, rng = contents(out), random.Random(stage)
    shutil.rmtree(out)
    with cluster_of_two() as address:
        began = time.monotonic()
        run_in_process_on(project, stage, address)
        duration, killed = time.monotonic() - began, 0
    for _ in range(20 * KILLS):  # until all of them met a run
        shutil.rmtree(out)
        with cluster_of_two() as address, killing(address, duration, rng) as pids:
            run_in_process_on(project, stage, address)
        assert contents(out) == expected
        killed += len(pids)
        if killed >= KILLS:
            break
    assert killed >= KILLS


def run_in_process_on(project: Path, stage: str, address: str) -> None:
    from tools import run_dff

    result = run_dff(stage, "--project", str(project), "--cluster", address)
    assert result.exit_code == 0, (result.output, result.exception)


def test_a_client_that_is_killed_and_run_again(alone: Path, tmp_path: Path) -> None:
    """At a random instant, as often; the last time on this machine alone."""
    project = copied(alone, tmp_path)
    out, rng = project / BY_NAME["extract"].writes, random.Random(0)
    shutil.rmtree(out)
    run_in_process(project, "extract")
    expected = contents(out)
    shutil.rmtree(out)
    command = [sys.executable, "-m", "pipeline", "extract", "--project", str(project)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with cluster_of_two() as address:
        for _ in range(KILLS):
            with subprocess.Popen(
                [*command, "--cluster", address], env=env, stderr=subprocess.PIPE
            ) as child:
                assert child.stderr
                while b"workers with" not in child.stderr.readline():  # now it works
                    assert child.poll() is None
                with suppress(subprocess.TimeoutExpired):
                    child.wait(rng.uniform(0.0, 3.0))
                child.kill()
    run_in_process(project, "extract")
    assert contents(out) == expected
