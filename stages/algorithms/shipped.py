"""Weights that ship with the project, found without torch, which takes seconds to import."""

from pathlib import Path

FAMILIES = Path(__file__).parent / "backbone" / "families"


def shipped_weights(backbone: str, weights: str) -> Path | None:
    """The file of a network's weights of this name, where a family brings it along.

    See `Family.weights`: it lies beside the family's module.
    """
    name = f"{backbone}-{weights}.pth"
    if Path(name).name != name:
        return None  # a path is no name
    return next(
        (path for folder in (FAMILIES, *FAMILIES.iterdir()) if (path := folder / name).is_file()),
        None,
    )
