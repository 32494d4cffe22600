"""The bar of `stages.frame.progress`, apart: only a terminal needs what draws it."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Work per second so far."""
        return Text(f"{task.finished_speed or task.speed or 0:.1f} {self.unit}/s", style="cyan")


def make_bar(unit: str) -> Progress:
    """A bar on standard error that counts some unit."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
