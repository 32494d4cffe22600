"""Kept copies: what was made before comes back in a moment, and nothing else does."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from pipeline.registry import STAGES
from pipeline.run_alone import run_alone
from stages.frame import execute as frame
from stages.frame.errors import StageError
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from store import Staging, StoreError, staging
from store.artifact import write_record
from store.kept import (
    COPIED_BYTES,
    KEPT,
    adopt,
    copy_at,
    find_kept,
    keep,
    kept_copies,
    listing,
    own_bytes,
    put_back,
)
from tools import edit, run_dff

Dff = Callable[..., Result]
RESOURCES = Resources()


@pytest.fixture(autouse=True)
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFF_KEEP", "3")


@dataclasses.dataclass(frozen=True)
class Params:
    k: int = 1


class Runs:
    """Two stages in small, one after the other, that count how often they ran."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.ran: list[str] = []
        self.fail = False
        self.first = self._stage("first", {})
        self.second = self._stage("second", {"first": Path("artifacts/first")})

    def _stage(self, name: str, reads: dict[str, Path]) -> Stage[Params]:
        def run(params: Params, inputs: Inputs, work: Staging, resources: Resources) -> None:
            self.ran.append(f"{name} {params.k}")
            if self.fail:
                raise StageError("it failed")
            before = [(inputs[one] / "deep/result").read_text() for one in reads]
            (work.path / "deep").mkdir(exist_ok=True)
            (work.path / "deep" / "empty").touch()
            (work.path / "deep" / "result").write_text(f"{before} {name} {params.k}")
            write_record(work.path, stage=name, fingerprint=work.fingerprint)

        run.__module__ = "stages.index.stage"  # its code stands for that of these
        return Stage(name, 1, Params, reads, Path("artifacts") / name, run, "")

    def __call__(self, k: int, **resources: object) -> list[str]:
        """Run both, with k for the first; what had to be run."""
        self.ran.clear()
        execute(self.first, Params(k), self.project, Resources(**resources))  # type: ignore[arg-type]
        execute(self.second, Params(), self.project, Resources(**resources))  # type: ignore[arg-type]
        return list(self.ran)

    def result(self, name: str = "second") -> str:
        return (self.project / "artifacts" / name / "deep/result").read_text()

    @property
    def out(self) -> Path:
        return self.project / "artifacts/first"


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


BOTH = ["first 1", "second 1"]


# -- a stage -------------------------------------------------------------------------------------


