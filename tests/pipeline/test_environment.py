"""What surrounds a run: signals, odd file systems, output that nobody takes, other environments."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from store import staging
from store.publication import fsync_path, only_one
from tools import ROOT, shell


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipeline", *arguments]


def test_output_that_cannot_be_written_is_one_line(project: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:  # noqa: PTH123 (a device)
        done = subprocess.run(
            command("status"), cwd=project, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.strip() == "dff: what it says cannot be written (No space left on device)"


def test_output_that_nobody_reads_is_no_error(project: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command("status"), cwd=project, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONOPTIMIZE": "2"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["without assertions", "C locale"],
)
def test_the_first_stages_run_in_odd_environments(
    project: Path, photographs: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (photographs / "images/discs").rename(photographs / "images/Scheiben für Élan")
    done = subprocess.run(
        command("index"), cwd=project, env=os.environ | environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    done = subprocess.run(
        command("status"), cwd=project, env=os.environ | environment, capture_output=True, text=True
    )
    assert "fresh" in done.stdout.splitlines()[1]


def test_what_stops_a_run_stops_its_stage_and_waits_for_it(project: Path, tmp_path: Path) -> None:
    """A stage that takes half a second to stop: `dff run` must still be there."""
    marks = tmp_path / "marks"
    script = (
        "import pathlib, signal, sys, time\n"
        f"marks = pathlib.Path({str(marks)!r})\n"
        "def stop(*_):\n"
        "    time.sleep(0.5)\n"
        "    marks.write_text('stopped')\n"
        "    sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "marks.write_text('working')\n"
        "time.sleep(60)\n"
    )
    run = (
        "import os, sys\n"
        "from pipeline.children import run_child\n"
        # a shell between, as DVC has it
        "shell = ['sh', '-c', '\"$0\" -c \"$1\"; true', sys.executable]\n"
        f"run_child([*shell, {script!r}], os.environ)\n"
    )
    running = subprocess.Popen([sys.executable, "-c", run], cwd=ROOT, stderr=subprocess.PIPE)
    for _ in range(300):
        if marks.exists() and marks.read_text() == "working":
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode == 128 + signal.SIGTERM
    assert marks.read_text() == "stopped"


def test_ctrl_c_while_modules_are_loaded_is_one_line(project: Path) -> None:
    script = (
        "import builtins, sys\n"
        "load = builtins.__import__\n"
        "def interrupted(name, *rest, **named):\n"
        "    if name == 'pipeline.registry':\n"
        "        raise KeyboardInterrupt\n"
        "    return load(name, *rest, **named)\n"
        "builtins.__import__ = interrupted\n"
        "sys.argv = ['dff', 'status']\n"
        "from pipeline.start import main\n"
        "main()\n"
    )
    done = shell(project, ROOT, sys.executable, "-c", script)
    assert done.returncode == 130
    assert done.stderr.splitlines() == [
        "dff: interrupted; the work so far is kept, run it again to go on"
    ]


def test_folders_that_cannot_be_forced_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As network file systems answer (CIFS)."""
    (tmp_path / "file").write_text("x")
    force = os.fsync

    def refused(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112
            raise OSError(errno.EINVAL, "Invalid argument")
        force(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    fsync_path(tmp_path)
    with staging(tmp_path / "out", "a" * 64) as work:
        (work.path / "content").write_text("whole")
    assert (tmp_path / "out/content").read_text() == "whole"

    def full(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="Input/output error"):
        fsync_path(tmp_path)
    with pytest.raises(OSError, match="Input/output error"):
        fsync_path(tmp_path / "file")


def test_a_file_system_without_locks_is_said_and_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    warned = pytest.warns(RuntimeWarning, match="has no locks: let no other process work on out")
    with warned, only_one(tmp_path / "lock", tmp_path / "out"):
        pass
    monkeypatch.setattr(
        "filelock.FileLock.acquire",
        lambda *a, **k: (_ for _ in ()).throw(PermissionError(errno.EACCES, "Permission denied")),
    )
    with pytest.raises(PermissionError), only_one(tmp_path / "lock", tmp_path / "out"):
        pass
