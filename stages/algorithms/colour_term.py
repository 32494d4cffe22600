"""The mean field's colour term, as numbers; `stages.algorithms.bilateral` says what it does.

Torch is not imported here: the compiled loops need none.
"""

from dataclasses import dataclass

from stages.algorithms.refinement_defaults import (
    COLOUR_CELLS,
    COLOUR_REACH,
    COLOUR_SIGMA,
    COLOUR_WEIGHT,
)


@dataclass(frozen=True)
class ColourTerm:
    """The colour term of the mean field.

    Attributes
    ----------
    weight : float
        Strength, in nats, >= 0.
    colour : float
        Standard deviation of the kernel in colour, in units of CIE Lab (about 2 is a just
        noticeable difference), > 0.
    reach : float
        Standard deviation of the kernel in place, as a share of the image's long side, > 0.
    cells : int
        Long side of the thumbnail, >= 1. The cost grows with its square.
    """

    weight: float = COLOUR_WEIGHT
    colour: float = COLOUR_SIGMA
    reach: float = COLOUR_REACH
    cells: int = COLOUR_CELLS

    def __post_init__(self) -> None:
        if not (self.weight >= 0 and self.colour > 0 and self.reach > 0 and self.cells >= 1):
            raise ValueError(
                f"weight must be >= 0, colour and reach > 0 and cells >= 1, got {self}"
            )


def thumbnail_of(size: tuple[int, int], cells: int) -> tuple[int, int]:
    """Rows and columns of the thumbnail of an image of ``size (h, w)``."""
    scale = min(1.0, cells / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