def test_what_is_up_to_date_is_left_alone(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs(1) == BOTH
    before = listing(runs.project / "artifacts/second")
    assert runs(1) == []
    assert "first: up to date" in capsys.readouterr().err
    assert listing(runs.project / "artifacts/second") == before


def test_going_back_and_forth_runs_nothing(runs: Runs) -> None:
    assert runs(1) == BOTH
    one = runs.result()
    assert runs(2) == ["first 2", "second 1"]
    two = runs.result()
    assert one != two
    for k, expected in ((1, one), (2, two), (1, one)):
        assert runs(k) == []
        assert runs.result() == expected
    assert not list((runs.project / "artifacts/.staging").glob("*/*/*")), "nothing is left over"


def test_removed_artifacts_come_back(runs: Runs) -> None:
    runs(1)
    expected = runs.result()
    shutil.rmtree(runs.project / "artifacts/first")
    shutil.rmtree(runs.project / "artifacts/second")
    assert runs(1) == [] and runs.result() == expected


def test_force_runs_everything(runs: Runs) -> None:
    runs(1)
    assert runs(1, reuse=False) == BOTH
    assert runs(1) == []


def test_other_code_is_never_brought_back(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(1)
    with monkeypatch.context() as patch:
        patch.setattr(frame, "code_digest", lambda module: "changed")
        assert runs(1) == BOTH
        assert runs(1) == []
    # the second's own code and params are as before, what it reads was made anew
    assert runs(1) == [], "the first copies are still there, inputs and all"


def test_an_input_that_other_code_made_counts_as_another(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(1)
    runs.ran.clear()
    with monkeypatch.context() as patch:
        patch.setattr(frame, "code_digest", lambda module: "changed")
        execute(runs.first, Params(1), runs.project, RESOURCES)
    execute(runs.second, Params(), runs.project, RESOURCES)
    assert runs.ran == BOTH


def test_another_place_for_arrays_is_another_artifact(runs: Runs) -> None:
    runs(1)
    assert runs(1, store="elsewhere") == BOTH


def test_a_failed_run_leaves_the_earlier_artifact(runs: Runs) -> None:
    """Also where DVC had removed it; and it is the one that was removed, not the last one made."""
    runs(1)
    one = runs.result("first")
    runs(2)
    assert runs(1) == [] and runs.result("first") == one
    shutil.rmtree(runs.out)
    runs.fail = True
    with pytest.raises(StageError):
        runs(7)
    assert runs.result("first") == one
    runs.fail = False
    assert runs(1) == [] and runs(2) == []


def test_readers_have_the_earlier_one_while_dvc_waits(runs: Runs) -> None:
    runs(1)
    shutil.rmtree(runs.out)
    seen = []
    stage = runs.first

    def run(params: Params, inputs: Inputs, work: Staging, resources: Resources) -> None:
        seen.append(runs.result("first"))
        stage.run(params, inputs, work, resources)

    run.__module__ = stage.run.__module__
    execute(dataclasses.replace(stage, run=run), Params(2), runs.project, RESOURCES)
    assert seen == ["[] first 1"] and runs.result("first") == "[] first 2"


@pytest.mark.parametrize("damage", ["written in place", "lost", "record", "half made"])
def test_a_damaged_copy_is_not_brought_back(runs: Runs, damage: str) -> None:
    runs(1)
    expected = runs.result()
    runs(2)
    (copy,) = [copy for copy in kept_copies(runs.out) if copy.files != listing(runs.out)]
    file = copy.artifact / "deep/result"
    if damage == "written in place":
        file.write_text(file.read_text().upper())  # as long as before
    elif damage == "lost":
        file.unlink()
    elif damage == "record":
        (copy.folder / "kept.json").write_text('{"made"')
    else:
        (copy.folder / "kept.json").unlink()
    assert runs(1) == BOTH
    assert runs.result() == expected
    assert len(list(copy.folder.parent.iterdir())) == 2, "the damaged one made room"


def test_a_published_artifact_that_was_written_in_place_is_made_anew(runs: Runs) -> None:
    """Its copy shares the file, and so the damage."""
    runs(1)
    file = runs.out / "deep/result"
    file.write_text(file.read_text().upper())
    assert runs(1)[0] == "first 1"
    assert runs.result("first") == "[] first 1"


def test_a_published_artifact_that_lost_a_file_is_brought_back(runs: Runs) -> None:
    runs(1)
    (runs.out / "deep/result").unlink()
    assert runs(1) == [] and runs.result("first") == "[] first 1"


def test_three_are_kept_the_least_recently_used_goes(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in (1, 2, 3, 1, 4):
        runs(k)
    assert len(kept_copies(runs.out)) == 3
    assert runs(1) == [] and runs(3) == []
    assert runs(2) == ["first 2", "second 1"]
    monkeypatch.setenv("DFF_KEEP", "0")
    assert runs(1) == BOTH and runs(1) == BOTH
    monkeypatch.setenv("DFF_KEEP", "many")
    with pytest.raises(StoreError, match="DFF_KEEP=many: must be a number"):
        runs(1)


def test_a_disk_without_links(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    runs(1)
    runs(2)
    assert runs(1) == [], "what is small is copied"
    monkeypatch.setattr("store.kept.COPIED_BYTES", 3)
    assert runs(4) == ["first 4", "second 1"]
    assert "first: no copy is kept (Operation not permitted)" in capsys.readouterr().err
    assert runs(2) == ["first 2", "second 1"], "nor can what is too large be brought back"
    assert not list(runs.out.parent.glob(f"{KEPT}/*/*.partial"))
    assert COPIED_BYTES > 2**20


# -- the store -----------------------------------------------------------------------------------


def publish(out: Path, content: str, made: str) -> None:
    with staging(out, made) as work:
        (work.path / "value").write_text(content)
        write_record(work.path, stage="s", fingerprint=made)


def test_copies_are_links_and_count_no_bytes_while_they_are(tmp_path: Path) -> None:
    out = tmp_path / "a"
    publish(out, "x" * 1000, "f")
    keep(out, {"fingerprint": "f"})
    copy = find_kept(out, {"fingerprint": "f"})
    assert copy is not None and (copy.artifact / "value").samefile(out / "value")
    about = (copy.folder / "kept.json").stat().st_size
    assert own_bytes([copy.folder]) == about
    publish(out, "y", "g")
    assert own_bytes([copy.folder]) > about + 1000
    assert find_kept(out, {"fingerprint": "f", "code": "other"}) is None
    assert put_back(copy, out) and (out / "value").read_text() == "x" * 1000
    found = copy_at(out)
    assert found is not None and found.folder == copy.folder


def test_what_was_brought_from_afar_is_kept_but_no_stages_result(tmp_path: Path) -> None:
    out = tmp_path / "a"
    adopt(out)
    publish(out, "x", "f")
    adopt(out)
    adopt(out)
    (copy,) = kept_copies(out)
    assert copy.made == {"fingerprint": "f"}
    keep(out, {"fingerprint": "f", "code": "c"})
    adopt(out)
    assert len(kept_copies(out)) == 2


def test_unfinished_work_survives_going_back(tmp_path: Path) -> None:
    out = tmp_path / "a"
    publish(out, "x", "f")
    keep(out, {"fingerprint": "f"})
    with pytest.raises(StageError), staging(out, "g") as work:
        work.checkpoint(done=1)
        raise StageError
    (copy,) = kept_copies(out)
    assert put_back(copy, out)
    with staging(out, "g") as work:
        assert work.progress == {"done": 1}
        write_record(work.path, stage="s", fingerprint="g")


def test_git_does_not_see_them(tmp_path: Path) -> None:
    publish(tmp_path / "a", "x", "f")
    keep(tmp_path / "a", {"fingerprint": "f"})
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    seen = subprocess.run(
        ["git", "status", "--porcelain", "-uall"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "a/value" in seen and KEPT not in seen


# -- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", [False, True])
def test_earlier_images_are_found_in_kept_copies(
    project: Path, photographs: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """DVC has removed the artifact, and the last one was of other images altogether."""
    from stages.algorithms.backbone import Backbone

    passes: list[int] = []
    call = Backbone.__call__

    def counted(self: Backbone, images: object) -> object:
        passes.append(len(images))  # type: ignore[arg-type]
        return call(self, images)  # type: ignore[arg-type]

    if elsewhere:
        monkeypatch.setenv("DFF_STORE", str(project / "arrays"))
    aside = photographs / "aside"
    (photographs / "images/more discs").rename(aside)
    assert dff("index").exit_code == dff("extract").exit_code == 0
    (photographs / "images/discs").rename(photographs / "others")
    aside.rename(photographs / "images/more discs")
    assert dff("index").exit_code == dff("extract").exit_code == 0
    (photographs / "others").rename(photographs / "images/discs")
    assert dff("index").exit_code == 0
    shutil.rmtree(project / "artifacts/activations.zarr")
    monkeypatch.setattr(Backbone, "__call__", counted)
    assert dff("extract").exit_code == 0
    assert passes == []
    assert len(list(project.glob("arrays/*.zarr"))) == 3 * elsewhere


def test_status_and_gc(project: Path, dff: Dff) -> None:
    assert dff("gc").stdout.startswith("dropped 0 copies: 0 B")
    assert dff("index").exit_code == 0
    edit(project, "sets: []", "sets: [discs]")
    assert dff("index").exit_code == 0
    edit(project, "sets: [discs]", "sets: []")
    status = dff("status").stdout
    assert "the wanted one is kept" in " ".join(status.split())
    assert "2 copies kept to go back to" in status
    before = dff("gc", "--dry-run").stdout
    assert before.startswith("would drop 1 copy:")
    after = dff("gc").stdout
    assert after == before.replace("would drop", "dropped")
    assert "1 copy kept" in dff("status").stdout
    (copy,) = kept_copies(project / "artifacts/index")
    assert copy.files == listing(project / "artifacts/index"), "that of the current one stays"
    shutil.rmtree(project / "artifacts/index")
    assert "earlier ones kept: 1" in dff("status").stdout
    assert dff("gc", "--keep", "0").exit_code == 0
    assert kept_copies(project / "artifacts/index") == []


def test_without_dvc_changed_code_is_noticed(
    project: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dff("index").exit_code == 0
    assert states(dff)["index"] == "fresh"
    monkeypatch.setattr(frame, "code_digest", lambda module: "changed")
    assert states(dff)["index"] == "stale"
    record = json.loads((project / "artifacts/index/artifact.json").read_text())
    assert dff("index").exit_code == 0
    assert states(dff)["index"] == "fresh"
    assert json.loads((project / "artifacts/index/artifact.json").read_text()) == record


def test_without_dvc_going_back_starts_no_stage(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[str] = []

    def in_this_process(command: list[str], *_: object) -> "subprocess.CompletedProcess[str]":
        started.append(command[3])
        return subprocess.CompletedProcess(command, run_dff(*command[3:]).exit_code)

    for module in ("pipeline.run_alone", "pipeline.status"):
        monkeypatch.setattr(f"{module}.STAGES", STAGES[:3])
    monkeypatch.setattr("pipeline.run_alone.run_child", in_this_process)
    factors = project / "artifacts/factors.zarr/zarr.json"
    run_alone(project, {})
    both = factors.read_bytes()
    edit(project, "k: [1, 2]", "k: [1]")
    run_alone(project, {})
    assert started == ["index", "extract", "factorize", "factorize"]
    assert factors.read_bytes() != both
    edit(project, "k: [1]", "k: [1, 2]")
    run_alone(project, {})
    assert len(started) == 4 and factors.read_bytes() == both
    said = capsys.readouterr().err
    assert "extract: fresh" in said and "factorize: was made before, brought back" in said


def states(dff: Dff) -> dict[str, str]:
    rows = [line.split() for line in dff("status").stdout.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) > 1}
