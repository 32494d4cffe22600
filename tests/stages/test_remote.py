"""The activation store in a bucket, against a real S3-speaking server on this machine."""

import gc
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import fsspec
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from typer.testing import Result

from pipeline.registry import STAGES
from pipeline.status import stage_states
from store import Layout, open_artifact
from tools import interrupted_at, message

Dff = Callable[..., Result]
# a test that forgets its connections leaves their sessions to the garbage collector
FORGOTTEN = ("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
pytestmark = [pytest.mark.xdist_group("remote"), pytest.mark.filterwarnings(*FORGOTTEN)]
NUMBERS = count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket; address and credentials are in the environment, and only there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    forget_connections()
    name = f"activations-{next(NUMBERS)}"  # the server keeps its buckets between tests
    fsspec.filesystem("s3").mkdir(name)
    yield f"s3://{name}/project"
    forget_connections()


def forget_connections() -> None:
    fsspec.filesystem("s3").clear_instance_cache()
    gc.collect()  # here, where their warnings are expected, and not in a later test


def test_the_pipeline_with_its_activations_in_a_bucket(
    project: Path, dff: Dff, bucket: str
) -> None:
    for stage in STAGES[:3]:
        assert dff(stage.name).exit_code == 0
    local = open_artifact(project / "artifacts/activations.zarr")
    expected = [local.ragged("features.5").map(i) for i in range(14)]
    factors = open_artifact(project / "artifacts/factors.zarr").layer_array("features.5", "factors")

    assert dff("extract", "--store", bucket).exit_code == 0
    files = [p.name for p in (project / "artifacts/activations.zarr").iterdir()]
    assert files == ["artifact.json"], "the artifact says where the arrays are, and no more"
    far = open_artifact(project / "artifacts/activations.zarr")
    assert str(far.location).startswith(f"{bucket}/activations-")
    assert far.fingerprint == local.fingerprint
    for i, one in enumerate(expected):
        np.testing.assert_array_equal(far.ragged("features.5").map(i), one)
    assert open_artifact(str(far.location)).sets.keys() == far.sets.keys()
    state = {s.name: s for s in stage_states(project)}["extract"]
    assert state.state == "fresh" and str(far.location) in state.detail

    assert dff("factorize").exit_code == 0
    again = open_artifact(project / "artifacts/factors.zarr").layer_array("features.5", "factors")
    np.testing.assert_array_equal(again, factors)
    text = "".join(p.read_text(errors="replace") for p in project.rglob("*.json"))
    assert "test-secret-key" not in text and "test-key-id" not in text


def test_run_again_it_is_found_complete(
    project: Path, dff: Dff, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dff("index").exit_code == 0
    assert dff("extract", "--store", bucket).exit_code == 0

    def never(*_: object) -> None:
        raise AssertionError("a forward pass")

    monkeypatch.setattr("stages.algorithms.backbone.network.Backbone.__call__", never)
    assert dff("extract", "--store", bucket).exit_code == 0
    # and its rows serve a run that comes home
    assert dff("extract").exit_code == 0
    assert open_artifact(project / "artifacts/activations.zarr").location.path is not None


def test_interrupted_in_the_bucket(
    project: Path, dff: Dff, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(49, 98))
    assert dff("index").exit_code == 0
    assert dff("extract").exit_code == 0
    whole = open_artifact(project / "artifacts/activations.zarr")
    expected = [whole.ragged("features.5").map(i) for i in range(14)]
    (project / "artifacts/activations.zarr").rename(project / "aside.zarr")
    with interrupted_at(4):
        assert dff("extract", "--store", bucket).exit_code == 130
    assert not (project / "artifacts/activations.zarr").exists()
    (begun,) = fsspec.filesystem("s3").glob(f"{bucket}/*")
    assert "unfinished" in message_of(f"s3://{begun}")
    assert dff("extract", "--store", bucket).exit_code == 0
    far = open_artifact(project / "artifacts/activations.zarr")
    for i, one in enumerate(expected):
        np.testing.assert_array_equal(far.ragged("features.5").map(i), one)


def message_of(url: str) -> str:
    from store import StoreError

    with pytest.raises(StoreError) as error:
        open_artifact(url)
    return str(error.value)


def test_begun_here_and_gone_on_there(
    project: Path, dff: Dff, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress at one place is none at another."""
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(49, 98))
    assert dff("index").exit_code == 0
    with interrupted_at(4):
        assert dff("extract").exit_code == 130
    assert dff("extract", "--store", bucket).exit_code == 0
    artifact = open_artifact(project / "artifacts/activations.zarr")
    assert len(artifact.ragged("features.5")) == 14
    assert sum(1 for _ in artifact.rows("discs").blocks()) == 1


def test_a_bucket_that_is_not_there(
    project: Path, dff: Dff, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dff("index").exit_code == 0
    line = message(dff("extract", "--store", "s3://no-such-bucket/x"))
    assert "s3://no-such-bucket/x" in line
    line = message(dff("extract", "--store", "s3://me:mine@bucket/x"))
    assert "credentials" in line and "mine" not in line
    assert dff("extract", "--store", bucket).exit_code == 0
    fsspec.filesystem("s3").rm(bucket, recursive=True)
    forget_connections()
    line = message(dff("factorize"))
    assert f"{bucket}/activations-" in line and "not there" in line
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # more of them wait, and end alike
    forget_connections()
    assert "cannot be reached" in message(dff("factorize"))


def test_a_prefix_that_was_deleted_meanwhile(
    project: Path, dff: Dff, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(49, 98))
    assert dff("index").exit_code == 0
    with interrupted_at(4):
        assert dff("extract", "--store", bucket).exit_code == 130
    fsspec.filesystem("s3").rm(bucket, recursive=True)
    forget_connections()
    assert dff("extract", "--store", bucket).exit_code == 0
    assert len(open_artifact(project / "artifacts/activations.zarr").ragged("features.5")) == 14


def test_another_folder_does_as_well(
    project: Path, dff: Dff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(49, 98))
    disk = tmp_path / "large disk"
    assert dff("index").exit_code == 0
    with interrupted_at(4):
        assert dff("extract", "--store", str(disk)).exit_code == 130
    (begun,) = disk.glob("activations-*")
    assert "unfinished" in message_of(str(begun))
    assert dff("extract", "--store", str(disk)).exit_code == 0
    assert list(disk.iterdir()) == [begun], "the lock of unfinished work is gone, too"
    artifact = open_artifact(project / "artifacts/activations.zarr")
    assert artifact.location.path == begun
    whole = artifact.ragged("features.5").rows(0, 14 * 49)
    assert dff("factorize").exit_code == 0

    (tmp_path / "file").write_text("in the way")
    line = message(dff("extract", "--store", str(tmp_path / "file")))
    assert str(tmp_path / "file") in line
    # a relative one is relative to where the command is typed
    monkeypatch.chdir(tmp_path)
    assert dff("extract", "--store", "near").exit_code == 0
    near = open_artifact(project / "artifacts/activations.zarr")
    assert near.location.path is not None and near.location.path.parent == tmp_path / "near"
    np.testing.assert_array_equal(near.ragged("features.5").rows(0, 14 * 49), whole)
