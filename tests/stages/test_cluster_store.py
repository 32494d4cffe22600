"""Workers that write to a bucket which answers late, with errors at first, or with nothing else."""

import gc
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from typer.testing import Result
from werkzeug.serving import make_server

from clusters import cluster_here
from store import Layout
from tools import message

Dff = Callable[..., Result]
BUCKETS = count()
pytestmark = [
    pytest.mark.xdist_group("cluster_store"),
    # connections that are left to the garbage collector
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]


class Weather:
    """An S3 server that may fail to take shards, as busy ones do.

    Attributes
    ----------
    failures : int
        How often each shard is refused before it is taken.
    late : float
        Seconds before a shard is answered for.
    refused : Counter of path
    """

    def __init__(self) -> None:
        self.failures, self.late = 0, 0.0
        self.refused: Counter[str] = Counter()
        self._app = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] == "PUT" and "/values/c/" in path:
            time.sleep(self.late)
            if self.refused[path] < self.failures:
                self.refused[path] += 1
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start_response("500 Internal Server Error", [("Content-Length", "0")])
                return [b""]
        return self._app(environ, start_response)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def weather() -> Iterator[tuple[Weather, str]]:
    app = Weather()
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield app, f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with cluster_here(2) as found:
        yield found


@pytest.fixture
def bucket(weather: tuple[Weather, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", weather[1])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # of five by default: the library waits twice as long before each
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *_, **__: Layout(100, 500))
    fsspec.filesystem("s3").clear_instance_cache()
    name = f"weather-{next(BUCKETS)}"
    fsspec.filesystem("s3").mkdir(name)
    yield f"s3://{name}/project"
    weather[0].failures, weather[0].late = 0, 0.0
    weather[0].refused.clear()
    fsspec.filesystem("s3").clear_instance_cache()
    gc.collect()


@pytest.mark.parametrize("failures", [1, 3])
def test_a_bucket_that_fails_at_first_is_asked_again(
    project: Path,
    dff: Dff,
    cluster: str,
    bucket: str,
    weather: tuple[Weather, str],
    failures: int,
) -> None:
    """Once: by its own library. More often than that tries: the task is done again."""
    assert dff("index").exit_code == 0
    assert dff("extract").exit_code == 0
    values = project / "artifacts/activations.zarr/layers/features.5/maps/values/c"
    expected = {str(p.relative_to(values)): p.read_bytes() for p in values.rglob("*/0")}
    shutil.rmtree(project / "artifacts/activations.zarr")
    server = weather[0]
    server.failures, server.late = failures, 0.2
    result = dff("extract", "--cluster", cluster, "--store", bucket, "--no-reuse")
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert len(server.refused) == len(expected)
    assert set(server.refused.values()) == {failures}
    (far,) = fsspec.filesystem("s3").glob(f"{bucket}/*.zarr/layers/features.5/maps/values/c")
    files = fsspec.filesystem("s3").find(far)
    found = {f.removeprefix(far + "/"): fsspec.filesystem("s3").cat_file(f) for f in files}
    assert found == expected


def test_a_bucket_that_takes_nothing_is_told_of(
    project: Path, dff: Dff, cluster: str, bucket: str, weather: tuple[Weather, str]
) -> None:
    assert dff("index").exit_code == 0
    weather[0].failures = 10**6
    line = message(dff("extract", "--cluster", cluster, "--store", bucket))
    assert line.startswith(bucket) and "cannot be reached" in line
    assert not (project / "artifacts/activations.zarr").exists()
    weather[0].failures = 0
    assert dff("extract", "--cluster", cluster, "--store", bucket).exit_code == 0
