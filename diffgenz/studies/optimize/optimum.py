"""What an optimization found: records that say it."""

import dataclasses
from typing import Any, NamedTuple

from diffgenz.core.reprs import text_of
from diffgenz.scenario.mix import Question
from diffgenz.studies.optimize.choices import said_with_plan
from diffgenz.studies.optimize.convexity import Convexity
from diffgenz.studies.optimize.outcomes import Robustness
from diffgenz.studies.optimize.prices import Price

PROVEN = 1e-5
"""The KKT residual up to which an optimum is called one."""


class Violation(NamedTuple):
    """A limit that is not met.

    Arguments:
        limit: as it is written.
        factor: left / right, above 1: what it would have to be loosened by.
        value: the number that it is compared with, in SI; None where both sides vary.
        unit: of that number.
    """

    limit: str
    factor: float
    value: float | None
    unit: str


@dataclasses.dataclass(frozen=True)
class PlanOptimum:
    """The best that one plan can do, with smooth batches and maxima.

    Arguments:
        plan: in words, such as "tp 8, pp 2".
        choices: what is chosen beside the plan, by name.
        value: the objective.
        numbers: of the variables, in SI, by name; at an infeasible plan those of least violation.
        prices: of active limits and bounds, the dearest first.
        violations: limits that cannot be met together, the worst first; empty where all are met.
        uninfluential: variables that move neither objective nor limits, which keep the value that
            they have in the question.
        kkt: the KKT residual.
        convexity: of the midpoint test.
        starts: how many starts there were.
        meeting: how many of them ended within 0.1 % of the value.
    """

    plan: str
    choices: dict[str, float | str]
    value: float
    numbers: dict[str, float]
    prices: tuple[Price, ...]
    violations: tuple[Violation, ...]
    uninfluential: tuple[str, ...]
    kkt: float
    convexity: Convexity
    starts: int
    meeting: int

    @property
    def label(self) -> str:
        """Choices and plan in words."""
        return said_with_plan(self.choices, self.plan)

    def label_without(self, name: str) -> str:
        """The same but for one of the choices."""
        return said_with_plan(
            {key: each for key, each in self.choices.items() if key != name}, self.plan
        )

    @property
    def feasible(self) -> bool:
        """Whether all limits are met."""
        return not self.violations

    @property
    def certified(self) -> bool:
        """Whether it is the global optimum of its plan, as far as the midpoint test tells."""
        return self.feasible and self.convexity.holds and self.kkt <= PROVEN

    @property
    def certificate(self) -> str:
        """What is known of it, in a sentence."""
        test, met = self.convexity, f"{self.meeting} of {self.starts} starts end within 0.1 %"
        if not self.feasible:
            if test.holds:
                return f"no point meets all limits: convex on this box ({test.pairs} midpoints)"
            return f"no start of {self.starts} meets all limits"
        convex = (
            f"convex on this box ({test.pairs} of {test.pairs} midpoints)"
            if test.holds
            else f"not convex on this box ({test.broken} of {test.pairs} midpoints, by "
            f"{100 * test.worst:.2g} % at worst)"
        )
        kind = (
            "global optimum of this plan"
            if self.certified
            else "local optimum"
            if self.kkt <= PROVEN
            else "best point found, no optimum"
        )
        return f"{kind}: {convex}, KKT residual {self.kkt:.1e}, {met}"


@dataclasses.dataclass(frozen=True)
class Exact:
    """The optimum as `estimate` confirms it: whole requests and hard maxima.

    Arguments:
        plan: in words.
        choices: what is chosen beside the plan, by name.
        value: the objective of `scenario`.
        numbers: of the variables, in SI; counts are whole.
        scenario: the scenario or mix with these numbers, hard, for `estimate`.
        rounding: by how many percent whole requests make it worse than the optimum with hard
            maxima, the other numbers being optimized again; below 0: better.
        hardness: by how many percent hard maxima make that worse than the smooth optimum.
        violation: of the limits at worst, in percent.
        kkt: the KKT residual of the hard problem, which is large where it sits on a kink.
    """

    plan: str
    choices: dict[str, float | str]
    value: float
    numbers: dict[str, float]
    scenario: Question
    rounding: float
    hardness: float
    violation: float
    kkt: float

    @property
    def label(self) -> str:
        """Choices and plan in words."""
        return said_with_plan(self.choices, self.plan)


