"""The `dff` command: one module per panel of its help."""

# In the order of the panels.
# isort: off
from pipeline.cli import setup
from pipeline.cli import run
from pipeline.cli import concepts
from pipeline.cli import stage

# isort: on
from pipeline.cli.app import app, interruptible, main

__all__ = ["app", "concepts", "interruptible", "main", "run", "setup", "stage"]
