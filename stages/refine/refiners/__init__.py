"""Refiners: one module for each, and their names.

A new one follows `stages.refine.refiners.refiner.Refiner` and has its name here; params, the stage,
the preview, benchmarks and tests find it by that.
"""

from stages.refine.refiners.densecrf import DenseCrf
from stages.refine.refiners.guided import Guided
from stages.refine.refiners.none import Unrefined
from stages.refine.refiners.refiner import Refiner

REFINERS: dict[str, type[Refiner]] = {
    "guided": Guided,
    "densecrf": DenseCrf,
    "none": Unrefined,
}
