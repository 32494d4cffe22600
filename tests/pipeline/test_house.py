"""The house rules that a reader relies on: floors, dvc.yaml and the list of stages."""

import ast
import dataclasses
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.dvc_yaml import dvc_yaml
from pipeline.registry import STAGES
from stages.frame import code
from stages.frame.code import code_files
from stages.frame.stage import Stage
from tools import ROOT, copy_of_project, shell

PACKAGES = ("pipeline", "stages", "store")
RAW_ACCESS = {"attrs", "layer_array", "layer_blocks"}  # of a store's artifact
STANDARD_AND_STORE = {
    "numpy", "scipy", "numba", "zarr", "numcodecs", "google_crc32c", "fsspec", "filelock", "store",
}  # fmt: skip


def modules(package: str) -> Iterator[tuple[str, set[str]]]:
    """Every module below a package, with the modules it imports (also inside functions)."""
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: relative import"
                imported.add(node.module or "")
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
        yield name, imported


def imports(package: str, *forbidden: str) -> list[str]:
    """Modules of `package` that import something they must not."""
    return [
        f"{name} imports {one}"
        for name, imported in modules(package)
        for one in sorted(imported)
        if any(one == other or one.startswith(other + ".") for other in forbidden)
    ]


def test_imports_go_down_only() -> None:
    assert imports("store", "stages", "pipeline", "torch", "torchvision", "PIL", "rich") == []
    assert imports("stages", "pipeline", "typer") == []
    rooms = [path.name for path in (ROOT / "stages").iterdir() if path.is_dir()]
    others = [f"stages.{room}" for room in rooms if room != "algorithms"]
    assert imports("stages/algorithms", "store", *others) == []
    # fields with a line of help: that module imports nothing of this project but `suggestion`
    params, names = "stages.frame.params", "stages.algorithms.names"
    above = [f"stages.{room}" for room in rooms if room not in ("datasets", "images")]
    found = imports("stages/datasets", "store", "torch", *above)
    assert [line for line in found if f"imports {params}" not in line] == []
    found = [line for line in imports("stages/frame", *PACKAGES) if line.startswith(params)]
    assert [line for line in found if f"imports {names}" not in line] == []
    # the frame knows no images, maps or stages
    above = [f"stages.{room}" for room in rooms if room not in ("frame", "algorithms", "images")]
    assert imports("stages/frame", "stages.images", *above) == []
    assert imports("stages/images", "store", *above) == []


def test_no_stage_imports_another_stage() -> None:
    rooms = {f"stages.{stage.name}" for stage in STAGES} | {"stages.transform"}
    found = [
        f"{name} imports {one}"
        for name, imported in modules("stages")
        for one in sorted(imported)
        if (room := ".".join(one.split(".")[:2])) in rooms and not f"{name}.".startswith(room + ".")
    ]
    assert found == []


def test_there_are_no_import_circles() -> None:
    """Imports inside functions and for type checkers count as well."""
    names = {name for package in PACKAGES for name, _ in modules(package)}
    graph: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            mine = graph.setdefault(name, set())
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    mine |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    for alias in node.names:  # a module of a package, or what a module has
                        inside = f"{node.module}.{alias.name}"
                        mine.add(inside if inside in names else str(node.module))
    assert len(graph) > 100
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the modules


def test_artifacts_are_read_through_what_declares_them() -> None:
    """Names of attributes and small arrays stand in stages/artifacts, for writing and reading."""
    found = []
    for path in [*(ROOT / "stages").rglob("*.py"), *(ROOT / "pipeline").rglob("*.py")]:
        if path.parent == ROOT / "stages/artifacts":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in RAW_ACCESS:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: .{node.attr}")
    assert found == []


def test_dask_and_pydensecrf_have_one_door_each() -> None:
    def importers(*packages: str) -> set[str]:
        return {line.split()[0] for p in PACKAGES for line in imports(p, *packages)}

    assert {one.rpartition(".")[0] for one in importers("dask", "distributed")} == {
        "stages.frame.cluster"
    }
    assert importers("pydensecrf") == {"stages.algorithms.dense_crf"}
    assert all(name.startswith("pipeline.") for name in importers("typer"))


def test_the_store_needs_few_libraries() -> None:
    import sys

    roots = {one.split(".")[0] for _, imported in modules("store") for one in imported}
    assert roots - set(sys.stdlib_module_names) <= STANDARD_AND_STORE


def test_files_and_functions_stay_small() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert text.count("\n") <= 400, f"{path}: split it"
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef):
                    length = (node.end_lineno or 0) - node.lineno
                    assert length <= 80, f"{path}: {node.name} has {length} lines"


@pytest.fixture(scope="module")
def dvc() -> dict:  # type: ignore[type-arg]
    return yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))


def test_dvc_yaml_follows_the_stages(dvc: dict) -> None:  # type: ignore[type-arg]
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert text == dvc_yaml(), "write it anew: python -m pipeline.dvc_yaml"
    assert list(dvc["stages"]) == [stage.name for stage in STAGES]
    for stage in STAGES:
        assert dvc["stages"][stage.name]["cmd"] == f"dff {stage.name}"


