"""The tests that must have run and passed on a GPU: those that tests.txt names.

A line of tests.txt is a test's id as pytest prints it. ``*`` stands for anything; a file, a test
without its parameters, or the beginning of them (``file::test[cuda-``) stands for all below it.
Every test found must pass, and every line must find one: what was skipped, renamed or never
collected is named and fails. Without photographs and weights those are allowed that want them. In a
rehearsal the tests that a machine without a GPU skips must do so for no other reason; the others,
which it can run, are only looked for.

An empty line begins a group; groups run side by side, each in a process of its own, of which most
wait for one core.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from benchmarks.common import ROOT
from benchmarks.gpu.common import OUT, PHOTOGRAPHS, REHEARSAL, report

LIST = Path(__file__).parent / "tests.txt"
WANTS_GPU, WANTS_REAL = "needs a CUDA device", "needs real photographs and weights"
LOOKED_FOR = "not in a rehearsal"
# Warnings are errors in this project, with the versions of libraries that it is developed with; a
# machine with a GPU has its own. Its pytest may have plugins, of which none is wanted.
OPTIONS = ["-W", "default", "-vv", "-rfE", "--tb=short", "--color=no", "--durations=8"]
OPTIONS += ["--continue-on-collection-errors", "-o", "faulthandler_timeout=100"]


def read_groups(path: Path = LIST) -> list[list[str]]:
    """The lines of the list, without comments, by group."""
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    groups = groupby(lines, key=bool)
    return [list(some) for filled, some in groups if filled]


def read_entries(path: Path = LIST) -> list[str]:
    """All of them."""
    return [entry for group in read_groups(path) for entry in group]


def pattern(entry: str) -> re.Pattern[str]:
    """What the ids of an entry's tests look like."""
    body = ".*".join(re.escape(part) for part in entry.split("*"))
    if "[" in entry:
        return re.compile(body if entry.endswith("]") else body + ".*")
    return re.compile(body + r"((::|\[).*)?")


def wants_gpu(item: pytest.Item) -> bool:
    """Whether a machine without a GPU skips a test."""
    return any(mark.kwargs.get("reason") == WANTS_GPU for mark in item.iter_markers("skipif"))


class Watch:
    """A pytest plugin: keeps the tests that are wanted, and what became of each."""

    def __init__(self, entries: list[str], rehearsal: bool = False) -> None:
        self.rehearsal = rehearsal
        self.patterns = {entry: pattern(entry) for entry in entries}
        self.outcomes: dict[str, str] = {}  # passed, or why not
        self.seconds: dict[str, float] = {}

    def entry_of(self, test: str) -> Iterator[str]:
        """The entries that a test belongs to."""
        return (entry for entry, one in self.patterns.items() if one.fullmatch(test))

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out what no entry names."""
        kept, left = [], []
        for item in items:
            wanted = any(self.entry_of(item.nodeid))
            runs = wanted and (wants_gpu(item) or not self.rehearsal)
            (kept if runs else left).append(item)
            if wanted:
                self.outcomes[item.nodeid] = "did not run" if runs else LOOKED_FOR
        config.hook.pytest_deselected(items=left)
        items[:] = kept

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the worst of setup, call and teardown."""
        test = report.nodeid
        self.seconds[test] = self.seconds.get(test, 0.0) + report.duration
        if report.failed:
            self.outcomes[test] = f"failed in {report.when}"
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "xfail"
            self.outcomes[test] = reason.removeprefix("Skipped: ")
        elif report.when == "call" and self.outcomes[test] == "did not run":
            self.outcomes[test] = "passed"

    def faults(self, allowed: Collection[str]) -> dict[str, str]:
        """Each test that did not do what it must, and each entry without a test."""
        found = {test: why for test, why in self.outcomes.items() if why not in allowed}
        for entry, one in self.patterns.items():
            if not any(one.fullmatch(test) for test in self.outcomes):
                found[entry] = "there is no such test"
        return found

    def rows(self) -> list[dict[str, object]]:
        """One line of the table per entry."""
        table = []
        for entry, one in self.patterns.items():
            mine = [test for test in self.outcomes if one.fullmatch(test)]
            table.append(
                {
                    "tests": entry,
                    "found": len(mine),
                    "passed": sum(self.outcomes[test] == "passed" for test in mine),
                    "seconds": sum(self.seconds.get(test, 0.0) for test in mine),
                }
            )
        return table


def run(entries: list[str], options: list[str]) -> tuple[Watch, int]:
    """Run the tests of the entries in this process: what became of them, and pytest's exit code."""
    watch = Watch(entries, REHEARSAL)
    files = dict.fromkeys(entry.partition("::")[0] for entry in entries)
    there = [name for name in files if (ROOT / name).exists()]
    if not there:
        return watch, int(pytest.ExitCode.NO_TESTS_COLLECTED)
    return watch, int(pytest.main([*OPTIONS, *options, *there], plugins=[watch]))


def allowed() -> set[str]:
    """What may become of a test."""
    found = {"passed"}
    if REHEARSAL:
        found |= {WANTS_GPU, LOOKED_FOR}
    if not (PHOTOGRAPHS and os.environ.get("DFF_GPU_WEIGHTS")):
        found.add(WANTS_REAL)
    return found


def run_group(number: int, options: list[str]) -> int:
    """Run a group in this process and write what became of its tests."""
    # out of time, as after Ctrl-C: what is known by then is written
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    watch, code = run(read_groups()[number], options)
    found = {"rows": watch.rows(), "outcomes": watch.outcomes, "faults": watch.faults(allowed())}
    _part(number).write_text(json.dumps(found))
    # an error of pytest itself, such as a file that cannot be imported, is none of the tests'
    return 1 if found["faults"] or code not in (0, 1, 5) else 0


def _part(number: int) -> Path:
    return OUT / f"tests group {number}.json"


def main() -> None:
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if "--group" in sys.argv:
        at = sys.argv.index("--group")
        sys.exit(run_group(int(sys.argv[at + 1]), sys.argv[1:at]))
    start = time.perf_counter()
    OUT.mkdir(parents=True, exist_ok=True)
    groups = range(len(read_groups()))
    processes = []
    for number in groups:
        _part(number).unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.gpu.tests", *sys.argv[1:]]
        with (OUT / f"tests group {number}.txt").open("w") as printed:
            processes.append(
                subprocess.Popen(
                    [*command, "--group", str(number)], stdout=printed, stderr=subprocess.STDOUT
                )
            )
    signal.signal(signal.SIGTERM, lambda *_: [process.terminate() for process in processes])
    codes = [process.wait() for process in processes]
    rows: list[dict[str, Any]] = []
    outcomes: dict[str, str] = {}
    faults: dict[str, str] = {}
    for number, code in zip(groups, codes, strict=True):
        printed_path = OUT / f"tests group {number}.txt"
        print(printed_path.read_text(errors="replace"))
        printed_path.unlink()
        if not _part(number).exists():
            faults[f"group {number}"] = f"ended with exit code {code}"
            continue
        found = json.loads(_part(number).read_text())
        _part(number).unlink()
        rows += found["rows"]
        outcomes |= found["outcomes"]
        faults |= found["faults"]
    report(
        "tests",
        "Tests that must have passed",
        rows,
        seconds=time.perf_counter() - start,
        outcomes=outcomes,
        faults=faults,
    )
    for test, why in faults.items():
        print(f"{test}: {why}")
    sys.exit(1 if any(codes) else 0)


if __name__ == "__main__":
    main()
