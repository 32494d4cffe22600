"""Stages killed at random instants, out of space, on a read-only disk, beside a second process."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from killable import Killable
from pipeline.registry import BY_NAME
from store import Layout, staging
from tools import draw, edit, message

pytestmark = pytest.mark.xdist_group("killable")  # one worker has the server

Dff = Callable[..., Result]
# `make soak` asks for 50
PAUSE = 0.03
KILLS = int(os.environ.get("DFF_KILLS", "6"))


def contents(folder: Path) -> dict[str, bytes] | None:
    """Every file of an artifact; None when it is not there."""
    if not folder.exists():
        return None
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def difference(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Files that are missing, additional, or differ."""
    names = found.keys() | expected.keys()
    return sorted(name for name in names if found.get(name) != expected.get(name))


def finished_run(killable: Killable, project: Path) -> float:
    """Seconds of an uninterrupted extraction."""
    start = time.monotonic()
    code, output = killable.run(project, "extract", pause=PAUSE)
    assert code == 0, output
    return time.monotonic() - start


def killed_until_whole(
    killable: Killable,
    project: Path,
    stage: str,
    duration: float,
    rng: np.random.Generator,
    before: dict[str, bytes] | None,
    expected: dict[str, bytes],
) -> tuple[int, bool]:
    """Kill a stage at random instants until a run gets through; (kills, whether it went on)."""
    out = project / BY_NAME[stage].writes
    killed, resumed = 0, False
    for _ in range(100):
        code, output = killable.run(
            project, stage, die_after=rng.uniform(0.1, 1.1) * duration, pause=PAUSE
        )
        # complete and old, complete and new, or not there: for an instant, between the two
        # renames of publishing, the old one is aside and the new one not yet in place
        seen = contents(out)
        assert seen is None or seen in (before, expected), difference(seen, expected)
        assert code in (0, -9), output
        killed += code == -9
        if code == 0:
            resumed = "from an earlier run" in output
            break
    assert contents(out) == expected
    return killed, resumed


def test_killed_at_random_instants(project: Path, photographs: Path, killable: Killable) -> None:
    """Seeded instants over the whole run, its start and its publication among them."""
    out, staged = project / "artifacts/activations.zarr", project / "artifacts/.staging"
    assert killable.run(project, "index")[0] == 0
    finished_run(killable, project)
    earlier = contents(out)
    for name in ("0a", "4a", "8", "9"):
        draw(photographs / "images" / "discs" / f"{name}.png", seed=sum(map(ord, name)))
    assert killable.run(project, "index")[0] == 0
    shutil.rmtree(out)
    duration = finished_run(killable, project)
    expected = contents(out)
    assert earlier and expected and expected.keys() == earlier.keys() | expected.keys()

    rng = np.random.default_rng(KILLS)
    killed = resumed = rounds = 0
    while killed < KILLS:
        # by turns from nothing, and with most rows to be taken over from an earlier artifact
        before = None if rounds % 2 == 0 else earlier
        rounds += 1
        shutil.rmtree(out)
        shutil.rmtree(staged)
        for name, content in (before or {}).items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)
        died, went_on = killed_until_whole(
            killable, project, "extract", duration, rng, before, expected
        )
        killed, resumed = killed + died, resumed + went_on
    print(f"{killed} kills in {rounds} extractions, {resumed} resumed")


@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_factorization_killed_at_random_instants(
    project: Path, killable: Killable, solver: str
) -> None:
    """At most one pass is lost, and the factors, coefficients and all else come out the same."""
    edit(project, "seeds: [0]", "seeds: [0, 3]")
    edit(project, "solver: hals", f"solver: {solver}")
    edit(project, "init: sample", "init: random")  # more passes to be killed in
    edit(project, "tol: 0.0001", "tol: 0")
    edit(project, "max_passes: 100", "max_passes: 6")
    for stage in ("index", "extract"):
        assert killable.run(project, stage)[0] == 0
    start = time.monotonic()
    code, output = killable.run(project, "factorize", pause=PAUSE)
    assert code == 0, output
    duration = time.monotonic() - start
    out, staged = project / "artifacts/factors.zarr", project / "artifacts/.staging"
    expected = contents(out)
    assert expected
    rng = np.random.default_rng(KILLS)
    killed = resumed = 0
    while killed < KILLS // 2:
        shutil.rmtree(out)
        shutil.rmtree(staged)
        died, went_on = killed_until_whole(
            killable, project, "factorize", duration, rng, None, expected
        )
        killed, resumed = killed + died, resumed + went_on
    print(f"{solver}: {killed} kills, {resumed} resumed")


def test_what_a_kill_between_the_renames_left_is_mended(project: Path, killable: Killable) -> None:
    """The old artifact is aside, the new one is whole but not in place: run again, it is."""
    assert killable.run(project, "index")[0] == 0
    finished_run(killable, project)
    out = project / "artifacts/activations.zarr"
    expected = contents(out)
    assert killable.run(project, "extract", die_at=3)[0] == -9
    (work,) = (project / "artifacts/.staging/activations.zarr").glob("*/artifact")
    out.rename(work.parent / "retired")
    assert killable.run(project, "extract")[0] == 0
    assert contents(out) == expected


@pytest.fixture
def small_disk(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """`artifacts/` on a file system of its own; call it with mount options to change them."""
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(49, 98))
    folder = project / "artifacts"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs: run as root")

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    yield remount
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def used(folder: Path) -> int:
    state = os.statvfs(folder)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


def test_a_disk_that_fills_up(project: Path, dff: Dff, small_disk: Callable[[str], None]) -> None:
    folder = project / "artifacts"
    assert dff("index").exit_code == 0
    after_index = used(folder)
    assert dff("extract").exit_code == 0
    expected = contents(folder / "activations.zarr")
    size = used(folder) - after_index
    shutil.rmtree(folder / "activations.zarr")
    shutil.rmtree(folder / ".staging")

    small_disk(f"size={after_index + int(0.7 * size)}")
    line = message(dff("extract"))
    assert "No space left on device" in line and "activations.zarr" in line and "kept" in line
    assert not (folder / "activations.zarr").exists()
    (record,) = folder.rglob("progress.json")
    assert '"done"' in record.read_text(), "the shards so far are kept"
    assert not list(folder.rglob("*.partial")), "and nothing useless fills the disk"
    assert "No space left" in message(dff("extract")), "again, and still one line"
    small_disk("size=8m")
    again = dff("extract")
    assert again.exit_code == 0 and "from an earlier run" in again.stderr
    assert contents(folder / "activations.zarr") == expected


def test_a_disk_that_is_read_only(
    project: Path, dff: Dff, small_disk: Callable[[str], None]
) -> None:
    assert dff("index").exit_code == 0
    assert dff("extract").exit_code == 0
    expected = contents(project / "artifacts/activations.zarr")
    small_disk("ro")
    line = message(dff("extract"))
    assert "Read-only file system" in line and "activations.zarr" in line
    assert contents(project / "artifacts/activations.zarr") == expected
    assert dff("status").exit_code == 0, "what only reads still works"
    small_disk("rw")
    assert dff("extract").exit_code == 0


def test_a_second_process(project: Path, killable: Killable) -> None:
    assert killable.run(project, "index")[0] == 0
    with staging(project / "artifacts/activations.zarr", "other"):
        code, output = killable.run(project, "extract")
        assert code == 1
        assert "activations.zarr: another process is working on it" in output
        assert "Traceback" not in output
        assert contents(project / "artifacts/activations.zarr") is None
