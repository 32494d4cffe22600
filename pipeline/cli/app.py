"""The application: its options, its errors, its entry point."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import pipeline
from pipeline.summaries import SUMMARIES

# The stages, and what works on them, are imported where they are used, here and in the modules of
# the commands: loading them takes several times as long as all that help and completion need.


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is no accident: one line, and the exit code that shells give it."""
    try:
        yield
    except BaseException as error:
        # Libraries that are interrupted while they close a file may raise something else over it.
        under: BaseException | None = error
        while under is not None and not isinstance(under, KeyboardInterrupt):
            under = under.__context__
        if under is None:
            raise
        print("dff: interrupted; the work so far is kept, run it again to go on", file=sys.stderr)
        raise typer.Exit(130) from error


class _Interruptible(TyperGroup):
    """Commands that can be interrupted from the first module on that they load."""

    def invoke(self, ctx: Any) -> Any:
        with interruptible():
            return super().invoke(ctx)


app = typer.Typer(
    name="dff",
    cls=_Interruptible,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help=(
        "Deep Feature Factorization: find the concepts that images share.\n\n"
        "Start with `dff init PHOTOGRAPHS`, look through params.yaml, then `dff run`. The report "
        "is artifacts/report/index.html. Stages run one by one with the commands named after "
        "them, in this order: " + ", ".join(SUMMARIES) + "."
    ),
)


def _version(asked: bool) -> None:
    if asked:
        print(f"dff {pipeline.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


Project = Annotated[
    Path, typer.Option("--project", "-C", help="Folder with params.yaml.", show_default="here")
]
Device = Annotated[str, typer.Option(envvar="DFF_DEVICE", help="auto, cpu, cuda or cuda:N.")]
Workers = Annotated[
    int, typer.Option(envvar="DFF_WORKERS", min=0, help="Threads or processes; 0: one per core.")
]
Memory = Annotated[
    str, typer.Option(envvar="DFF_MEMORY", help="Budget such as 8GiB; auto: half of what is free.")
]
CLUSTER_HELP = "Work on a dask scheduler's workers (tcp://HOST:8786), or in N processes (local:N)."
Cluster = Annotated[str, typer.Option(envvar="DFF_CLUSTER", help=CLUSTER_HELP)]
STORE_HELP = "Folder or fsspec URL (s3://bucket/prefix) to put activations into."
REUSE_HELP = "Take over what was made before: kept copies, and rows of known images."
Store = Annotated[str, typer.Option(envvar="DFF_STORE", help=STORE_HELP)]
Reuse = Annotated[bool, typer.Option(envvar="DFF_REUSE", help=REUSE_HELP)]


def told_late(tell: Callable[[TyperCommand], None]) -> type[TyperCommand]:
    """A kind of command whose help says what takes long to load: `tell` puts it in when asked."""

    class ToldLate(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            tell(self)
            super().format_help(ctx, formatter)

    return ToldLate


def main() -> None:
    """Errors that a user can mend become one line."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        _with_its_output(app)
    except Exception as error:
        from pipeline.cli.errors import USER_ERRORS

        if not isinstance(error, USER_ERRORS):
            raise
        # one line, whatever a library put into its message
        print(f"dff: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)


def _with_its_output(command: Callable[[], None]) -> None:
    """Run a command; what it printed is out, or it has failed."""
    try:
        try:
            command()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # of `dff status | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.filename is not None:  # a file's error, not that of the output
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"dff: what it says cannot be written ({error.strerror})", file=sys.stderr)
        sys.exit(1)
