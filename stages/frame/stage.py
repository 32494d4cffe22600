"""What a stage is.

Stage modules import torch and what needs it inside their functions: it takes seconds, and the
command line's help, `dff init` and `dff status` need only the params.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from stages.frame.code import code_paths
from stages.frame.memory import Needs
from stages.frame.resources import Resources
from store import Staging

P = TypeVar("P")


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
    files : tuple of str
        Params that name files or folders to be read besides artifacts.
    always : bool
        DVC asks the stage every time, which itself knows whether what it reads has changed.
    sources : callable, optional
        Digest of what is read besides artifacts: ``sources(params, project)``.
    forget : callable, optional
        ``forget(project)`` drops what is remembered of the sources between runs, so that they are
        read whole: without reuse.
    clustered : bool
        Whether its work is spread over the workers of a cluster.
    foretell : callable, optional
        ``foretell(params, outline, inputs, resources)``, whether or not there are artifacts: what
        the outline (`stages.artifacts.outline`) will be with this one, and what a run needs. Inputs
        are the artifacts that are there and fresh, the stage's own among them.
    """

    name: str
    version: int
    params: type[P]
    reads: Mapping[str, Path]
    writes: Path
    run: Callable[[P, Inputs, Staging, Resources], None]
    files: tuple[str, ...] = ()
    always: bool = False
    sources: Callable[[P, Path], str] | None = None
    forget: Callable[[Path], None] | None = None
    clustered: bool = True
    foretell: Callable[[P, Any, Inputs, Resources], tuple[Any, Needs]] | None = None

    @property
    def code(self) -> tuple[str, ...]:
        """Files and folders whose change must run the stage again; see `stages.frame.code`."""
        return code_paths(self.run.__module__)
