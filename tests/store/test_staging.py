"""Staging: work survives anything, an artifact is published whole or not at all."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from store import (
    Layout,
    RaggedWriter,
    StagingLocked,
    StoreError,
    create_artifact,
    open_artifact,
    read_progress,
    staging,
    write_atomically,
)
from store.artifact import layer_key

ROOT = Path(__file__).parents[2]
MODULE = sys.modules["store.publication"]  # `store.publication` is the function
GRIDS = np.full((6, 2), 5)  # 150 rows: 10 shards of 16 rows


def produce(out, fingerprint="f" * 64, base=0, between=lambda rows: None, **facts):
    """A stage in small: an artifact of one layer, resumable at every shard."""
    with staging(out, fingerprint) as work:
        group = create_artifact(
            work.path,
            owner=work,
            stage="s",
            fingerprint=fingerprint,
            layers=["l"],
            images=list("abcdef"),
            sets={"all": range(6)},
            **facts,
        )

        def flushed(stored):
            work.checkpoint(**stored)
            between(stored["rows"])

        writer = RaggedWriter(
            group.require_group(f"{layer_key('l')}/maps"),
            GRIDS,
            np.arange(6),
            2,
            np.uint16,
            layout=Layout(4, 16),
            resume=work.progress,
            on_flush=flushed,
        )
        for start in range(0, 150, 10):
            rows = np.arange(start, min(start + 10, 150))
            writer.append(start, base + np.stack([rows, rows % 3], axis=1))
        writer.close()


def files_of(path):
    return {p.relative_to(path): p.read_bytes() for p in Path(path).rglob("*") if p.is_file()}


def leftovers(out):
    folder = out.parent / ".staging" / out.name
    return [p.name for p in folder.iterdir() if p.is_dir()] if folder.exists() else []


def first_values(out):
    return int(open_artifact(out).ragged("l").rows(0, 1)[0, 0])


def one_line(error):
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return str(error.value)


# -- publishing ----------------------------------------------------------------------------------


def test_publishes_and_sweeps(tmp_path):
    out = tmp_path / "deep" / "a.zarr"
    produce(out)
    assert first_values(out) == 0 and leftovers(out) == []
    assert read_progress(out, "f" * 64) is None
    assert {p.name for p in out.iterdir()} == {"zarr.json", "images", "sets", "layers"}
    produce(out, "g" * 64, base=7)
    assert first_values(out) == 7 and leftovers(out) == []


def test_the_old_artifact_stays_until_the_new_one_is_whole(tmp_path):
    out = tmp_path / "a.zarr"
    produce(out)
    old = files_of(out)

    def still_there(rows):
        assert files_of(out) == old
        assert read_progress(out, "g" * 64)["rows"] == rows

    produce(out, "g" * 64, base=7, between=still_there)
    assert first_values(out) == 7


def test_replaces_whatever_is_in_the_way(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("kept")
    for kind in ("file", "link", "dangling"):
        out = tmp_path / f"{kind}.zarr"
        if kind == "file":
            out.write_text("in the way")
        else:
            out.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
        produce(out)
        assert first_values(out) == 0 and not out.is_symlink()
    assert (tmp_path / "elsewhere" / "kept").read_text() == "kept"


def test_published_files_are_synced_before_the_rename(tmp_path, monkeypatch):
    events = []
    rename = Path.rename
    monkeypatch.setattr(MODULE, "fsync_path", lambda path: events.append(("sync", path)))

    def noted(self, target):
        events.append(("rename", Path(target)))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", noted)
    out = tmp_path / "a"
    with staging(out, "f") as work:
        (work.path / "sub").mkdir()
        (work.path / "sub" / "file").write_text("x")
    renamed = events.index(("rename", out))
    synced = {path.relative_to(work.path) for kind, path in events[:renamed] if kind == "sync"}
    assert synced == {Path(), Path("sub"), Path("sub/file")}
    assert ("sync", tmp_path) in events[renamed:]


def test_scratch_is_never_published(tmp_path):
    with staging(tmp_path / "a", "f") as work:
        (work.scratch / "checkpoint.npz").write_bytes(b"x")
        (work.path / "result").write_bytes(b"y")
        work.checkpoint(done=1)
    assert [p.name for p in (tmp_path / "a").rglob("*")] == ["result"]


# -- going on ------------------------------------------------------------------------------------


class Stop(Exception):
    pass


def stop_at(wanted):
    def between(rows):
        if rows >= wanted:
            raise Stop

    return between


def test_an_exception_keeps_the_work_and_the_old_artifact(tmp_path):
    out, whole = tmp_path / "a.zarr", tmp_path / "whole.zarr"
    produce(whole, "g" * 64, base=7)
    produce(out)
    old = files_of(out)
    for wanted in (16, 48, 48, 150):
        with pytest.raises(Stop):
            produce(out, "g" * 64, base=7, between=stop_at(wanted))
        assert files_of(out) == old
        assert read_progress(out, "g" * 64)["rows"] >= wanted
    produce(out, "g" * 64, base=7)
    assert files_of(out) == files_of(whole)


def test_going_on_repeats_nothing_that_is_on_disk(tmp_path):
    out = tmp_path / "a.zarr"
    with pytest.raises(Stop):
        produce(out, between=stop_at(64))
    rows = []
    produce(out, between=rows.append)
    assert rows == [80, 96, 112, 128, 144, 150]


def test_another_fingerprint_starts_clean(tmp_path):
    out = tmp_path / "a.zarr"
    with pytest.raises(Stop):
        produce(out, between=stop_at(64))
    rows = []
    produce(out, "g" * 64, base=7, between=rows.append)
    assert rows[0] == 16 and first_values(out) == 7
    assert leftovers(out) == []  # the other fingerprint's work as well


def test_other_facts_under_one_fingerprint_start_clean(tmp_path):
    """Progress that tells of an artifact that is gone would have its rows count as written."""
    out, whole = tmp_path / "a.zarr", tmp_path / "whole.zarr"
    produce(whole, colour="blue")
    with pytest.raises(Stop):
        produce(out, between=stop_at(64), colour="red")
    rows = []
    produce(out, between=rows.append, colour="blue")
    assert rows[0] == 16 and files_of(out) == files_of(whole)


def test_progress_merges_and_is_read_back(tmp_path):
    with pytest.raises(Stop), staging(tmp_path / "a", "f") as work:
        work.checkpoint(rows={"l": 3})
        work.checkpoint(done=2)
        raise Stop
    assert read_progress(tmp_path / "a", "f") == {"rows": {"l": 3}, "done": 2}
    with staging(tmp_path / "a", "f") as work:
        assert work.progress == {"rows": {"l": 3}, "done": 2}


@pytest.mark.parametrize("content", [b"", b'{"rows": 1', b"[1]", b"\xff\xfe"])
def test_an_unreadable_progress_record_starts_clean(tmp_path, content):
    out = tmp_path / "a.zarr"
    with pytest.raises(Stop):
        produce(out, between=stop_at(64))
    record = next((tmp_path / ".staging").rglob("progress.json"))
    record.write_bytes(content)
    assert read_progress(out, "f" * 64) is None
    rows = []
    produce(out, between=rows.append)
    assert rows[0] == 16 and open_artifact(out).ragged("l").rows(149, 150).tolist() == [[149, 2]]


# Published, then killed before the leftovers were swept: the record of progress must not make the
# next run believe that its rows are there.
@pytest.mark.parametrize("moment", ["retired", "swept"])
def test_killed_between_publishing_and_sweeping(tmp_path, moment, monkeypatch):
    out, whole = tmp_path / "a.zarr", tmp_path / "whole.zarr"
    produce(whole, base=7)
    produce(out, "e" * 64)

    def killed(path):
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        if moment == "swept":
            patch.setattr(MODULE, "_sweep", killed)
        else:
            remove = MODULE.remove
            patch.setattr(MODULE, "remove", lambda p: killed(p) if p.exists() else remove(p))
        produce(out, base=7)
    assert files_of(out) == files_of(whole)
    produce(out, base=7)
    assert files_of(out) == files_of(whole) and leftovers(out) == []


def test_killed_between_the_two_renames(tmp_path, monkeypatch):
    out, whole = tmp_path / "a.zarr", tmp_path / "whole.zarr"
    produce(whole, base=7)
    produce(out, "e" * 64)
    rename = Path.rename

    def killed(self, target):
        if Path(target) == out:
            raise Stop
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(MODULE, "_exchange", lambda one, other: False)  # a system that cannot
        patch.setattr(Path, "rename", killed)
        produce(out, base=7)
    assert not out.exists()  # absent, never half there
    rows = []
    produce(out, base=7, between=rows.append)
    assert rows == [] and files_of(out) == files_of(whole)


def test_the_old_artifact_comes_back_when_its_successor_is_not_wanted(tmp_path, monkeypatch):
    out = tmp_path / "a.zarr"
    produce(out, "e" * 64)
    before, rename = files_of(out), Path.rename

    def killed(self, target):
        if Path(target) == out:
            raise Stop
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(MODULE, "_exchange", lambda one, other: False)
        patch.setattr(Path, "rename", killed)
        produce(out, "g" * 64, base=7)
    with pytest.raises(Stop):
        produce(out, "h" * 64, base=3, between=stop_at(16))
    assert files_of(out) == before


def test_readers_see_an_artifact_at_every_instant(tmp_path, monkeypatch):
    """The new one takes the old one's place in one step, where the system can."""
    out = tmp_path / "a.zarr"
    produce(out, "e" * 64)
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.write_text("")
    if not MODULE._exchange(one, other):
        pytest.skip("this file system cannot exchange two entries")
    assert one.is_file() and other.is_dir()

    def refused(self, target):
        raise AssertionError(f"{self} renamed to {target}")

    monkeypatch.setattr(Path, "rename", refused)
    produce(out, base=7)
    assert open_artifact(out).fingerprint == "f" * 64 and leftovers(out) == []


