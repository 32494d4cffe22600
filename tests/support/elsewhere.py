"""`dff` of another copy of the code, by one process that loads it once."""

import json
import os
from pathlib import Path

from server import Server

SERVER = """
import json, os, sys
from tools import run_dff

os.fsync = os.fstat  # as in tests/conftest.py
for line in sys.stdin:
    folder, arguments = json.loads(line)
    os.chdir(folder)
    result = run_dff(*arguments)
    error = "" if isinstance(result.exception, SystemExit) else str(result.exception or "")
    print(json.dumps([result.exit_code, result.stdout, result.stderr + error]), flush=True)
"""


class Elsewhere(Server):
    """A context in which commands of another copy of the code are run."""

    def __init__(self, code: Path) -> None:
        path = os.pathsep.join([str(code), str(Path(__file__).parent)])
        # not from the folder it starts in
        super().__init__(SERVER, ["-P"], os.environ | {"PYTHONPATH": path})

    def dff(self, folder: Path, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a command in a folder."""
        code, output, errors = json.loads(self.ask(json.dumps([str(folder), arguments])))
        return code, output, errors
