"""Shared by all tests: small collections of photographs, and projects around them."""

import os

# Before torch is loaded, here and in every process of ours: threads that wait for a part of a small
# map spin, beside workers that have all cores already.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# What Python has compiled is kept, whatever the machine says: else every worker compiles all tests
# again, and every process that a test starts all of the pipeline.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import contextlib
import ctypes
import gc
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import interpreted  # noqa: F401  first: Triton's own functions are made when it is imported
from pipeline.registry import STAGES
from tools import (
    copied,
    draw_photographs,
    movable_project,
    run_dff,
    run_in_process,
    small_project,
)

sys.dont_write_bytecode = False

# A stage that a test runs twice must run twice; the tests of kept copies set it themselves.
os.environ["DFF_KEEP"] = "0"


def _not_to_the_disk(file: Any) -> None:
    """What `os.fsync` refuses, without its wait: a run of all stages asks for it 750 times.

    No test cuts the power. Those of what must be durable watch the calls, or have a process of
    their own, with the real one.
    """
    os.fstat(file if isinstance(file, int) else file.fileno())


os.fsync = _not_to_the_disk


@cache
def _group_of(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    found = re.search(r'^pytestmark = \[?\s*pytest\.mark\.xdist_group\("(.+?)"\)', text, re.M)
    assert found or "xdist_group(" not in text, f"{file}: which group?"
    return found[1] if found else ""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One worker for the tests of a group, by the mark of their module.

    pytest-xdist 3.8.0 tells workers' groups by the ids of tests, which pytest 9.2 does not let it
    change: what the tests of a group share was made by every worker.
    """
    from xdist.scheduler import LoadGroupScheduling

    class ByModule(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = config.rootpath / nodeid.partition("::")[0]
            return _group_of(file) or str(super()._split_scope(nodeid))

    return ByModule(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for a process, a worker of Dask, a browser."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_finish() -> None:
    """All that the tests have imported stays: it need not be looked through for garbage again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _memory_is_given_back() -> Iterator[None]:
    """Stages count what their process holds: networks that tests are done with must be none of it.

    They lie in cycles, and what is freed stays with the allocator.
    """
    yield
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc's
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """See `draw_photographs`."""
    return draw_photographs(tmp_path / "photographs")


@pytest.fixture
def project(tmp_path: Path, photographs: Path) -> Path:
    """See `small_project`."""
    return small_project(tmp_path / "project", photographs)


@pytest.fixture(scope="session")
def mapped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `mapped` copies."""
    project = movable_project(tmp_path_factory.mktemp("mapped"))
    run_in_process(project, *(stage.name for stage in STAGES[:4]))
    return project


@pytest.fixture
def mapped(mapped_once: Path, project: Path) -> Path:
    """`project` with heat maps that were never refined."""
    return copied(mapped_once, project.parent)


@pytest.fixture
def dff(project: Path) -> Callable[..., Result]:
    """Run `dff COMMAND --project project ...` in this process, errors as a user sees them."""

    def call(*arguments: str) -> Result:
        return run_dff(*arguments, "--project", str(project))

    return call


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser; modules that use it are marked with `browser.needs_browser`."""
    from browser import chromium  # here: most tests need none

    with chromium() as found:
        yield found
