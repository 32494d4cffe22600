"""What the concepts of one image set mean to the network: arrays of its own, all k together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.explanations import HINTS, NO_CLASS
from stages.artifacts.factorizations import Factorizations
from stages.explain.params import ExplainParams

if TYPE_CHECKING:
    from stages.algorithms.backbone.head import Head

Grid = NDArray[np.float32]


@dataclass(frozen=True)
class SampledSet:
    """Some images of a set at one layer.

    Attributes
    ----------
    activations, coefficients : sequences of float32 [h, w, channels] and [h, w, columns]
        Of the concepts in the activations themselves, however rows were normalised.
    W : float32 [columns, channels]
    mean : float32 [channels] or None
        What rows have besides, where it was taken away from them.
    """

    activations: Sequence[Grid]
    coefficients: Sequence[Grid]
    W: NDArray[np.float32]
    mean: NDArray[np.float32] | None = None

    def rebuilt(self, head: "Callable[[Any], Any]", device: Any) -> "Callable[[Any], Any]":
        """A head for what concepts make, without the mean that goes with it."""
        if self.mean is None:
            return head
        import torch

        mean = torch.from_numpy(np.asarray(self.mean, np.float32)).to(device)
        return lambda maps: head(maps + mean)


def explain_set(
    head: "Head", of: SampledSet, factorizations: Factorizations, params: ExplainParams, batch: int
) -> dict[str, NDArray[Any]]:
    """The set's part of each array of `LayerExplanation`, by name."""
    from stages.algorithms.hints import seen_alone, typical_strength
    from stages.algorithms.importance import importance

    device = head.device
    logits = np.concatenate([_logits(head, [one], device) for one in of.activations])
    first = logits.argmax(axis=1)
    chosen = frequent(logits, params.classes)
    found = _empty(factorizations, params)
    found["sampled"] = np.array(len(logits))
    found["classes"][: len(chosen)] = chosen
    found["predicted"][: len(chosen)] = [(first == one).mean() for one in chosen]
    found["logits"][: len(chosen)] = logits[:, chosen].mean(axis=0)
    narrow = of.rebuilt(head.only(chosen, _on(device, of.activations[:1])), device)
    whole = of.rebuilt(head, device)
    rows = np.concatenate([one.reshape(-1, one.shape[-1]) for one in of.coefficients])
    grid = of.coefficients[0].shape[:2]
    alone = seen_alone(whole, of.W, typical_strength(rows), (grid[0], grid[1]), device)
    order = np.argsort(-alone, axis=1, kind="stable")[:, :HINTS]
    found["hints"][:, : order.shape[1]] = order
    found["hint_logits"][:, : order.shape[1]] = np.take_along_axis(alone, order, axis=1)
    for at, (k, seed) in enumerate(factorizations.problems):
        columns = factorizations.columns_of(k, seed)
        mine, W = [one[..., columns] for one in of.coefficients], of.W[columns]
        rebuilt = np.concatenate([_logits(whole, [H @ W], device) for H in mine])
        found["kept"][at] = (rebuilt.argmax(axis=1) == first).mean()
        one = importance(narrow, mine, W, points=params.design, batch=batch, device=device)
        many = len(chosen)
        for name in ("total", "total_error", "total_noise", "effect", "effect_error",
                     "gradient", "gradient_error"):  # fmt: skip
            found[name][columns, :many] = getattr(one, name)
        for name in ("insertion", "deletion", "orders"):
            found[name][at, :many, : k + 1] = getattr(one, name)
    return found


def frequent(logits: NDArray[np.float64], count: int) -> list[int]:
    """The classes that are first on most images; of as many, the one with the larger mean logit."""
    images = np.bincount(logits.argmax(axis=1), minlength=logits.shape[1])
    order = np.lexsort((-logits.mean(axis=0), -images))
    return [int(one) for one in order[:count] if images[one]]


def _empty(of: Factorizations, params: ExplainParams) -> dict[str, NDArray[Any]]:
    columns, problems, classes = len(of.columns), len(of.problems), params.classes
    steps = max(of.ks) + 1
    none = {
        "classes": np.full(classes, NO_CLASS, np.int64),
        "hints": np.full((columns, HINTS), NO_CLASS, np.int64),
    }
    shapes = {
        **dict.fromkeys(("predicted", "logits"), (classes,)),
        "kept": (problems,),
        **dict.fromkeys(("total", "total_error", "total_noise", "effect", "effect_error",
                         "gradient", "gradient_error"), (columns, classes)),
        **dict.fromkeys(("insertion", "deletion", "orders"), (problems, classes, steps)),
        "hint_logits": (columns, HINTS),
    }  # fmt: skip
    return {**none, **{name: np.full(shape, np.nan) for name, shape in shapes.items()}}


def _on(device: Any, maps: Sequence[Grid]) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(maps, np.float32)).to(device)


def _logits(head: "Callable[[Any], Any]", maps: Sequence[Grid], device: Any) -> NDArray[np.float64]:
    import torch

    with torch.inference_mode():
        return np.asarray(head(_on(device, maps)).double().cpu().numpy())