@pytest.mark.parametrize("lost", ["scratch", "the artifact"])
def test_an_old_artifact_is_not_taken_for_the_work(tmp_path, lost, monkeypatch):
    """Killed after the exchange, with the old one where the work was and half of it swept."""
    out, whole = tmp_path / "a.zarr", tmp_path / "whole.zarr"
    produce(whole, base=7)
    produce(out, base=3)  # of the same fingerprint, as after a change of the code

    def killed(path):
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(MODULE, "_sweep", killed)
        produce(out, base=7)
    (work,) = (tmp_path / ".staging/a.zarr").glob("*/artifact")
    if lost == "scratch":
        shutil.rmtree(work.parent / "scratch")
        (work / "sets/entries/c/0").unlink()
    else:
        shutil.rmtree(out)
    produce(out, base=7)
    assert files_of(out) == files_of(whole) and leftovers(out) == []


def test_a_missing_input_is_not_a_full_disk(tmp_path):
    """It lies beside the artifact that is made, and is none of the disk's faults."""
    error = FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "input/index.parquet"))
    with pytest.raises(FileNotFoundError), staging(tmp_path / "a", "f"):
        raise error


# -- kill -9 -------------------------------------------------------------------------------------

CHILD = """
import os, sys, signal, time
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
import test_staging as t

calls = 0
def die():
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

# every durable step of the store ends in an fsync or a rename: count those
fsync = os.fsync
def counted(descriptor):
    die()
    fsync(descriptor)
os.fsync = counted
rename = Path.rename
def renamed(self, target):
    die()
    return rename(self, target)
Path.rename = renamed
exchange = t.MODULE._exchange
def exchanged(one, other):
    die()
    return exchange(one, other)
t.MODULE._exchange = exchanged
t.produce(Path(sys.argv[1]), "g" * 64, base=7)
"""


