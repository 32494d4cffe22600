"""`dff beside`: two reports in one folder. What the page shows is in tests/stages."""

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.beside import compared
from pipeline.registry import BY_NAME
from pipeline.sides import Side, flat_params
from stages.report.packed import FORMAT, read_script, script
from stages.report.thumbnails import FOLDERS
from tools import edit, message, run_dff, run_in_process, shell

pytestmark = pytest.mark.xdist_group("results")  # one worker makes its projects

REPORT = BY_NAME["report"].writes


@pytest.fixture(scope="module")
def two(reported: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two projects that were run, which differ in k."""
    one = tmp_path_factory.mktemp("two") / "one"
    shutil.copytree(reported, one)
    other = one.with_name("other")
    shutil.copytree(one, other)
    edit(other, "k: [1, 2]", "k: [3]")
    (other / "labels.yaml").unlink()
    run_in_process(other, "factorize", "heatmaps", "refine", "evaluate", "explain", "report")
    return one, other


def payload(folder: Path) -> dict[str, Any]:
    return dict(read_script(folder / "data/beside.js", "beside"))


def test_both_reports_lie_in_one_folder(two: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "compared"
    result = run_dff("beside", *map(str, two), "--out", str(out))
    assert result.exit_code == 0
    assert result.stdout.strip().endswith("compared/index.html")
    for folder, project in zip("ab", two, strict=True):
        source = project / REPORT
        for path in source.rglob("*"):
            if path.is_file():
                there = out / folder / path.relative_to(source)
                assert there.read_bytes() == path.read_bytes()
    assert (out / "a/index.html").samefile(two[0] / REPORT / "index.html"), "no second copy"
    for name in FOLDERS:
        a, b = (sorted((out / folder / name).iterdir()) for folder in "ab")
        assert len(a) == 4  # both sets have the same four photographs
        assert all(one.samefile(other) for one, other in zip(a, b, strict=True)), "once on the disk"
    page = (out / "index.html").read_text()
    assert '<html data-runs="a/ b/"' in page and 'href="b/index.html"' in page
    for script_of in re.findall(r'src="([^"]+)"', page):
        assert (out / script_of).is_file()
    assert not (out / "explore.html").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"compared"}, "nothing is left"

    told = payload(out)
    assert told["format"] == FORMAT and told["names"] == ["one", "other"]
    assert told["params"] == [["factorize.k", "[1, 2]", "[3]"]]
    assert told["paramsKnown"] == [True, True]
    assert told["sets"] == [{"ranks": [i, i], "images": 4} for i in range(2)]

    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        for path in out.rglob("*"):
            packed.write(path, path.relative_to(out))
        assert packed.testzip() is None


def test_an_earlier_one_is_replaced_when_asked(two: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    again = ("beside", *map(str, two), "--out", str(out))
    assert run_dff(*again).exit_code == 0
    assert "is there already" in message(run_dff(*again))
    named = run_dff(*again, "--force", "--names", "before", "../<b>after")
    assert named.exit_code == 0 and payload(out)["names"] == ["before", "../<b>after"]
    assert {path.name for path in out.iterdir()} == {
        "a", "b", "beside.json", "data", "explore", "index.html",
    }  # fmt: skip
    (out / "beside.json").unlink()
    assert "is nothing of `dff beside`" in message(run_dff(*again, "--force"))
    assert (out / "a").exists()


def test_what_cannot_be_shown_is_said_in_a_line(two: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"

    def refused(what: Path | str) -> str:
        options = ("--out", str(out), "--project", str(tmp_path))
        line = message(run_dff("beside", str(two[0]), str(what), *options))
        assert not out.exists() and not (tmp_path / ".staging").exists()
        return line

    assert "nor can it be a revision" in refused("nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "neither a project that was run nor a report's folder" in refused(empty)
    shutil.copy(two[0] / "params.yaml", empty)
    assert f"run `dff run --project {empty}`" in refused(empty)

    old = tmp_path / "old"
    shutil.copytree(two[0] / REPORT, old)
    index = old / "data/index.js"
    facts = read_script(index, "index")
    for found in (None, FORMAT + 1):
        index.write_bytes(script("index", {**facts, "format": found} if found else {
            name: value for name, value in facts.items() if name != "format"}))  # fmt: skip
        line = refused(old)
        assert f"has format {found or 0}, this version of dff reads {FORMAT}" in line
        assert "run `dff report` again" in line
    index.write_text("DFF.put(1)")
    assert "cannot be read" in refused(old)
    shutil.rmtree(old / "data")
    assert "no data to explore; run `dff report` again" in refused(old)


def test_nothing_is_written_into_a_report(two: tuple[Path, Path], tmp_path: Path) -> None:
    report = tmp_path / "report"
    shutil.copytree(two[0] / REPORT, report)
    before = sorted(report.rglob("*"))
    line = message(run_dff("beside", str(two[1]), str(report), "--out", str(report / "out")))
    assert "lies in the report" in line and sorted(report.rglob("*")) == before
    (report / "pictures/gone.jpg").symlink_to(tmp_path / "gone.jpg")
    line = message(run_dff("beside", str(two[1]), str(report), "--out", str(tmp_path / "out")))
    assert "gone.jpg: is gone" in line and not (tmp_path / "out").exists()


def test_without_links_files_are_copied(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    assert run_dff("beside", *map(str, two), "--out", str(tmp_path / "out")).exit_code == 0
    page = tmp_path / "out/b/index.html"
    assert page.read_bytes() == (two[1] / REPORT / "index.html").read_bytes()
    assert page.stat().st_nlink == 1


def test_a_folder_is_known_as_the_project_it_is_in(two: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = tmp_path / "sent"
    shutil.copytree(two[1] / REPORT, report)
    result = run_dff("beside", str(two[0] / REPORT), str(report), "--out", str(out))
    assert result.exit_code == 0
    told = payload(out)
    assert told["names"] == ["one", "sent"] and told["paramsKnown"] == [True, False]
    assert told["params"] == []

    # params.yaml that the report was not made with says nothing of it
    changed = tmp_path / "one"
    shutil.copytree(two[0], changed)
    edit(changed, "k: [1, 2]", "k: [5]")
    result = run_dff("beside", str(two[0]), str(changed), "--out", str(out), "--force")
    assert (
        result.exit_code == 0
        and "is not compared, for the report may be of other params" in result.stderr
    )
    told = payload(out)
    assert told["paramsKnown"] == [True, False]
    assert told["names"] == [str(two[0]), str(changed)], "folders of one name"


class Told(Side):
    """A side of which only names are known."""

    def images(self, rank: int) -> list[str]:
        return list(self.index["sets"][rank]["images"])


def told(params: dict[str, Any] | None = None, **sets: list[str]) -> Side:
    index = {"sets": [{"name": name, "images": images} for name, images in sets.items()]}
    return Told("label", Path("report"), index, params)


def test_sets_and_images_are_matched_by_name() -> None:
    a = told(x=["1", "2", "3"], both=["a", "b"])
    b = told(both=["b", "c"], y=[])
    assert compared((a, b), ("A", "B"))["sets"] == [{"ranks": [1, 0], "images": 1}]
    with pytest.raises(Exception, match="no image set of the same name in both: there are x and y"):
        compared((told(x=[]), told(y=[])), ("A", "B"))


def test_params_that_differ(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("a: {k: [1], s: {t: x}}\nb: 1\n")
    flat = flat_params(tmp_path / "params.yaml")
    assert flat == {"a.k": [1], "a.s.t": "x", "b": 1}
    (tmp_path / "params.yaml").write_text("- 1\n")
    assert flat_params(tmp_path / "params.yaml") is None

    a = {"k": [1, 2], "root": "/home/me/secret/photos", "one": None, "same": 1}
    b = {"k": [1], "root": "/mnt/photos", "two": "x", "same": 1}
    rows = compared((told(a, s=["1"]), told(b, s=["1"])), ("A", "B"))["params"]
    assert rows == [
        ["k", "[1, 2]", "[1]"],
        ["root", "…/secret/photos", "…/mnt/photos"],
        ["one", "null", None],
        ["two", None, "x"],
    ]


def test_links_that_dvc_put_there_are_followed(two: tuple[Path, Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(two[1] / REPORT, cache)
    linked = tmp_path / "linked"
    for path in cache.rglob("*"):
        if path.is_file():
            target = linked / path.relative_to(cache)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    out = tmp_path / "out"
    assert run_dff("beside", str(two[0]), str(linked), "--out", str(out)).exit_code == 0
    assert not [path for path in out.rglob("*") if path.is_symlink()]


def test_revisions_and_experiments_come_from_dvcs_cache(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    """A small repository of DVC's, whose one stage takes a report that is there."""
    project, made = tmp_path / "project", tmp_path / "made"
    project.mkdir()
    for name, source in zip("ab", two, strict=True):
        shutil.copytree(source / REPORT, made / name)
    (project / "take.py").write_text(
        "import shutil, yaml\n"
        "name = yaml.safe_load(open('params.yaml'))['report']['which']\n"
        f"shutil.copytree({str(made)!r} + '/' + name, {str(REPORT)!r})\n"
    )
    (project / "dvc.yaml").write_text(json.dumps({"stages": {"report": {
        "cmd": "python take.py", "params": ["report"], "outs": [str(REPORT)]}}}))  # fmt: skip
    (project / "params.yaml").write_text("report: {which: a}\n")

    def call(*command: str) -> "subprocess.CompletedProcess[str]":
        done = shell(project, project, *command)
        assert done.returncode == 0, done.stderr
        return done

    call("git", "init", "-q")
    call("git", "config", "user.name", "t")
    call("git", "config", "user.email", "t@t")
    call("dvc", "init", "-q")
    call("dvc", "repro", "-q")
    call("git", "add", "-A")
    call("git", "commit", "-qm", "one")
    call("git", "tag", "first")
    call("dvc", "exp", "run", "-q", "-n", "second", "-S", "report.which=b")
    call("git", "checkout", "-q", ".")

    out = tmp_path / "out"
    asked = ("beside", "first", "second", "--project", str(project), "--out", str(out))
    assert run_dff(*asked).exit_code == 0
    told = payload(out)
    assert told["names"] == ["first", "second"]
    assert told["params"] == [["report.which", "a", "b"]]
    for folder, name in zip("ab", "ab", strict=True):
        index = "data/index.js"
        assert (out / folder / index).read_bytes() == (made / name / index).read_bytes()

    line = message(run_dff("beside", "first", "third", *asked[3:], "--force"))
    assert "third: no such folder, nor such a revision or experiment" in line
    shutil.rmtree(project / ".dvc/cache")
    line = message(run_dff(*asked, "--force"))
    assert "first: DVC's cache has no report of this revision" in line
    assert payload(out) == told, "what was there stays"
