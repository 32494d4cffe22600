"""The code behind a stage: every file of this project that it imports, and what lies beside them.

Nothing is listed by hand: what a stage imports decides what re-runs it. Imports for type checkers
alone do not count; those inside functions do.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The application is left out: it decides what runs and what is printed, not what comes out.
PACKAGES = ("stages", "store")
# Strings and comments, which hide what is in them, what type checkers alone read, and statements
# that import from these packages. Found so, all imports take a tenth of what parsing takes, which
# is most of what a run does that finds everything fresh; the tests compare the two.
_TEXT = re.compile(
    r"""
      "(?: ""[\s\S]*?\"{3} | (?:[^"\\\n] | \\.)*" )
    | '(?: ''[\s\S]*?'{3} | (?:[^'\\\n] | \\.)*' )
    | \#.*
    | ^(?P<indent>\ *) if\ TYPE_CHECKING:.*\n (?: (?P=indent)\ +\S.*\n | \ *\n )*
    | ^\ *(?P<statement> (?:from|import)\ (?:PACKAGES)\b (?: [^\n(] | \([^)]*\) )* )
    """.replace("PACKAGES", "|".join(PACKAGES)),
    re.MULTILINE | re.VERBOSE,
)


@cache
def code_files(module: str) -> tuple[Path, ...]:
    """Files that a module's work depends on, relative to the folder of the packages, sorted.

    Besides the modules these are the files without suffix ``.py`` in their folders (weights,
    tables, templates), a folder without modules counting as part of the one above it.
    """
    modules: set[str] = set()
    waiting = [module]
    while waiting:
        one = waiting.pop()
        if one not in modules:
            modules.add(one)
            waiting += _imported(one)
    files = {_file(one) for one in modules}
    for folder in {file.parent for file in files if file.parent.name not in PACKAGES}:
        files |= set(_beside(folder))
    return tuple(sorted(file.relative_to(ROOT) for file in files))


def code_paths(module: str) -> tuple[str, ...]:
    """`code_files` for a person: a folder that is needed for the most part stands for all of it."""
    files = set(code_files(module))

    def stands(folder: Path) -> bool:
        inside = _all_of(folder)
        return 2 * len(inside & files) > len(inside)

    paths: list[Path] = []
    for file in sorted(files):
        # never all of the stages: the packages in it are rooms of their own
        whole = [folder for folder in reversed(file.parents[:-1]) if folder != Path("stages")]
        path = next((folder for folder in whole if stands(folder)), file)
        if path not in paths:
            paths.append(path)
    return tuple(path.as_posix() for path in paths)


@cache
def code_digest(module: str) -> str:
    """SHA-256 over the names and contents of `code_files`."""
    digest = hashlib.sha256()
    for file in code_files(module):
        digest.update(f"{file.as_posix()}\0{_content(file)}\n".encode())
    return digest.hexdigest()


@cache
def code_of_all() -> str:
    """SHA-256 over all files of these packages: what two machines must have in common."""
    digest = hashlib.sha256()
    for file in sorted(file for package in PACKAGES for file in _all_of(Path(package))):
        digest.update(f"{file.as_posix()}\0{_content(file)}\n".encode())
    return digest.hexdigest()


@cache
def _content(file: Path) -> str:
    return hashlib.sha256((ROOT / file).read_bytes()).hexdigest()


@cache
def _all_of(folder: Path) -> frozenset[Path]:
    return frozenset(file.relative_to(ROOT) for file in (ROOT / folder).rglob("*") if _counts(file))


def _counts(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts


def _beside(folder: Path) -> Iterator[Path]:
    """Files that are no modules in a folder, and in those below it that have no modules."""
    for file in folder.iterdir():
        if file.is_dir() and file.name != "__pycache__" and not any(file.glob("*.py")):
            yield from _beside(file)
        elif _counts(file) and file.suffix != ".py":
            yield file


@cache
def _imported(module: str) -> tuple[str, ...]:
    """Modules of this project that one imports, and the packages that this runs."""
    parent = module.rpartition(".")[0]
    found = [parent] if parent else []
    for node in _imports(_file(module).read_text(encoding="utf-8")):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # what is imported from a package may be a module
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [name for name in names if _is_ours(name)]
    return tuple(found)


def _imports(source: str) -> list[ast.stmt]:
    """Statements that import from our packages, but for those for type checkers alone."""
    found = (match["statement"] for match in _TEXT.finditer(source))
    return ast.parse("\n".join(one for one in found if one)).body


@cache
def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES and _file(module).is_file()


@cache
def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    package = path / "__init__.py"
    # beside a module there may be a folder of its name, of other files
    return package if package.is_file() else path.with_suffix(".py")
