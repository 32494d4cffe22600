"""What to say of a name that nobody knows."""

import difflib
from collections.abc import Iterable

NAMED = 20  # known names that a suggestion lists at most


def suggestion(
    value: str, known: Iterable[str], most: int = 1, otherwise: str | None = None
) -> str:
    """The nearest of the known names, or what there is.

    Parameters
    ----------
    most : int
        So many names at most, the nearest first; upper and lower case are alike.
    otherwise : str, optional
        What to say where none is near, instead of what there is.
    """
    known = list(known)
    by_lower_case = {name.lower(): name for name in known}
    near = difflib.get_close_matches(value.lower(), by_lower_case, n=most)
    if near:
        return f"did you mean {' or '.join(repr(by_lower_case[name]) for name in near)}?"
    if otherwise is not None:
        return otherwise
    return f"there are {', '.join(known[:NAMED])}{', ...' if len(known) > NAMED else ''}"
