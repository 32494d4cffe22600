"""The house rules that a reader relies on: floors, dvc.yaml and the list of stages."""

import ast
import dataclasses
from collections.abc import Iterator

import pytest
import yaml

from pipeline.registry import STAGES
from tools import ROOT

PACKAGES = ("pipeline", "stages", "store")
STANDARD_AND_STORE = {
    "numpy", "scipy", "zarr", "numcodecs", "google_crc32c", "fsspec", "filelock", "store",
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
    forbidden = ("store", "stages.stage", "stages.datasets", "stages.progress", "stages.parallel")
    assert imports("stages/algorithms", *forbidden) == []
    assert imports("stages/datasets", "store", "torch", "stages.stage", "stages.algorithms") == []


def test_no_stage_imports_another_stage() -> None:
    names = {f"stages.{stage.name}" for stage in STAGES}
    found = [
        f"{name} imports {one}"
        for name, imported in modules("stages")
        for one in sorted(imported & names)
        if not name.startswith(one)
    ]
    assert found == []


def test_dask_and_pydensecrf_have_one_door_each() -> None:
    def importers(*packages: str) -> set[str]:
        return {line.split()[0] for p in PACKAGES for line in imports(p, *packages)}

    assert importers("dask", "distributed") == {"stages.parallel"}
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
            assert text.count("\n") <= 420, f"{path}: split it"
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef):
                    length = (node.end_lineno or 0) - node.lineno
                    assert length <= 80, f"{path}: {node.name} has {length} lines"


@pytest.fixture(scope="module")
def dvc() -> dict:  # type: ignore[type-arg]
    return yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))


def test_dvc_yaml_follows_the_stages(dvc: dict) -> None:  # type: ignore[type-arg]
    assert list(dvc["stages"]) == [stage.name for stage in STAGES]
    for stage in STAGES:
        entry = dvc["stages"][stage.name]
        assert entry["cmd"] == f"dff {stage.name}"
        assert entry["params"] == [stage.name]
        outside = {"index": ["${index.root}"], "evaluate": ["${evaluate.labels}"]}
        inputs = [str(path) for path in stage.reads.values()]
        before = inputs + outside.get(stage.name, [])
        assert entry["deps"] == before + list(stage.code)
        assert entry["outs"] == [{str(stage.writes): {"persist": True}}]


def test_what_dvc_yaml_names_is_there(dvc: dict) -> None:  # type: ignore[type-arg]
    made = [str(stage.writes) for stage in STAGES]
    for entry in dvc["stages"].values():
        for path in entry["deps"]:
            assert path in made or path.startswith("$") or (ROOT / path).exists(), path
    assert dvc["metrics"] == ["artifacts/evaluation/metrics.json"]


def test_a_stages_code_covers_what_it_imports() -> None:
    """A change in any algorithm that a stage imports must make DVC run the stage again."""
    for stage in STAGES:
        module = f"stages.{stage.name}"
        imported = {
            one
            for name, found in modules("stages")
            if name == module or name.startswith(module + ".")
            for one in found
            if one.startswith(("stages.algorithms.", "stages.images", "stages.concept_maps"))
        }
        for one in sorted(imported):
            path = one.replace(".", "/")
            covered = any(
                path == code.removesuffix(".py") or path.startswith(code.removesuffix(".py") + "/")
                for code in stage.code
            )
            assert covered, f"{stage.name} imports {one}, which its `code` does not name"


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
