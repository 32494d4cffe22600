"""`dff compile` compiles what a usual run needs: asked of Numba, after both."""

import json
import shutil
import sys
from pathlib import Path

from tools import ROOT, shell

# What Numba has compiled, or found kept, of our functions that Python calls.
SEEN = """
import json, sys
def seen():
    found = []
    for name, module in list(sys.modules.items()):
        if name.startswith(("stages.", "store.")):
            for loop in list(vars(module).values()):
                if hasattr(loop, "nopython_signatures") and loop.__module__ == name:
                    found += [f"{name}.{loop.__name__}{args}" for args in loop.signatures]
    return sorted(set(found))
"""


def _loops(folder: Path, code: str) -> set[str]:
    done = shell(folder, ROOT, sys.executable, "-c", f"{SEEN}\n{code}\nprint(json.dumps(seen()))")
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_run_needs_nothing_else(finished: Path, tmp_path: Path) -> None:
    ahead = _loops(tmp_path, "from pipeline.ahead import PARTS\nfor part in PARTS: part()")
    project = tmp_path / "project"
    shutil.copytree(finished, project)
    needed = _loops(
        project,
        "from pipeline.cli import app\n"
        "for stage in ('factorize', 'heatmaps', 'refine', 'evaluate', 'report'):\n"
        "    app([stage, '--no-reuse'], standalone_mode=False)",
    )
    assert len(needed) > 15
    assert needed <= ahead
