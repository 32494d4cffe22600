"""What a stage is, and how one is run: inputs -> staging folder -> published artifact.

Stage modules import torch and what needs it inside their functions: it takes seconds, and the
command line's help, `dff init` and `dff status` need only the params.
"""

import ctypes
import dataclasses
import difflib
import hashlib
import json
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from store import ArtifactMissing, Staging, staging
from store.artifact import read_attrs

P = TypeVar("P")
NAMED = 20  # known names that a suggestion lists at most


class StageError(Exception):
    """A stage cannot go on; one line says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Resources:
    """What a run may use. Never part of a fingerprint: results do not depend on it.

    Attributes
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    workers : int
        Threads or processes for decoding and refinement.
    memory : int
        Budget in bytes.
    cluster : str or None
        Address of a dask scheduler for the work that can be spread.
    store : str or None
        Folder or fsspec URL that activations are put into, instead of the artifact's folder.
    reuse : bool
        Take over what earlier artifacts have; False computes everything anew.
    """

    device: str = "auto"
    workers: int = 1
    memory: int = 4 * 2**30
    cluster: str | None = None
    store: str | None = None
    reuse: bool = True

    def torch_device(self) -> str:
        """The device by its name in torch: ``auto`` is CUDA where there is one.

        Raises
        ------
        StageError
            When this machine has no such device.
        """
        if self.device == "cpu" or (self.device == "auto" and not _has_cuda_driver()):
            return "cpu"
        import torch

        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        number = int(self.device.partition(":")[2] or 0)
        if number >= torch.cuda.device_count():
            raise StageError(
                f"--device {self.device}: this machine has {torch.cuda.device_count()} CUDA devices"
            )
        return self.device


def _has_cuda_driver() -> bool:
    """Whether it is worth the seconds to ask torch for a GPU; only Linux can say no."""
    if sys.platform != "linux":
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Inputs:
    """The artifacts a stage reads, and the folder that params.yaml lies in."""

    project: Path
    paths: Mapping[str, Path]
    fingerprints: Mapping[str, str]

    def __getitem__(self, name: str) -> Path:
        return self.paths[name]


@dataclass(frozen=True)
class Stage(Generic[P]):
    """One step of the pipeline, as data.

    Attributes
    ----------
    name : str
        Params section, DVC stage and CLI command at once.
    version : int
        Raised whenever the same params and inputs would give other results.
    params : type
        A frozen dataclass, validated in ``__post_init__``.
    reads : mapping of stage name to path
        Artifacts, relative to the project folder.
    writes : Path
    run : callable
        ``run(params, inputs, work, resources)`` fills ``work.path``.
    summary : str
        One line for the command's help.
    code : tuple of str
        Package folders and modules whose change must run the stage again.
    sources : callable, optional
        Digest of what is read besides artifacts: ``sources(params, project)``.
    """

    name: str
    version: int
    params: type[P]
    reads: Mapping[str, Path]
    writes: Path
    run: Callable[[P, Inputs, Staging, Resources], None]
    summary: str
    code: tuple[str, ...] = ()
    sources: Callable[[P, Path], str] | None = None


def param(default: Any, help: str) -> Any:
    """A field of a params dataclass with the line of help that `dff init` writes beside it."""
    return field(default=default, metadata={"help": help})


def check_choices(params: Any) -> None:
    """Check the fields that are annotated with a Literal; call it in ``__post_init__``.

    Raises
    ------
    ValueError
        For a value that is not one of the choices.
    """
    for name, hint in typing.get_type_hints(type(params)).items():
        value = getattr(params, name)
        if typing.get_origin(hint) is Literal and value not in (choices := typing.get_args(hint)):
            *most, last = choices
            raise ValueError(f"{name}: {value!r} is unknown, choose {', '.join(most)} or {last}")


def user_path(path: str, project: Path) -> Path:
    """A path as params have it: ``~/`` is the home folder, others are relative to params.yaml."""
    at_home = path == "~" or path.startswith("~/")
    return project / (Path(path).expanduser() if at_home else path)


def suggestion(value: str, known: Sequence[str]) -> str:
    """What to say of a name that is not among the known ones: the nearest of them, or what is."""
    close = difflib.get_close_matches(value, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are {', '.join(known[:NAMED])}{', ...' if len(known) > NAMED else ''}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, or why it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def digest(*parts: Any) -> str:
    """SHA-256 of JSON-able parts, as hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def fingerprint(stage: Stage[P], params: P, inputs: Mapping[str, str], sources: str = "") -> str:
    """What an artifact depends on: stage, version, params, input fingerprints, source files."""
    values = dataclasses.asdict(params)  # type: ignore[call-overload]
    return digest(stage.name, stage.version, values, dict(inputs), sources)


def gather_inputs(stage: Stage[Any], project: Path) -> Inputs:
    """Find the artifacts a stage reads.

    Raises
    ------
    ArtifactMissing
        When one is not there; the line names the stage to run first.
    """
    paths = {name: project / path for name, path in stage.reads.items()}
    found = {}
    for name, path in paths.items():
        attrs = read_attrs(path)
        if attrs is None:
            raise ArtifactMissing(
                f"{stage.reads[name]}: not there yet; run `dff {name}` first, or `dff run` for all"
            )
        found[name] = str(attrs["fingerprint"])
    return Inputs(project, paths, found)


def execute(stage: Stage[P], params: P, project: Path, resources: Resources) -> Path:
    """Run one stage and publish its artifact; goes on where a killed run stopped."""
    inputs = gather_inputs(stage, project)
    sources = stage.sources(params, project) if stage.sources else ""
    out = project / stage.writes
    with staging(out, fingerprint(stage, params, inputs.fingerprints, sources)) as work:
        stage.run(params, inputs, work, resources)
        if gather_inputs(stage, project).fingerprints != inputs.fingerprints:
            raise StageError(
                f"{stage.name}: one of its inputs was replaced while it ran; run it again"
            )
    return out
