"""Where `dff` starts: Ctrl-C is one line also while all else is being loaded."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Entry point of the command."""
    # Zarr reads parts of its metadata within assert statements, which -O leaves out; and in the C
    # locale, names of files would not be text.
    if sys.flags.optimize or sys.getfilesystemencoding() != "utf-8":
        env = {key: value for key, value in os.environ.items() if key != "PYTHONOPTIMIZE"}
        again = [sys.executable, "-m", "pipeline", *sys.argv[1:]]
        os.execve(sys.executable, again, env | {"PYTHONUTF8": "1"})
    signal.signal(signal.SIGTERM, _terminated)
    try:
        from pipeline.cli import main as command

        command()
    except KeyboardInterrupt:
        print("dff: interrupted; the work so far is kept, run it again to go on", file=sys.stderr)
        sys.exit(130)


def _terminated(number: int, frame: FrameType | None) -> None:
    """Leave as after an error: files are closed, and processes that were started are stopped."""
    sys.exit(128 + number)
