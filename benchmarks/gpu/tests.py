"""The tests that must have run and passed on a GPU: those that tests.txt names.

A line of tests.txt is a test's id as pytest prints it. ``*`` stands for anything; a file, a test
without its parameters, or the beginning of them (``file::test[cuda-``) stands for all below it.
Every test found must pass, and every line must find one: what was skipped, renamed or never
collected is named and fails. Without photographs and weights those are allowed that want them. In a
rehearsal the tests that a machine without a GPU skips must do so for no other reason; the others,
which it can run, are only looked for.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from benchmarks.common import ROOT
from benchmarks.gpu.common import PHOTOGRAPHS, REHEARSAL, report

LIST = Path(__file__).parent / "tests.txt"
WANTS_GPU, WANTS_REAL = "needs a CUDA device", "needs real photographs and weights"
LOOKED_FOR = "not in a rehearsal"
# Warnings are errors in this project, with the versions of libraries that it is developed with; a
# machine with a GPU has its own. Its pytest may have plugins, of which none is wanted.
OPTIONS = ["-W", "default", "-vv", "-rfE", "--tb=short", "--color=no", "--durations=8"]
OPTIONS += ["--continue-on-collection-errors", "-o", "faulthandler_timeout=100"]


def read_entries(path: Path = LIST) -> list[str]:
    """The lines of the list, without comments."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


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


def main() -> None:
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    # out of time, as after Ctrl-C: what is known by then is written
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = time.perf_counter()
    entries = read_entries()
    watch, code = run(entries, sys.argv[1:])
    faults = watch.faults(allowed())
    report(
        "tests",
        "Tests that must have passed",
        watch.rows(),
        seconds=time.perf_counter() - start,
        outcomes=watch.outcomes,
        faults=faults,
    )
    for test, why in faults.items():
        print(f"{test}: {why}")
    # an error of pytest itself, such as a file that cannot be imported, is none of the tests'
    sys.exit(1 if faults or code not in (0, 1, 5) else 0)


if __name__ == "__main__":
    main()
