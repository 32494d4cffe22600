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
from tools import draw, edit, run_dff

MIB = 2**20
SLACK = 64 * MIB  # of an allocator, and of what threads hold
# A stage in a process of its own, which says how much it held at most. (What getrusage says may be
# the peak of the process that started it.)
MEASURED = """
import re, sys
from pipeline.start import main
sys.argv = ["dff", *sys.argv[1:]]
try:
    main()
finally:
    with open("/proc/self/status") as file:
        print("held", re.search(r"VmHWM:\\s+(\\d+) kB", file.read())[1], file=sys.stderr)
"""
MEASURED_STAGES = ("extract", "factorize", "heatmaps", "refine", "evaluate")
# What is foretold, by a process that has loaded what `dff plan` loads and nothing else.
FORETOLD = """
import json
from pathlib import Path
from pipeline.plan import planned
from stages.frame.resources import Resources
lines = planned(Path(), Resources("cpu", 2, 2**40))
print(json.dumps({line.name: line.needs.peak(2) for line in lines}))
"""


def peak(project: Path, *arguments: str) -> int:
    """Bytes that a stage held at most."""
    command = [sys.executable, "-c", MEASURED, *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    held = re.search(r"^held (\d+)$", done.stderr, re.MULTILINE)
    assert held
    return 1024 * int(held[1])


def lines(project: Path, memory: int = 2**40, workers: int = 2) -> dict[str, Line]:
    found = planned(project, Resources("cpu", workers, memory))
    return {line.name: line for line in found}


@pytest.fixture(scope="module", params=[(160, 120), (1600, 1200)], ids=["small", "large"])
def sized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of four photographs of one size, with maps of their own size."""
    folder = tmp_path_factory.mktemp("sized")
    for i in range(4):
        draw(folder / "photographs" / f"{i}.png", i, request.param)
    arguments = ["init", str(folder / "photographs"), "--project", str(folder / "project")]
    assert run_dff(*arguments, "--backbone", "demo", "--weights", "bundled").exit_code == 0
    for before, after in (
        ("k: [1, 2, 3, 4]", "k: [1, 2]"),
        ("stability_runs: 5", "stability_runs: 0"),
        ("long_side: 224", "long_side: 0"),
    ):
        edit(folder / "project", before, after)
    return folder / "project"


def test_before_anything_runs(sized: Path) -> None:
    def there() -> list[Path]:
        # but for the digests of the photographs, which every command remembers for the next
        return [path for path in sorted(sized.rglob("*")) if "artifacts" not in path.parts]

    before = there()
    found = lines(sized)
    assert there() == before and not (sized / "artifacts/index").exists(), "nothing is written"
    assert list(found) == [stage.name for stage in STAGES]
    assert all(line.state == "absent" and line.seconds is None for line in found.values())
    needs = {name: line.needs for name, line in found.items()}
    assert all(one is not None and one.images == 4 for one in needs.values())
    photographs = sum(p.stat().st_size for p in (sized.parent / "photographs").iterdir())
    assert needs["index"].reads == photographs
    # four grids of 28 x 28 cells and 128 channels in float16
    assert needs["extract"].writes == 4 * 28 * 28 * 128 * 2
    assert needs["factorize"].writes == 4 * 28 * 28 * 3 * 4


def test_real_peaks_are_within_what_was_foretold(sized: Path) -> None:
    script = [sys.executable, "-c", FORETOLD]
    done = subprocess.run(script, cwd=sized, capture_output=True, text=True, check=True)
    foretold = json.loads(done.stdout)
    for stage in STAGES:
        if stage.name not in MEASURED_STAGES:  # a process takes seconds to load its libraries
            assert run_dff(stage.name, "--project", str(sized)).exit_code == 0
            continue
        held, allowed = peak(sized, stage.name, "--workers", "2"), foretold[stage.name]
        assert held <= allowed + SLACK, (stage.name, held // MIB, allowed // MIB)
        assert allowed <= 3 * held, (stage.name, held // MIB, allowed // MIB)
    after = lines(sized)
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
