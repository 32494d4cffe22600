"""What the page to explore needs to name factors: their names, and what lets these follow them."""

from typing import Any

from stages.artifacts.evaluation import BACKGROUND, OBJECT
from stages.naming.labels import packed
from stages.report.opened import Opened


def facts_of_names(opened: Opened) -> dict[str, Any]:
    """Whose names labels.yaml has, and what they are.

    Of one layer and seed, as in labels.yaml. ``names`` and ``seen`` have an entry for each image
    set, in order: by k the list of names of each factor, for those k that have names; and images.
    """
    names, sets = opened.names, list(opened.factors.sets)
    return {
        "factors": opened.factors.fingerprint,
        "layer": names.layer,
        "seed": names.seed,
        "names": [
            {str(k): [list(one) for one in named.names] for k, named in by_k.items()}
            for by_k in (names.sets.get(name, {}) for name in sets)
        ],
        "seen": [sorted(names.seen.get(name, ())) for name in sets],
        "parts": _annotated(opened),
        "notes": list(names.notes),
    }


def _annotated(opened: Opened) -> list[str]:
    """Names that are scored: of annotated parts, then of the object and the ground."""
    parts = set(opened.evaluation.coverage["part"])
    first = sorted(parts - {OBJECT, BACKGROUND})
    return [*first, OBJECT, BACKGROUND] if parts else []


def directions_of_set(opened: Opened, rank: int) -> dict[str, str]:
    """The payload ``names``: by k the rows of W, as labels.yaml has them."""
    of, W = opened.factors.factorizations, opened.factors.at(opened.names.layer).W[rank]
    return {str(k): packed(W[of.columns_of(k, opened.names.seed)]) for k in of.ks}
