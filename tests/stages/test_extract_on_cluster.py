"""extract on a cluster: the bytes of one machine, however many workers, and whoever is lost."""

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from moto.server import ThreadedMotoServer
from typer.testing import Result

from clusters import cluster_here
from stages.algorithms.backbone.graph import build
from stages.extract import spread
from stages.extract.outputs import BeyondFloat16
from stages.extract.stream import Stream
from stages.frame.cluster import Cluster, clustered, local_cluster
from store import Layout, open_artifact
from tools import ROOT, draw, edit, interrupted_at, message

Dff = Callable[..., Result]
LAYERS = ("features.5", "features.2")
pytestmark = [
    pytest.mark.xdist_group("extract_on_cluster"),
    # connections that are left to the garbage collector
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]
BUCKETS = count()


@pytest.fixture(scope="module")
def clusters() -> Iterator[Callable[[int], str]]:
    """The address of a cluster in this process, by its number of workers."""
    found: dict[int, str] = {}
    with ExitStack() as stack:

        def of(workers: int) -> str:
            if workers not in found:
                found[workers] = stack.enter_context(cluster_here(workers))
            return found[workers]

        yield of


@pytest.fixture
def two_layers(project: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with small shards, other ones of each layer; its index is made."""

    def layout(rows: int, row_bytes: int, **_: Any) -> Layout:
        return Layout(30, 120) if row_bytes == 2 * 128 else Layout(100, 500)

    monkeypatch.setattr("stages.extract.stage.plan_layout", layout)
    monkeypatch.setattr(spread, "RANGE_IMAGES", 3)
    edit(project, "layers: [features.5]", f"layers: [{', '.join(LAYERS)}]")
    assert dff("index").exit_code == 0
    return project


def artifact(project: Path) -> Path:
    return project / "artifacts/activations.zarr"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def extracted(project: Path, dff: Dff, *options: str) -> dict[str, bytes]:
    """The files of an extraction from nothing."""
    shutil.rmtree(artifact(project), ignore_errors=True)
    result = dff("extract", *options)
    assert result.exit_code == 0, (result.stderr, result.exception)
    return contents(artifact(project))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_files_are_those_of_one_machine(
    two_layers: Path, dff: Dff, clusters: Callable[[int], str], workers: int
) -> None:
    expected = extracted(two_layers, dff)
    shards = [[f for f in expected if f"layers/{layer}/maps/values/c/" in f] for layer in LAYERS]
    assert [len(one) for one in shards] == [6, 7], "shards of other limits"
    result = dff("extract", "--cluster", clusters(workers), "--no-reuse")
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert contents(artifact(two_layers)) == expected
    assert f"extract: on {workers} worker" in result.stderr
    assert "extract: 14 images in" in result.stderr


def test_sizes_and_sets_and_shapes_of_all_kinds(
    two_layers: Path, dff: Dff, clusters: Callable[[int], str]
) -> None:
    edit(two_layers, "resize: squash", "resize: long_side")
    edit(two_layers, "size: 64", "size: [48, 64]")
    expected = extracted(two_layers, dff)
    assert extracted(two_layers, dff, "--cluster", clusters(2), "--no-reuse") == expected


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the network saw, by call."""
    seen: list[int] = []
    call = Stream._compute

    def counted(self: Any, job: Any) -> Any:
        seen.append(len(job.batch))
        return call(self, job)

    monkeypatch.setattr(Stream, "_compute", counted)
    return seen


def test_known_rows_are_copied_by_the_workers(
    two_layers: Path, photographs: Path, dff: Dff, clusters: Callable[[int], str], passes: list[int]
) -> None:
    assert dff("extract").exit_code == 0
    (photographs / "images/discs/4.png").unlink()
    draw(photographs / "images/discs/0a.png", seed=99)
    assert dff("index").exit_code == 0
    passes.clear()
    result = dff("extract", "--cluster", clusters(2))
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert sum(passes) == 1, "the others are known"
    found = contents(artifact(two_layers))
    assert found == extracted(two_layers, dff, "--no-reuse")


@pytest.mark.parametrize("ended", ["here", "on a cluster"])
def test_begun_on_a_cluster_and_interrupted(
    two_layers: Path, dff: Dff, clusters: Callable[[int], str], ended: str, passes: list[int]
) -> None:
    expected = extracted(two_layers, dff)
    shutil.rmtree(artifact(two_layers))
    passes.clear()
    with interrupted_at(6):
        assert dff("extract", "--cluster", clusters(2)).exit_code == 130
    assert not artifact(two_layers).exists()
    passes.clear()
    options = ("--cluster", clusters(3)) if ended == "on a cluster" else ()
    result = dff("extract", *options)
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert "from an earlier run" in result.stderr and 0 < sum(passes) < 14
    assert contents(artifact(two_layers)) == expected


def test_begun_here_and_ended_on_a_cluster(
    two_layers: Path, dff: Dff, clusters: Callable[[int], str], passes: list[int]
) -> None:
    expected = extracted(two_layers, dff)
    shutil.rmtree(artifact(two_layers))
    with interrupted_at(6):
        assert dff("extract").exit_code == 130
    passes.clear()
    assert dff("extract", "--cluster", clusters(2)).exit_code == 0
    assert 0 < sum(passes) < 14
    assert contents(artifact(two_layers)) == expected


def test_a_worker_with_other_weights_is_refused(
    project: Path, dff: Dff, clusters: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(project, "weights: random:0", "weights: mine.pth")
    torch.save(build("squeezenet1_1", "cpu", 0).state_dict(), project / "mine.pth")
    assert dff("index").exit_code == 0
    run = spread.Spread.run

    def replaced(self: spread.Spread, *arguments: Any) -> None:
        """As if the workers had another file of that name."""
        torch.save(build("squeezenet1_1", "cpu", 1).state_dict(), project / "mine.pth")
        run(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(spread.Spread, "run", replaced)
        line = message(dff("extract", "--cluster", clusters(2)))
    assert line.startswith("worker ") and "mine.pth have the digest" in line
    assert line.endswith("give every worker the same file")

    def gone(self: spread.Spread, *arguments: Any) -> None:
        (project / "mine.pth").unlink()
        run(self, *arguments)

    monkeypatch.setattr(spread.Spread, "run", gone)
    line = message(dff("extract", "--cluster", clusters(2)))
    assert line.startswith("worker ") and "mine.pth" in line and "the weights here have" in line
    assert not artifact(project).exists()


def test_a_vanished_photograph_is_one_line(
    two_layers: Path, photographs: Path, dff: Dff, clusters: Callable[[int], str]
) -> None:
    (photographs / "images/more discs/3.png").unlink()
    line = message(dff("extract", "--cluster", clusters(2)))
    assert "more discs/3.png: cannot be read" in line and "when the index was made" in line


def test_earlier_rows_that_are_damaged_are_computed(
    two_layers: Path, dff: Dff, clusters: Callable[[int], str], passes: list[int]
) -> None:
    expected = extracted(two_layers, dff)
    (shard,) = artifact(two_layers).glob("layers/features.5/maps/values/c/4/0")
    shard.write_bytes(shard.read_bytes()[::-1])  # the second of files of one content is taken
    passes.clear()
    result = dff("extract", "--cluster", clusters(2))
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert "not reusing earlier rows" in result.stderr and sum(passes) >= 14
    assert contents(artifact(two_layers)) == expected


def test_all_work_on_cpus_where_a_worker_has_no_gpu(
    project: Path, dff: Dff, clusters: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "asked", lambda *_: {"tcp://a:1": True, "tcp://b:2": False})
    assert dff("index").exit_code == 0
    result = dff("extract", "--cluster", clusters(2))
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert "1 of 2 workers have no GPU (tcp://b:2)" in result.stderr


def test_in_large_batches_as_on_gpus(
    two_layers: Path, dff: Dff, clusters: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the passes of a GPU, in this machine's arithmetic; a value is beyond float16."""
    assert dff("extract").exit_code == 0
    ragged = open_artifact(artifact(two_layers)).ragged("features.5")
    highest = sorted(float(ragged.map(i).max()) for i in range(len(ragged)))
    state = build("squeezenet1_1", "cpu", 0).state_dict()
    for name in ("expand1x1", "expand3x3"):  # what features.5 pools
        for kind in ("weight", "bias"):
            state[f"features.4.{name}.{kind}"] *= 66000 / highest[-3]
    torch.save(state, two_layers / "large.pth")
    edit(two_layers, "weights: random:0", "weights: large.pth")
    for module in ("stage", "needs", "spread", "ranges"):
        monkeypatch.setattr(f"stages.extract.{module}.in_large_batches", lambda device: True)
    monkeypatch.setattr("stages.extract.plan.GPU_BATCH", 4)
    raised: list[bool] = []

    class Counted(BeyondFloat16):
        def __init__(self) -> None:
            raised.append(True)

    monkeypatch.setattr("stages.extract.device.BeyondFloat16", Counted)
    expected = extracted(two_layers, dff)
    ragged = open_artifact(artifact(two_layers)).ragged("features.5")
    assert len(ragged.stored_dtypes) == 2 and raised
    raised.clear()
    on_cpu = ("--cluster", clusters(2), "--no-reuse", "--device", "cpu")
    assert extracted(two_layers, dff, *on_cpu) == expected
    assert raised


# -- other processes, other machines -------------------------------------------------------------


def test_a_worker_that_is_killed_loses_its_range_alone(
    two_layers: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = extracted(two_layers, dff)
    shutil.rmtree(artifact(two_layers))
    with local_cluster("local:2", 4 * 2**30) as address:
        with clustered(address, workers=2) as cluster:
            assert cluster
            pids = cluster.asked(os.getpid)
        taken = spread._UnderWay._take
        killed: list[int] = []

        def kill(self: Any) -> None:
            taken(self)
            if not killed:
                killed.append(next(iter(pids.values())))
                os.kill(killed[0], signal.SIGKILL)

        monkeypatch.setattr(spread._UnderWay, "_take", kill)
        monkeypatch.setattr(spread, "AHEAD", 1)
        result = dff("extract", "--cluster", address)
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert killed
    assert contents(artifact(two_layers)) == expected
    assert not list(artifact(two_layers).rglob("*.partial"))


FAULTS = """
import resource, sys
from stages.frame.cluster import tasks
if sys.argv[1] == "kept":
    tasks._keep_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    bytearray(b"x") * 2**22
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_a_workers_freed_memory_is_used_again() -> None:
    """Nannies have every pass get its memory page by page from the system: 1.6 times as slow."""
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536", "PYTHONPATH": str(ROOT)}

    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)

    assert faults("kept") < 0.2 * faults("as the nanny wants")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket of an S3 server on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.filesystem("s3").clear_instance_cache()
    name = f"spread-{next(BUCKETS)}"
    fsspec.filesystem("s3").mkdir(name)
    yield f"s3://{name}/project"
    fsspec.filesystem("s3").clear_instance_cache()
    gc.collect()
    server.stop()


def test_workers_write_to_a_bucket(
    two_layers: Path, dff: Dff, clusters: Callable[[int], str], bucket: str
) -> None:
    expected = extracted(two_layers, dff)
    shutil.rmtree(artifact(two_layers))
    result = dff("extract", "--cluster", clusters(2), "--store", bucket)
    assert result.exit_code == 0, (result.stderr, result.exception)
    (far,) = fsspec.filesystem("s3").glob(f"{bucket}/*.zarr")
    files = fsspec.filesystem("s3").find(far)
    found = {f.removeprefix(far + "/"): fsspec.filesystem("s3").cat_file(f) for f in files}
    shards = {name for name in expected if "/values/c/" in name}
    assert shards and {name for name in found if "/values/c/" in name} == shards
    assert all(found[name] == expected[name] for name in shards)
