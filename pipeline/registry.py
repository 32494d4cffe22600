"""The stages, in order, as `pipeline.summaries` lists them: CLI, params.yaml, dvc.yaml follow it.

The stage NAME is what its module `stages.NAME.stage` calls by its name in capitals.
"""

from importlib import import_module
from typing import Any

from pipeline.summaries import SUMMARIES
from stages.frame.stage import Stage

STAGES: tuple[Stage[Any], ...] = tuple(
    getattr(import_module(f"stages.{name}.stage"), name.upper()) for name in SUMMARIES
)
BY_NAME: dict[str, Stage[Any]] = {stage.name: stage for stage in STAGES}
