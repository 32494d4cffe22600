"""`bash benchmarks/gpu.sh`, rehearsed on a CPU as on a machine that has less than this one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tools import ROOT

# All of it takes a minute and a half: `make soak` asks for that.
ALL = ("tests", "nmf", "peers", "extract", "refine", "whole_path")
PARTS = ALL if "DFF_KILLS" in os.environ else ("nmf", "extract")
# What is on no machine but a developer's. Python imports sitecustomize in every process.
WITHOUT = """
import sys

MISSING = {"dvc", "pydensecrf", "s3fs", "moto", "pycocotools", "distributed", "xdist", "torchnmf"}

class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"this machine has no {name}", name=name)

sys.meta_path.insert(0, Refusal())
"""


def rehearse(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the script with results in ``folder/out``, without `dff` and without some packages."""
    (folder / "missing").mkdir()
    (folder / "missing" / "sitecustomize.py").write_text(WITHOUT)
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "DFF_")) and name != "PYTHONPATH"
    }
    env |= {
        "DFF_GPU_REHEARSAL": "1",
        "PATH": "/usr/bin:/bin",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(folder / "missing"),
        **environment,
    }
    return subprocess.run(
        ["bash", str(ROOT / "benchmarks/gpu.sh"), "out"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_parts_are_rehearsed(tmp_path: Path) -> None:
    done = rehearse(tmp_path, DFF_GPU_PARTS=" ".join(PARTS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["gpu.json", "log.txt"]
    found = json.loads((tmp_path / "out/gpu.json").read_text())
    assert found["rehearsal"] and found["machine"]["torch"]
    assert tuple(found["parts"]) == PARTS
    for name, part in found["parts"].items():
        assert part["state"] == "ok" and part["exit"] == 0 and part["tables"], name
    assert (tmp_path / "out/log.txt").read_text() == done.stdout


def test_what_fails_is_named_and_the_rest_runs(tmp_path: Path) -> None:
    """No time for the second part."""
    done = rehearse(tmp_path, DFF_GPU_PARTS="tests whole_path", DFF_GPU_SECONDS="1")
    assert done.returncode == 1
    assert done.stdout.endswith("failed: tests, whole_path\n")
    parts = json.loads((tmp_path / "out/gpu.json").read_text())["parts"]
    assert [part["state"] for part in parts.values()] == ["stopped: out of time"] * 2


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    done = rehearse(tmp_path, DFF_GPU_PARTS="tests nmff")
    assert done.returncode == 2 and "no part nmff" in done.stderr


# -- the tests that must have passed -----------------------------------------------------------

CASES = """
import pytest

def test_passes(): pass
def test_fails(): assert False
def test_skips(): pytest.skip("needs a CUDA device")
def test_skips_for_another_reason(): pytest.skip("not today")
@pytest.fixture
def broken(): yield; raise OSError
def test_broken_in_the_end(broken): pass
@pytest.mark.xfail
def test_is_expected_to_fail(): assert False
@pytest.mark.parametrize("kind", ["cpu", "cuda-1", "cuda-2"])
def test_kinds(kind): assert kind != "cpu"
"""

JUDGE = """
import sys
from pathlib import Path
from benchmarks.gpu import tests
tests.ROOT = Path(sys.argv[1])
watch, code = tests.run(sys.argv[2:], ["--rootdir", sys.argv[1]])
print(sorted(watch.faults({"passed"}).items()))
"""


def judged(folder: Path, *entries: str) -> str:
    """What is found wrong with some tests."""
    (folder / "test_cases.py").write_text(CASES)
    (folder / "test_torn.py").write_text("import nothing_of_that_name\n")
    (folder / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-c", JUDGE, str(folder), *entries],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def test_only_what_ran_and_passed_is_well(tmp_path: Path) -> None:
    """A file that cannot be imported hides no other."""
    well = ["test_cases.py::test_passes", "test_cases.py::test_kinds[cuda-", "*cuda-2]"]
    faults = judged(tmp_path, *well, "test_cases.py", "test_cases.py::test_pass", "test_gone.py::a",
                    "test_torn.py::test_a")  # fmt: skip
    for test, why in {
        "test_cases.py::test_fails": "failed in call",
        "test_cases.py::test_skips": "needs a CUDA device",
        "test_cases.py::test_skips_for_another_reason": "not today",
        "test_cases.py::test_broken_in_the_end": "failed in teardown",
        "test_cases.py::test_is_expected_to_fail": "xfail",
        "test_cases.py::test_kinds[cpu]": "failed in call",
        "test_cases.py::test_pass": "there is no such test",
        "test_gone.py::a": "there is no such test",
        "test_torn.py::test_a": "there is no such test",
    }.items():
        assert repr((test, why)) in faults
    assert faults.count("('test_") == 9


# Prints the tests that only a GPU can run and that tests.txt does not name.
UNLISTED = """
import sys
import pytest
from benchmarks.gpu.tests import Watch, read_entries, wants_gpu

watch = Watch(read_entries())

class Collected:
    def pytest_collection_modifyitems(self, items):
        for item in items:
            if wants_gpu(item) and not any(watch.entry_of(item.nodeid)):
                print("unlisted:", item.nodeid)

assert pytest.main(["--collect-only", "-q", *sys.argv[1:]], plugins=[Collected()]) == 0
"""


def test_every_test_that_needs_a_gpu_is_listed() -> None:
    # the others need not be collected: the mark is made where it is written what it waits for
    files = [
        str(path)
        for path in (ROOT / "tests").rglob("test_*.py")
        if re.search("gpu|cuda", path.read_text(encoding="utf-8"), re.IGNORECASE)
    ]
    assert len(files) > 10
    done = subprocess.run(
        [sys.executable, "-c", UNLISTED, *files],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    unlisted = [line for line in done.stdout.splitlines() if line.startswith("unlisted: ")]
    assert not unlisted, "add them to benchmarks/gpu/tests.txt:\n" + "\n".join(unlisted)
