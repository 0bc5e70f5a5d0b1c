"""`front`: what is possible between several objectives, by one optimum for each of many scalars.

The best of each objective alone, for every plan, says from where to where the front goes. A coarse
grid of limits (epsilon-constraint) with all plans shows which plans are near the front; these alone
have a fine one, and Chebyshev's directions, which are spread evenly over the front, begun at what
is known by then (`scalarized`). What another point beats is left out, exactly.

Within a plan the front of a problem that is convex in logarithms is convex in them, too. The front
over plans is not, so that weighted sums of objectives would miss parts of it.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.checks import demand
from diffgenz.core.errors import InputError, NoSolution
from diffgenz.scenario.mix import Composed, Question, parts_of
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.studies.expressions import Expression
from diffgenz.studies.optimize.choices import Choices
from diffgenz.studies.optimize.hypervolume import hypervolume
from diffgenz.studies.optimize.limits import limits_of
from diffgenz.studies.optimize.optimize import problems_of
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.scalarized import Found, Scalarized, alone, towards, within
from diffgenz.studies.optimize.slopes import slopes_of
from diffgenz.studies.optimize.variables import Bounds
from diffgenz.studies.pareto import front_of

POINTS = {2: 24, 3: 8}
"""Limits of each objective but the first, by the number of objectives."""
_COARSE, _STARTS = 5, 2
"""Such limits of the coarse grid, and starts of each plan."""
_BEHIND = np.log(1.1)
"""A plan that is nowhere nearer to the front is left out of the fine grid."""


_EQUAL, _CLEARLY = 1e-4, 1e-3
"""How near in logarithms objectives are one, and how far apart one is clearly better."""


class FrontPoint(NamedTuple):
    """One choice that no other beats, with smooth batches and maxima.

    Arguments:
        values: of the objectives.
        plan: choices and plan in words.
        numbers: of the variables, in SI, by name.
        kkt: the KKT residual.
    """

    values: tuple[float, ...]
    plan: str
    numbers: dict[str, float]
    kkt: float


class Front(NamedTuple):
    """What `front` found.

    Arguments:
        objectives: the formulas.
        more: of each whether more of it is better.
        units: of each, SI; "" where it is not known.
        points: the best of the first objective first.
        reference: the worst value of each objective among the best ones of the others.
        hypervolume: of what the points beat, up to the reference, in natural logarithms.
        lanes: optimizations that were solved.
        number_units: of the variables, by name.
    """

    objectives: tuple[str, ...]
    more: tuple[bool, ...]
    units: tuple[str, ...]
    points: tuple[FrontPoint, ...]
    reference: tuple[float, ...]
    hypervolume: float
    lanes: int
    number_units: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The same in SI, for JSON."""
        return self._asdict() | {"points": [point._asdict() for point in self.points]}


