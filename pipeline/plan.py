"""`dff plan`: what a run would do, before anything runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.params import read_params
from pipeline.registry import STAGES
from pipeline.signs import check_signs
from pipeline.status import readable_size, stage_states
from stages.artifacts.outline import Outline
from stages.frame.memory import Needs
from stages.frame.rates import read_rate
from stages.frame.resources import Resources
from stages.frame.stage import Inputs


@dataclass(frozen=True)
class Line:
    """What is known of one stage beforehand.

    Attributes
    ----------
    state : str
        As `dff status` has it.
    needs : Needs or None
        None where the stage does not say, or nobody knows yet (of images that are still to be
        drawn).
    workers : int
        That fit the budget; 0 when it would be refused.
    seconds : float or None
        By the rate of an earlier run, for the images of this one; None without one.
    """

    name: str
    state: str
    needs: Needs | None
    workers: int
    seconds: float | None


def planned(project: Path, resources: Resources) -> Iterator[Line]:
    """Every stage in order; nothing is made.

    Raises
    ------
    ParamsError, StageError, DatasetError
        As a run would raise them before its first stage: wrong params, no such photographs.
    """
    params = read_params(project)
    states = list(stage_states(project))
    fresh = {stage.name: project / stage.writes
             for stage, state in zip(STAGES, states, strict=True)
             if state.state == "fresh"}  # fmt: skip
    inputs = Inputs(project, fresh, {})
    outline = Outline()
    for stage, state in zip(STAGES, states, strict=True):
        needs = None
        if stage.foretell is not None and (outline.images or not stage.reads):
            outline, needs = stage.foretell(params[stage.name], outline, inputs, resources)
        workers = needs.workers_within(resources) if needs else 0
        rate = read_rate(project / stage.writes)
        seconds = outline.images / rate if outline.images and rate else None
        yield Line(stage.name, state.state, needs, workers, seconds)
    check_signs(project, params)  # last: what it loads is no part of what stages need


def print_plan(project: Path, resources: Resources) -> None:
    """The plan as a table, and what would be refused."""
    table = Table(
        "stage", "state", "images", "reads", "writes", "peak memory", "workers", "time", box=None
    )
    refused = []
    for line in planned(project, resources):
        needs = line.needs
        if needs is None:
            table.add_row(line.name, line.state, *["–"] * 5, _time(line.seconds))
            continue
        if not line.workers:
            refused.append(line)
        table.add_row(
            line.name,
            line.state,
            str(needs.images),
            *(readable_size(one) if one else "–" for one in (needs.reads, needs.writes)),
            readable_size(needs.peak(max(1, line.workers))),
            str(line.workers) if line.workers else "none fits",
            _time(line.seconds),
        )
    Console(markup=False).print(table)
    for line in refused:
        assert line.needs is not None
        print(
            f"{line.name} would be refused: it needs about {readable_size(line.needs.least)}, the "
            f"budget is {readable_size(resources.memory)}: {line.needs.remedy or 'raise --memory'}"
        )


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
