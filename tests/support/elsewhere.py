"""`dff` of another copy of the code, by one process that loads it once."""

import json
import os
import subprocess
import sys
from pathlib import Path

SERVER = """
import json, os, sys
from tools import run_dff

for line in sys.stdin:
    folder, arguments = json.loads(line)
    os.chdir(folder)
    result = run_dff(*arguments)
    error = "" if isinstance(result.exception, SystemExit) else str(result.exception or "")
    print(json.dumps([result.exit_code, result.stdout, result.stderr + error]), flush=True)
"""


class Elsewhere:
    """A context in which commands of another copy of the code are run."""

    def __init__(self, code: Path) -> None:
        self._path = os.pathsep.join([str(code), str(Path(__file__).parent)])

    def __enter__(self) -> "Elsewhere":
        self._server = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER],  # not from the folder it starts in
            env=os.environ | {"PYTHONPATH": self._path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin and self._server.stdout
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._server.stdout.close()

    def dff(self, folder: Path, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a command in a folder."""
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps([str(folder), arguments]) + "\n")
        self._server.stdin.flush()
        code, output, errors = json.loads(self._server.stdout.readline())
        return code, output, errors
