"""Params of the factorize stage."""

from dataclasses import dataclass
from typing import Literal

from stages.artifacts.factorizations import Factorizations
from stages.artifacts.within import Within, not_asked
from stages.frame.params import check_choices, param


@dataclass(frozen=True)
class FactorizeParams:
    """How many concepts to look for, and how."""

    k: tuple[int, ...] = param((1, 2, 3, 4), "numbers of factors; all share the passes")
    seeds: tuple[int, ...] = param((0,), "one factorization per k and seed")
    solver: Literal["hals", "mu"] = param("hals", "hals, or mu: the paper's multiplicative updates")
    nonneg: Literal["W and H", "H"] = param(
        "W and H", "what is >= 0; H alone (semi-NMF) for layers with values below zero"
    )
    normalise: Literal["none", "l2", "centre"] = param(
        "none",
        "rows: none (as they are), l2 (unit length) or centre (less the set's mean; nonneg: H)",
        usual_is_as_before=True,
    )
    init: Literal["sample", "random", "nndsvd"] = param(
        "sample", "sample (warm start), random (the paper's) or nndsvd"
    )
    tol: float = param(1e-4, "stop when an update lowers the loss by less than this share")
    max_passes: int = param(100, "at most so many updates")
    stability_runs: int = param(5, "runs on row samples that say how stable each k is; 0: none")
    start: str = param("", "factors to go on from, as `dff pin` keeps them; empty: from nothing")
    freeze: bool = param(False, "never change those: new images get only their coefficients")
    within: tuple[str, ...] = param(
        (), "factors to divide further, each SET/K/FACTOR", usual_is_as_before=True
    )

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1:
            raise ValueError(f"k: {list(self.k)} must be one or more numbers of at least 1")
        if len(set(self.k)) != len(self.k):
            raise ValueError(f"k: {list(self.k)} has a number twice")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds: {list(self.seeds)} must be different numbers from 0 up")
        check_choices(self)
        if self.nonneg == "H" and (self.solver != "hals" or self.init == "nndsvd"):
            raise ValueError(
                "nonneg: H alone is solved by hals from init sample or random, not by "
                f"{self.solver} from {self.init}"
            )
        if self.normalise == "centre" and self.nonneg != "H":
            raise ValueError(
                "normalise: centre leaves values below zero, which nonneg: H (semi-NMF) is for"
            )
        if self.freeze and not self.start:
            raise ValueError("freeze: true needs factors to keep: `dff pin` sets start to some")
        if self.start and self.solver != "hals":
            raise ValueError(f"start: solver {self.solver} cannot go on from factors, hals can")
        if self.tol < 0 or self.max_passes < 1:
            raise ValueError("tol must be at least 0 and max_passes at least 1")
        if self.stability_runs == 1 or self.stability_runs < 0:
            raise ValueError(f"stability_runs: {self.stability_runs} must be 0, or at least 2")
        if len(set(self.within)) != len(self.within):
            raise ValueError(f"within: {list(self.within)} has a factor twice")
        for text in self.within:
            try:
                one = Within.read(text)
            except ValueError as error:
                raise ValueError(f"within: {error}") from error
            if one.k not in self.k:
                raise ValueError(f"within: {text}: {not_asked(one.k, self.k)}")

    @property
    def method(self) -> str:
        """The solver, as people are told of it."""
        return self.solver if self.nonneg == "W and H" else f"{self.solver}, semi-NMF: H >= 0 alone"

    @property
    def factorizations(self) -> Factorizations:
        """Every k with every seed, in the order of the results."""
        return Factorizations.every(self.k, self.seeds)
