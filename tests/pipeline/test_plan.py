"""`dff plan` foretells what a run needs; real runs hold what was foretold."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.plan import Line, planned
from pipeline.registry import STAGES
from stages.frame.resources import Resources
from tools import draw, edit, run_dff, run_in_process

pytestmark = pytest.mark.xdist_group("plan")  # one worker makes its projects

MIB = 2**20
SLACK = 64 * MIB  # of an allocator, and of what threads hold
# A stage in a process of its own, of one project after the other, smaller ones first: its libraries
# take seconds to load. It says how much it held at most so far. (What getrusage says may be the
# peak of the process that started it.)
MEASURED = """
import re, sys
from pipeline.start import main
stage, *projects = sys.argv[1:]
for project in projects:
    sys.argv = ["dff", stage, "--project", project, "--workers", "2"]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    with open("/proc/self/status") as file:
        print("held", re.search(r"VmHWM:\\s+(\\d+) kB", file.read())[1], file=sys.stderr)
"""
MEASURED_STAGES = ("extract", "factorize", "heatmaps", "refine", "evaluate")
# What is foretold, by a process that has loaded what `dff plan` loads and nothing else.
FORETOLD = """
import json, sys
from pathlib import Path
from pipeline.plan import planned
from stages.frame.resources import Resources
for project in sys.argv[1:]:
    lines = planned(Path(project), Resources("cpu", 2, 2**40))
    print(json.dumps({line.name: line.needs.peak(2) for line in lines}))
"""
SIZES = {"small": (160, 120), "large": (1600, 1200)}


def process(script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def peaks(stage: str, *projects: str) -> list[int]:
    """Bytes that a stage held at most, for each project."""
    held = re.findall(r"^held (\d+)$", process(MEASURED, stage, *projects).stderr, re.MULTILINE)
    return [1024 * int(one) for one in held]


def lines(project: Path, memory: int = 2**40, workers: int = 2) -> dict[str, Line]:
    found = planned(project, Resources("cpu", workers, memory))
    return {line.name: line for line in found}


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Projects of four photographs of one size, with maps of their own size."""
    found = {}
    for name, size in SIZES.items():
        folder = tmp_path_factory.mktemp(name)
        for i in range(4):
            draw(folder / "photographs" / f"{i}.png", i, size)
        project = folder / "project"
        arguments = ["init", str(folder / "photographs"), "--project", str(project)]
        assert run_dff(*arguments, "--backbone", "demo", "--weights", "bundled").exit_code == 0
        for before, after in (
            ("k: [1, 2, 3, 4]", "k: [1, 2]"),
            ("stability_runs: 5", "stability_runs: 0"),
            ("long_side: 224", "long_side: 0"),
        ):
            edit(project, before, after)
        found[name] = project
    return found


@pytest.mark.parametrize("size", SIZES)
def test_before_anything_runs(sized: dict[str, Path], size: str) -> None:
    project = sized[size]

    def there() -> list[Path]:
        # but for the digests of the photographs, which every command remembers for the next
        return [path for path in sorted(project.rglob("*")) if "artifacts" not in path.parts]

    before = there()
    found = lines(project)
    assert there() == before and not (project / "artifacts/index").exists(), "nothing is written"
    assert list(found) == [stage.name for stage in STAGES]
    assert all(line.state == "absent" and line.seconds is None for line in found.values())
    needs = {name: line.needs for name, line in found.items()}
    assert all(one is not None and one.images == 4 for one in needs.values())
    photographs = sum(p.stat().st_size for p in (project.parent / "photographs").iterdir())
    assert needs["index"].reads == photographs
    # four grids of 28 x 28 cells and 128 channels in float16
    assert needs["extract"].writes == 4 * 28 * 28 * 128 * 2
    assert needs["factorize"].writes == 4 * 28 * 28 * 3 * 4


def test_real_peaks_are_within_what_was_foretold(sized: dict[str, Path]) -> None:
    projects = [str(project) for project in sized.values()]
    foretold = [json.loads(line) for line in process(FORETOLD, *projects).stdout.splitlines()]
    assert len(foretold) == len(projects)
    for stage in STAGES:
        if stage.name not in MEASURED_STAGES:  # a process takes seconds to load its libraries
            for project in projects:
                run_in_process(Path(project), stage.name)
            continue
        for held, needs in zip(peaks(stage.name, *projects), foretold, strict=True):
            allowed = needs[stage.name]
            assert held <= allowed + SLACK, (stage.name, held // MIB, allowed // MIB)
            assert allowed <= 3 * held, (stage.name, held // MIB, allowed // MIB)
    for project in sized.values():
        after = lines(project)
        assert all(line.state == "fresh" for line in after.values())
        assert all(line.seconds is not None and line.seconds > 0 for line in after.values())


def test_what_would_be_refused_is_said_and_is_refused(project: Path) -> None:
    found = lines(project, memory=64 * MIB)
    assert found["extract"].workers == 0
    result = run_dff("plan", "--project", str(project), "--memory", "64MiB")
    assert result.exit_code == 0
    assert "extract would be refused: it needs about" in result.stdout
    assert "the budget is 64.0 MiB" in result.stdout
    assert run_dff("index", "--project", str(project)).exit_code == 0
    refused = run_dff("extract", "--project", str(project), "--memory", "64MiB")
    assert refused.exit_code == 1