def front(
    case: Question,
    over: Bounds,
    objectives: Sequence[str],
    *,
    more: Sequence[bool] | None = None,
    subject_to: Sequence[str] = ("fits",),
    derived: Mapping[str, str] | None = None,
    quantities: Mapping[str, str] | None = None,
    plans: Sequence[Parallelism] | Parallelism | None = None,
    choices: Choices | None = None,
    points: int | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Front:
    """The points between several objectives that no other beats, over some numbers and all plans.

    Arguments:
        case: the question, or a mix.
        over: what is free, as in `optimize`.
        objectives: two or more metrics or formulas, each above 0.
        more: of each whether more of it is better. Default: what the metric says; False for a
            formula.
        subject_to, derived, quantities, plans, seed, progress: as in `optimize`.
        choices: as in `optimize`, of single numbers; not of formats, models or systems.
        points: limits of each objective but the first, at least 2, and as many directions; of
            three objectives there are the square of it. Default: 24, and 8 of three objectives.

    Raises:
        InputError: as `optimize`; fewer than two objectives.
        NoSolution: nothing meets the limits, or no engine accepts any plan.
    """
    demand("case", case, (Scenario, Composed), "Scenario(model, platform, workload)")
    if isinstance(objectives, str) or len(objectives) < 2:
        raise InputError(f"objectives: {objectives!r} are no two; give at least two formulas")
    if points is not None and points < 2:
        raise InputError(f"points: {points} is not allowed; it must be at least 2")
    names = tuple(objectives)
    up = tuple(name in EVERY_METRIC and EVERY_METRIC[name].more for name in names)
    if more is not None:
        if len(more) != len(names):
            raise InputError(f"more: {len(more)} for {len(names)} objectives; give one for each")
        up = tuple(bool(each) for each in more)
    goals = [_goal(name, most) for name, most in zip(names, up, strict=True)]
    asked = over, names[0], up[0], [*subject_to, *goals], derived or {}, quantities or {}
    problems, _ = problems_of(case, asked, plans, choices or {})
    if len(problems) > 1:
        raise InputError(
            f"choices: {', '.join(problems[0].labels)} chooses among structures, of which a front "
            "knows one; state it in the scenario, and compare the fronts"
        )
    problem = problems[0]
    parts = len(parts_of(case))
    rows = [len(limits_of([goal], problem.quantities, parts, problem.unit_of)) for goal in goals]
    count = points or POINTS.get(len(names), 4)
    slopes = slopes_of(problem, len(problem.layouts) * count)
    solver = Scalarized(problem, rows, slopes, progress)
    found, high = front_between(solver, count, seed)
    return Front(
        names,
        up,
        tuple(problem.unit_of(name) for name in names),
        tuple(
            FrontPoint(
                tuple(float(value) for value in np.exp(np.where(up, -row, row))),
                problem.label(int(plan)),
                {v.name: float(n) for v, n in zip(problem.variables, np.exp(x), strict=True)},
                float(kkt),
            )
            for plan, x, row, kkt in zip(*found[:4], strict=True)
        ),
        tuple(float(value) for value in np.exp(np.where(up, -high, high))),
        hypervolume(found.values, high),
        solver.lanes,
        {variable.name: variable.unit for variable in problem.variables},
    )


def _goal(name: str, most: bool) -> str:
    """The limit that an objective is a row of."""
    if Expression(name).conditional or name == "fits":
        raise InputError(f"objectives: {name!r} is a condition; name a number")
    return f"1 <= {name}" if most else f"{name} <= 1"


def front_between(solver: Scalarized, points: int, seed: int) -> tuple[Found, Numbers]:
    """What no other beats, and the worst of each objective among the best ones of the others.

    Arguments:
        solver: the lanes.
        points: limits of each objective but the first.
        seed: of the starts.

    Raises:
        NoSolution: no plan meets the limits.
    """
    rng = np.random.default_rng(seed)
    found = solver.from_random(alone(solver.objectives), _STARTS, rng, "each objective")
    known = np.unique(found.plan)
    if not len(known):
        raise NoSolution("front: no plan meets the limits; loosen one (`optimize` says which)")
    low = found.values.min(axis=0)
    best = found.values[found.values.argmin(axis=0)]
    high = np.maximum(best.max(axis=0), low + 1e-3)
    coarse = within(_between(low, high, _COARSE))
    rough, limit = solver.from_known(coarse, known, found, "coarse front")
    least = np.full((len(solver.problem.layouts), len(coarse.slope)), np.inf)
    least[rough.plan, limit] = np.where(rough.met, rough.values[:, 0], np.inf)
    near = np.flatnonzero((least <= least.min(axis=0) + _BEHIND).any(axis=1))
    found = found.and_also(rough.at(rough.met))
    if len(near):
        fine = within(_between(low, high, points)).and_also(towards(low, high, points))
        more, _ = solver.from_known(fine, near, found, "fine front")
        found = found.and_also(more.at(more.met))
    kept = found.at(front_of(np.arange(len(found.plan)), found.values).indices)
    return kept.at(_worth_having(kept.values)), high


def _worth_having(values: Numbers) -> np.ndarray:
    """Which points no other equals, as far as limits are met, and clearly beats in one objective.

    Arguments:
        values: of shape (points, objectives).
    """
    apart = values[:, None] - values
    beaten = np.all(apart > -_EQUAL, axis=2) & np.any(apart > _CLEARLY, axis=2)
    return ~np.any(beaten, axis=1)


def _between(low: Numbers, high: Numbers, count: int) -> Numbers:
    """Limits of all objectives but the first, of shape (limits, objectives - 1).

    They are closer to each other where an objective is at its best, which costs most there.
    """
    shares = np.linspace(0, 1, count + 1)[1:] ** 2
    axes = [low[k] + (high[k] - low[k]) * shares for k in range(1, len(low))]
    return np.array(list(product(*axes)))
