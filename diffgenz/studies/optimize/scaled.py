"""A question in which one number that is not free is multiplied by a factor.

The factor is a choice, so that all its values are lanes of one problem beside plans. Everything
that is free adapts at each value, and the best plan may change.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.core.leaves import leaf_at, number_at, with_unset
from diffgenz.scenario.mix import Question, paths_named
from diffgenz.studies.optimize.choices import Choices
from diffgenz.studies.optimize.lanes import Ends, Lanes, Progress
from diffgenz.studies.optimize.optimize import problems_of
from diffgenz.studies.optimize.optimum import PlanOptimum
from diffgenz.studies.optimize.variables import Bounds
from diffgenz.studies.sweep.axes import Choice, values

FACTOR = "_factor"
"""What the factor is called among choices."""


class Asked(NamedTuple):
    """What `optimize` is asked."""

    case: Question
    over: Bounds
    objective: str
    maximise: bool
    subject_to: Sequence[str]
    derived: Mapping[str, str]
    quantities: Mapping[str, str]
    plans: Any
    choices: Choices
    starts: int
    seed: int
    progress: Progress | None

    def scaled(self, name: str, factors: Sequence[float]) -> "Asked":
        """The same with a number that is multiplied by the factor.

        Arguments:
            name: of the number or quantity.
            factors: that it is going to be multiplied by.

        Raises:
            InputError: a factor that is no multiple, an unknown name, a number that is free, is
                chosen or is a count, or that a factor takes out of its bounds.
        """
        for factor in factors:
            if not (np.isfinite(factor) and factor > 0):
                raise InputError(f"{name}: a factor of {factor:g} is not allowed; give one above 0")
        free = InputError(f"{name}: it is free or chosen; name a number that is not")
        if name in self.quantities:
            if name in self.over or name in self.choices:
                raise free
            formulas = dict(self.quantities) | {name: f"{FACTOR} * ({self.quantities[name]})"}
            return self._replace(quantities=formulas)
        question = self.case
        for each in (*self.over, *self.derived, *self.choices, name):
            question = with_unset(question, each, 1.0) if each not in self.quantities else question
        paths = set(paths_named(question, name))
        for each in (*self.over, *_numbers_of(self.choices)):
            if each not in self.quantities and paths & set(paths_named(question, each)):
                raise free
        for each, formula in self.derived.items():
            if paths == set(paths_named(question, each)):
                return self._replace(derived={**self.derived, each: f"{FACTOR} * ({formula})"})
        for path in paths:
            about = number_at(question, path)
            if about is None:
                continue
            if about.structure or about.whole:
                raise InputError(
                    f"{name}: it counts {about.whole or 'structure'} and is not continuous; list "
                    "what it may be as a choice (choices)"
                )
            for factor in factors:
                about.check(f"{factor:g} x {name}", factor * np.asarray(leaf_at(question, path)))
        return self._replace(derived={name: f"{FACTOR} * {name}", **self.derived})

    def solved(self, factors: Sequence[float]) -> list[Ends]:
        """The optimum of every plan at every factor, of each structure that is chosen."""
        asked = (
            self.over,
            self.objective,
            self.maximise,
            self.subject_to,
            self.derived,
            {**self.quantities, FACTOR: "1"},
        )
        choices = {**self.choices, FACTOR: values(*factors)}
        problems, _ = problems_of(self.case, asked, self.plans, choices)
        return [Lanes(each, self.starts, self.seed, self.progress).solved() for each in problems]

    def along(self, factors: Sequence[float]) -> dict[float, PlanOptimum]:
        """The best of each factor that has a solution."""
        return self.best(self.solved(factors))

    def best(self, every: Sequence[Ends]) -> dict[float, PlanOptimum]:
        """The best of each factor that has a solution, of what was found."""
        best: dict[float, PlanOptimum] = {}
        for ends in every:
            for row in ends.rows:
                factor = float(row.choices[FACTOR])
                before = best.get(factor)
                if row.feasible and (before is None or self._better(row.value, before.value)):
                    best[factor] = row
        return best

    def _better(self, one: float, other: float) -> bool:
        return one > other if self.maximise else one < other


def said_without_factor(row: PlanOptimum) -> str:
    """Plan and choices in words, but for the factor."""
    return row.label_without(FACTOR)


def _numbers_of(choices: Choices) -> list[str]:
    """The names of all numbers that choices set."""
    names: list[str] = []
    for name, axis in choices.items():
        if isinstance(axis, Choice):
            sets = [each for each in axis.options.values() if isinstance(each, Mapping)]
            names += [key for each in sets for key, part in each.items() if np.isscalar(part)]
        else:
            names.append(name)
    return list(dict.fromkeys(names))
