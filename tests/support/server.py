"""A process that answers lines on its standard input, for a `with` block."""

import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Self


class Server:
    """What runs `code` in a process of its own.

    Parameters
    ----------
    code : str
        Python.
    flags : sequence of str
        For the interpreter.
    env : dict, optional
        Its environment; by default this process's.
    """

    def __init__(
        self, code: str, flags: Sequence[str] = (), env: dict[str, str] | None = None
    ) -> None:
        self._command, self._env = [sys.executable, *flags, "-c", code], env

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            self._command,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.close()
        self._server.wait(timeout=60)
        self._answered.close()

    @property
    def _asked(self) -> IO[str]:
        assert self._server.stdin
        return self._server.stdin

    @property
    def _answered(self) -> IO[str]:
        assert self._server.stdout
        return self._server.stdout

    def ask(self, line: str) -> str:
        """The line that answers one."""
        self._asked.write(line + "\n")
        self._asked.flush()
        return self._answered.readline()
