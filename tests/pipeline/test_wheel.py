"""What `pip install` brings: the wheel alone, in an environment and a folder far from here."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import pipeline
from tools import ROOT, edit

pytestmark = pytest.mark.xdist_group("wheel")  # one worker builds it

PACKAGES = ("pipeline", "stages", "store")
CACHES = ("__pycache__", "*.nbc", "*.nbi")
# All stages and an export by one process: one each would load the same libraries again and again,
# and that `dff run` starts them is tried elsewhere (test_dvc_run.py, test_compare.py).
EVERYTHING = """
from pipeline.cli import app
from pipeline.registry import BY_NAME
for command in (*BY_NAME, "export --format csv"):
    app(command.split(), standalone_mode=False)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel is built from; a copy, for building leaves files behind."""
    folder = tmp_path_factory.mktemp("source") / "tree"
    folder.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*CACHES))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(source / "dist"), str(source))
    (found,) = (source / "dist").glob("*.whl")
    return found


def pip(*arguments: str, python: str = sys.executable) -> None:
    command = [sys.executable, "-m", "pip", "--python", python, "--quiet", "--no-input", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_file_of_the_packages_is_in_the_wheel(source: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith(PACKAGES)}
    there = {
        path.relative_to(source).as_posix()
        for name in PACKAGES
        for path in (source / name).rglob("*")
        if path.is_file()
    }
    assert packed == there
    suffixes = {Path(name).suffix for name in packed}
    assert {".css", ".j2", ".csv", ".yaml", ".pth", ".json", ".typed"} <= suffixes


def test_the_wheel_alone_does_everything(wheel: Path, tmp_path: Path) -> None:
    """Environment, demo, export, then DVC: each takes seconds to start, so one test."""
    environment, home = tmp_path / "environment", tmp_path / "home"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip("install", "--no-deps", "--no-index", str(wheel), python=str(python))
    # the libraries of this environment, but not its `.pth` files, by which a checkout is found
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    share_compiled(site)
    home.mkdir()
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env |= {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "DFF_KEEP": "1"}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=home, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout or done.stderr

    script = (
        "import pipeline, stages, store; print(pipeline.__file__, stages.__file__, store.__file__)"
    )
    assert run("python", "-c", script).count(str(site)) == 3
    assert run("dff", "--version").strip() == f"dff {pipeline.__version__}"
    assert "then: dff run\n" in run("dff", "init", "demo")
    edit(home, "images: 24", "images: 2")
    edit(home, "sets: []", "sets: [car]")
    edit(home, "size: 224", "size: 64")
    edit(home, "k: [1, 2, 3, 4]", "k: [2]")
    run("python", "-c", EVERYTHING)
    assert f"report: {home / 'artifacts/report/index.html'}" in run("dff", "run")
    assert (home / "exports/csv").is_dir()

    (home / "params.yaml").rename(home / "chosen.yaml")
    run("dff", "init", "demo", "--dvc")
    (home / "chosen.yaml").replace(home / "params.yaml")
    run("git", "init", "-q")
    dvc = (sys.executable, "-m", "dvc")
    run(*dvc, "init", "-q")
    # the others run by the same commands: what `dff run` has made is put on record
    assert "> dff index" in run(*dvc, "repro", "index")
    run(*dvc, "commit", "-f", "-q")
    assert "artifacts" not in run("git", "status", "--short", "--untracked-files=all")
    # code that changes runs what it is the code of, and nothing else
    with (site / "stages/report/page.py").open("a") as module:
        module.write("# another version\n")
    run("dff", "code", "artifacts/code.json")
    changed = json.loads(run(*dvc, "status", "--json"))
    assert set(changed) == {"code", "index", "report"}, "the first two are always asked"


def share_compiled(site: Path) -> None:
    """Give the installed code the loops that this checkout has compiled: it takes a minute."""
    for path in (site / "stages").rglob("*.py"):
        inside = path.relative_to(site)
        compiled = (ROOT / inside).parent.glob(f"__pycache__/{path.stem}.*.nb?")
        for found in list(compiled):
            (path.parent / "__pycache__").mkdir(exist_ok=True)
            shutil.copy2(found, path.parent / "__pycache__")
            shutil.copystat(ROOT / inside, path)