def test_what_dvc_yaml_names_is_there(dvc: dict) -> None:  # type: ignore[type-arg]
    made = [str(stage.writes) for stage in STAGES]
    for entry in dvc["stages"].values():
        for path in entry["deps"]:
            assert path in made or path.startswith("$") or (ROOT / path).exists(), path
    assert dvc["metrics"] == ["artifacts/evaluation/metrics.json"]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stages_code_is_all_that_importing_it_loads(stage: Stage[Any]) -> None:
    """Asked of Python itself: what importing the stage brings in must make DVC run it again."""
    module = stage.run.__module__
    # what does the work is imported when it is done
    its = [path for path in code_files(module) if path.is_relative_to(f"stages/{stage.name}")]
    names = [".".join(path.with_suffix("").parts) for path in its if path.suffix == ".py"]
    assert module in names
    script = f"import sys, {', '.join(names)}; print(*(m for m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    ours = [name for name in loaded if name.partition(".")[0] in ("stages", "store")]
    assert len(ours) > 10
    for name in ours:
        path = ROOT.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        inside = file.relative_to(ROOT)
        places = {path.as_posix() for path in (inside, *inside.parents)}
        assert places & set(stage.code), f"{stage.name} imports {name}, which is not in its code"


def _parsed_imports(source: str) -> list[str]:
    """What `stages.frame.code` finds in the text, from a parsed file."""

    def statements(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
                yield child
                yield from statements(child)

    found = (
        ast.unparse(one)
        for one in statements(ast.parse(source))
        if isinstance(one, ast.Import | ast.ImportFrom)
    )
    return sorted(one for one in found if one.split()[1].partition(".")[0] in code.PACKAGES)


SOURCES = {
    "text": '"""A text.\n\nfrom store import a\n"""\nfrom store import (\n    b,\n    c,\n)\n',
    "comments": "if x:\n    import store.d, stages.e  # it's why\nstores = 1\n# import store\n",
    "checkers": "if TYPE_CHECKING:\n    from store import a\n\n    import store\nimport stages.b\n",
    "inside": "def f():\n    if TYPE_CHECKING:\n        import store\n    from store import g\n",
    "quotes": "a = 'it\\'s'\nb = \"\\\"'\"\nfrom stages.x import y\nc = '''\"\nimport store'''\n",
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_imports_are_found_as_python_finds_them(source: str) -> None:
    found = sorted(ast.unparse(one) for one in code._imports(source))
    assert found == _parsed_imports(source) != []


def test_all_imports_of_ours_are_found() -> None:
    for path in [*ROOT.glob("stages/**/*.py"), *ROOT.glob("store/**/*.py")]:
        source = path.read_text(encoding="utf-8")
        found = sorted(ast.unparse(one) for one in code._imports(source))
        assert found == _parsed_imports(source), path


def test_code_follows_imports_inside_functions_and_what_lies_beside() -> None:
    extract = code_files("stages.extract.stage")
    assert Path("stages/extract/device.py") in extract  # imported where there is a GPU
    assert any(path.suffix == ".pth" for path in extract)
    report = code_files("stages.report.stage")
    assert Path("stages/report/paper.csv") in report
    assert Path("stages/report/templates/style.css") in report
    assert Path("stages/report/explore.py") in report  # beside a folder of that name
    assert not any(path.parts[1] == "report" for path in extract)
    assert not any("__pycache__" in path.parts for path in report)


def test_a_changed_file_changes_the_digest_of_the_stages_that_import_it(tmp_path: Path) -> None:
    clone = copy_of_project(tmp_path / "clone", "stages", "store")
    script = (
        "from stages.frame.code import code_digest\n"
        "for stage in ('index', 'extract', 'factorize', 'report'):\n"
        "    print(code_digest(f'stages.{stage}.stage'))"
    )

    def digests() -> list[str]:
        return shell(clone, clone, sys.executable, "-c", script).stdout.split()

    before = digests()
    assert len(set(before)) == 4
    changed = clone / "stages/artifacts/image_index.py"
    changed.write_text(changed.read_text(encoding="utf-8") + "# a note\n", encoding="utf-8")
    after = digests()
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True, False]


def test_stages_are_frozen_and_follow_each_other() -> None:
    seen: set[str] = set()
    for stage in STAGES:
        assert set(stage.reads) <= seen, f"{stage.name} reads what comes later"
        seen.add(stage.name)
        for name, path in stage.reads.items():
            assert path == next(other.writes for other in STAGES if other.name == name)
        with pytest.raises(dataclasses.FrozenInstanceError):
            stage.version = 2  # type: ignore[misc]


def test_nothing_calls_home() -> None:
    config = (ROOT / ".dvc" / "config").read_text(encoding="utf-8")
    assert "analytics = false" in config
    assert "check_update = false" in config


def test_no_machine_paths_in_the_tree() -> None:
    for package in (*PACKAGES, "docs", "scripts"):
        for path in (ROOT / package).rglob("*"):
            if path.suffix in (".py", ".md", ".yaml", ".j2"):
                assert "/home/" not in path.read_text(encoding="utf-8"), path
