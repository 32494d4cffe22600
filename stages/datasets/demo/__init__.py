"""The embedded default data set: procedural scenes with exact part masks.

Nothing is downloaded: every picture is computed from a kind, a seed and a size.
"""

from stages.datasets.demo.scenes import (
    DEMO_SETS,
    KINDS,
    SETTINGS,
    Scene,
    draw_scene,
    part_names,
    write_demo,
)

__all__ = ["DEMO_SETS", "KINDS", "SETTINGS", "Scene", "draw_scene", "part_names", "write_demo"]
