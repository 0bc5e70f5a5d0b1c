"""How a design does where not everything is known for sure: records that say it."""

from typing import Any, NamedTuple


class Met(NamedTuple):
    """How often a limit is met.

    Arguments:
        limit: as it is written.
        share: of fresh draws that meet it.
        asked: the share of draws that shall meet it; None where a mean or tail shall.
        held: whether fresh draws meet what is asked, in all of them or in their statistic.
    """

    limit: str
    share: float
    asked: float | None
    held: bool


class Outcome(NamedTuple):
    """How a design does at fresh draws.

    Arguments:
        plan: choices and plan in words.
        numbers: of the variables, in SI, by name.
        value: what counts of the objective.
        low, middle, high: the objective that 10, 50 and 90 % of draws stay below.
        limits: how often each is met.
        all_met: the share of draws that meet all limits at once, but for those on means and tails.
    """

    plan: str
    numbers: dict[str, float]
    value: float
    low: float
    middle: float
    high: float
    limits: tuple[Met, ...]
    all_met: float

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return self._asdict() | {"limits": [limit._asdict() for limit in self.limits]}


class Robustness(NamedTuple):
    """What it takes to be robust.

    Arguments:
        objective: what counts of it, as it is written.
        draws: that the optimum was found with.
        fresh: draws of `robust` and `nominal`, which are others.
        robust: how the optimum does.
        nominal: how the optimum does that was found at medians; None where nothing meets the limits
            there.
        premium: by how many percent the objective of `robust` is worse than that of `nominal`, both
            at fresh draws; below 0: better. None as before.
    """

    objective: str
    draws: int
    fresh: int
    robust: Outcome
    nominal: Outcome | None
    premium: float | None

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        nominal = None if self.nominal is None else self.nominal.to_dict()
        return self._asdict() | {"robust": self.robust.to_dict(), "nominal": nominal}