@dataclasses.dataclass(frozen=True)
class Optimum:
    """What `optimize` found.

    Arguments:
        objective: the formula.
        maximise: whether more of it is better.
        unit: of the objective, SI; "" where it is not known.
        units: of the variables.
        plans: the optimum of every plan that meets all limits, the best first.
        infeasible: the plans that do not, the least violation first.
        exact: the best one made exact; None where no plan meets the limits, or none with whole
            requests.
        elasticities: by how many percent the best optimum moves for one percent of each hardware
            number that is not free.
        notes: what else to know: starts that gave no number, bounds that were reached.
        robustness: where something is uncertain, how the exact optimum does at draws that it was
            not found with; else None.
    """

    objective: str
    maximise: bool
    unit: str
    units: dict[str, str]
    plans: tuple[PlanOptimum, ...]
    infeasible: tuple[PlanOptimum, ...]
    exact: Exact | None
    elasticities: dict[str, float]
    notes: tuple[str, ...]
    robustness: Robustness | None = None

    @property
    def best(self) -> PlanOptimum | None:
        """The best plan, with smooth batches and maxima; None where nothing meets the limits."""
        return self.plans[0] if self.plans else None

    @property
    def verdict(self) -> str:
        """That nothing meets the limits, and what comes closest; "" where something does."""
        if self.plans or not self.infeasible:
            return ""
        nearest = self.infeasible[0]
        by = ", ".join(_said(violation) for violation in nearest.violations)
        return (
            f"no plan meets all limits within the bounds; {nearest.label} comes closest, if these "
            f"are loosened: {by}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The result in SI, for JSON; a range without an end is None."""

        def plan(each: PlanOptimum) -> dict[str, Any]:
            return {
                "plan": each.plan,
                "choices": each.choices,
                "value": each.value,
                "numbers": each.numbers,
                "prices": [_finite(price._asdict()) for price in each.prices],
                "violations": [violation._asdict() for violation in each.violations],
                "uninfluential": list(each.uninfluential),
                "kkt": each.kkt,
                "convexity": each.convexity._asdict(),
                "certified": each.certified,
                "certificate": each.certificate,
                "starts": each.starts,
                "meeting": each.meeting,
            }

        exact = None
        if self.exact is not None:
            exact = {
                field.name: getattr(self.exact, field.name)
                for field in dataclasses.fields(self.exact)
                if field.name != "scenario"
            }
        return {
            "objective": self.objective,
            "maximise": self.maximise,
            "unit": self.unit,
            "units": self.units,
            "exact": exact,
            "plans": [plan(each) for each in self.plans],
            "infeasible": [plan(each) for each in self.infeasible],
            "elasticities": self.elasticities,
            "notes": list(self.notes),
            "robustness": None if self.robustness is None else self.robustness.to_dict(),
        }

    def __repr__(self) -> str:
        if self.best is None:
            return f"Optimum({self.verdict})"
        numbers = ", ".join(f"{name}={text_of(x)}" for name, x in self.best.numbers.items())
        return (
            f"Optimum({self.objective}={text_of(self.best.value)}, plan={self.best.label!r}, "
            f"{numbers}; {self.best.certificate})"
        )


def _said(violation: Violation) -> str:
    if violation.value is None:
        return f"{violation.limit} (by {100 * (violation.factor - 1):.3g} %)"
    least = ">=" in violation.limit
    needed = violation.value / violation.factor if least else violation.value * violation.factor
    unit = f" {violation.unit}" if violation.unit not in ("", "1") else ""
    return f"{violation.limit} to {needed:.4g}{unit}"


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """The same with None for numbers that are infinite."""
    return {
        key: None if isinstance(value, float) and abs(value) == float("inf") else value
        for key, value in row.items()
    }