def run_child(out, die_at):
    code = CHILD.format(root=str(ROOT), here=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(out), str(die_at)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_killed_at_any_instant_the_resumed_result_is_the_same(tmp_path):
    whole, out = tmp_path / "whole.zarr", tmp_path / "a.zarr"
    produce(whole, "g" * 64, base=7)
    produce(out, "e" * 64, base=3)
    expected, old = files_of(whole), files_of(out)
    # Each run takes up what the last left, and dies after so many more durable steps.
    schedule = random.Random(0)
    for step in [1, 2, *(schedule.randint(3, 30) for _ in range(3))]:
        result = run_child(out, step)
        assert result.returncode == -signal.SIGKILL, result.stderr
        assert files_of(out) == old and first_values(out) == 3
    produce(out, "g" * 64, base=7)
    assert files_of(out) == expected and leftovers(out) == []


# -- two processes -------------------------------------------------------------------------------


def test_a_second_process_is_refused(tmp_path):
    out = tmp_path / "a.zarr"

    def second(rows):
        if rows == 16:
            result = run_child(out, 10**6)
            assert result.returncode == 1
            last = result.stderr.strip().splitlines()[-1]
            assert "StagingLocked" in last and "another process is working on it" in last

    produce(out, between=second)
    assert first_values(out) == 0
    assert run_child(out, 10**6).returncode == 0  # the lock is free again
    assert first_values(out) == 7


def test_a_second_user_in_one_process_is_refused(tmp_path):
    out = tmp_path / "a"
    with (
        staging(out, "f"),
        pytest.raises(StagingLocked, match="another process") as error,
        staging(out, "f"),
    ):
        pass
    assert str(out) in one_line(error)
    with staging(tmp_path / "b", "f"), staging(tmp_path / "c", "f"):
        pass


# -- the disk says no ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["parent", "grandparent", "staging", "staging of it"])
def test_a_file_where_a_folder_should_be(tmp_path, where):
    out = tmp_path / "x" / "y" / "a.zarr"
    blocked = {
        "parent": out.parent,
        "grandparent": out.parent.parent,
        "staging": out.parent / ".staging",
        "staging of it": out.parent / ".staging" / "a.zarr",
    }[where]
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("in the way")
    with pytest.raises(StoreError) as error, staging(out, "f"):
        raise AssertionError("must not begin")
    assert str(out) in one_line(error) and "cannot be written" in str(error.value)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_read_only_parent(tmp_path, monkeypatch, code):
    out = tmp_path / "x" / "a.zarr"

    def refused(self, *args, **options):
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(StoreError, match=os.strerror(code)) as error, staging(out, "f"):
        raise AssertionError("must not begin")
    assert str(out) in one_line(error)


def full_disk(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_kept(out, old, rows):
    assert files_of(out) == old
    assert (read_progress(out, "g" * 64) or {}).get("rows") == rows


@pytest.mark.parametrize("place", ["shard", "shard sync", "progress", "progress rename", "publish"])
def test_a_full_disk_keeps_the_work(tmp_path, place, monkeypatch):
    out, whole = tmp_path / "a.zarr", tmp_path / "whole.zarr"
    produce(whole, "g" * 64, base=7)
    produce(out, "e" * 64)
    old = files_of(out)
    with monkeypatch.context() as patch:

        def fill_up(rows):
            if rows != 48:
                return
            if place == "shard":
                patch.setattr("store.location.Location.write", full_disk)
            elif place == "shard sync":
                patch.setattr("store.location.fsync_path", full_disk)
            elif place == "progress":
                patch.setattr(os, "fsync", full_disk)
            elif place == "progress rename":
                patch.setattr(Path, "replace", full_disk)
            else:
                patch.setattr(MODULE, "_exchange", full_disk)

        with pytest.raises(StoreError, match="No space left") as error:
            produce(out, "g" * 64, base=7, between=fill_up)
        assert str(out) in one_line(error) and "kept" in str(error.value)
    assert_kept(out, old, 150 if place == "publish" else 48)
    produce(out, "g" * 64, base=7)
    assert files_of(out) == files_of(whole)


def test_a_shard_that_cannot_be_created(tmp_path, monkeypatch):
    # a real error of the file system, a file where its folder goes
    out = tmp_path / "a.zarr"

    def block(rows):
        if rows == 16:
            (path,) = (tmp_path / ".staging").rglob("values")
            (path / "c" / "1").write_text("in the way")

    with pytest.raises(StoreError, match="cannot be written"):
        produce(out, between=block)
    assert read_progress(out, "f" * 64)["rows"] == 16


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file", "/somewhere/photo.jpg"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        OSError("a message of a library"),
        ValueError("not of the disk"),
    ],
)
def test_other_errors_pass_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as raised, staging(tmp_path / "a", "f"):
        raise error
    assert raised.value is error


# -- files ---------------------------------------------------------------------------------------


def test_write_atomically_leaves_the_old_or_the_new(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_atomically(path, b"old")
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError):
            patch.setattr(os if name == "fsync" else Path, name, full_disk)
            write_atomically(path, b"new")
        assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_no_descriptor_is_left_open(tmp_path):
    produce(tmp_path / "a.zarr")
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    for number in range(3):
        produce(tmp_path / "a.zarr", str(number) * 64)
        with pytest.raises(Stop):
            produce(tmp_path / "a.zarr", between=stop_at(32))
    if before:
        assert len(list(descriptors.iterdir())) <= before


def test_work_is_found_by_name_and_fingerprint(tmp_path):
    with staging(tmp_path / "a", "f" * 64) as work:
        assert work.path.is_relative_to(tmp_path / ".staging" / "a")
        assert zarr.open_group(work.path, mode="w", zarr_format=3) is not None
