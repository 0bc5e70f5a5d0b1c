"""What if a number were another: what elasticities say, and what is true.

The optimum as it is gives one elasticity of each number. It says what a change of that number does
as long as the same limits are active, of the plan that is best now. Beside it stand the design
left as it is, whose limits may then be broken, and all optimized again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.differences import STEP
from diffgenz.core.errors import InputError, NoSolution
from diffgenz.scenario.mix import Question
from diffgenz.studies.optimize.choices import Choices
from diffgenz.studies.optimize.lanes import Ends, Progress
from diffgenz.studies.optimize.layouts import Layout
from diffgenz.studies.optimize.scaled import FACTOR, Asked, said_without_factor
from diffgenz.studies.optimize.variables import Bounds

FACTORS = 0.7, 0.9, 1.1, 1.3, 2.0
"""What a number is multiplied by where nothing else is said."""

_BROKEN = 1e-5


class WhatIf(NamedTuple):
    """What a multiple of a number does.

    Arguments:
        factor: what the number is multiplied by.
        predicted: the best objective by the elasticity at 1.
        kept: the objective of the optimum at 1, its numbers and plan left as they are.
        broken: limits that it then breaks, with the factor by which.
        solved: the best objective when all that is free adapts; None where nothing meets the
            limits.
        plan: the best then, in words, with what is chosen; "" where there is none.
    """

    factor: float
    predicted: float
    kept: float
    broken: tuple[tuple[str, float], ...]
    solved: float | None
    plan: str


class Prediction(NamedTuple):
    """What `what_if` found.

    Arguments:
        name: of the number.
        elasticity: by how many percent the best objective moves for one percent more of it.
        now: the best objective as it is.
        plan: the best as it is, in words, with what is chosen.
        rows: one for each factor.
    """

    name: str
    elasticity: float
    now: float
    plan: str
    rows: tuple[WhatIf, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same in SI, for JSON."""
        return self._asdict() | {"rows": [row._asdict() for row in self.rows]}


def what_if(
    name: str,
    case: Question,
    over: Bounds,
    objective: str,
    *,
    factors: Sequence[float] | None = None,
    maximise: bool = False,
    subject_to: Sequence[str] = ("fits",),
    derived: Mapping[str, str] | None = None,
    quantities: Mapping[str, str] | None = None,
    plans: Any = None,
    choices: Choices | None = None,
    starts: int = 2,
    seed: int = 0,
    progress: Progress | None = None,
) -> Prediction:
    """What multiples of a number do to an optimum: by its elasticity, and optimized again.

    Arguments:
        name: of a number or quantity that is not free: "network[0].bandwidth".
        factors: what it is multiplied by; above 0. Default: 0.7, 0.9, 1.1, 1.3 and 2, but for
            those that take it out of its bounds.
        case, over, objective, maximise, subject_to, derived, quantities, plans, choices: as in
            `optimize`.
        starts, seed, progress: as in `optimize`.

    Raises:
        InputError: as `optimize`; a number that is free, a factor that cannot be used.
        NoSolution: nothing meets the limits as it is.
    """
    asked = Asked(
        case, over, objective, maximise, subject_to, derived or {}, quantities or {}, plans,
        choices or {}, starts, seed, progress,
    )  # fmt: skip
    wanted = _possible(asked, name) if factors is None else [float(each) for each in factors]
    asked = asked.scaled(name, wanted)
    every = asked.solved(sorted({1.0, *wanted}))
    best = asked.best(every)
    if 1.0 not in best:
        raise NoSolution(f"{name}: nothing meets the limits as it is")
    now = best[1.0]
    ends = next(each for each in every if any(row is now for row in each.rows))
    row = next(place for place, each in enumerate(ends.rows) if each is now)
    slope, kept = _around(ends, row, wanted)
    rows = []
    for factor, (value, broken) in zip(wanted, kept, strict=True):
        then = best.get(factor)
        rows.append(
            WhatIf(
                factor,
                now.value * factor**slope,
                value,
                broken,
                None if then is None else then.value,
                "" if then is None else said_without_factor(then),
            )
        )
    return Prediction(name, slope, now.value, said_without_factor(now), tuple(rows))


def _possible(asked: Asked, name: str) -> list[float]:
    """The usual factors that leave a number in its bounds."""
    asked.scaled(name, ())
    found = []
    for factor in FACTORS:
        try:
            asked.scaled(name, (factor,))
        except InputError:
            continue
        found.append(factor)
    return found


def _around(
    ends: Ends, row: int, factors: Sequence[float]
) -> tuple[float, list[tuple[float, tuple[tuple[str, float], ...]]]]:
    """The elasticity at an optimum, and what its design gives at each factor."""
    problem, layout = ends.problem, ends.problem.layouts[int(ends.layouts[row])]
    place = [each.name for each in problem.chosen].index(FACTOR)

    def at(factor: float) -> Layout:
        numbers = list(layout.numbers)
        numbers[place] = factor
        return layout._replace(numbers=tuple(numbers))

    around = [at(factor) for factor in (np.exp(STEP), np.exp(-STEP), *factors)]
    moved = problem.with_chosen(problem.chosen, around)
    count = 2 + len(factors)
    f, c = moved.values(np.repeat(ends.ends.x[[row]], count, axis=0), np.arange(count))
    lagrangian = f[:2] + c[:2] @ ends.ends.multipliers[row]
    sign = -1.0 if problem.maximise else 1.0
    slope = sign * float(lagrangian[0] - lagrangian[1]) / (2 * STEP)
    kept = [
        (
            float(np.exp(sign * value)),
            tuple(
                (problem.limits[i].text, float(np.exp(limits[i])))
                for i in np.argsort(-limits)
                if limits[i] > _BROKEN
            ),
        )
        for value, limits in zip(f[2:], c[2:], strict=True)
    ]
    return slope, kept
