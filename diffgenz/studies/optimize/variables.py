"""What is free: numbers of a question, each between two bounds, in logarithms."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.core.leaves import Path, leaf_at, name_of, number_at, with_unset
from diffgenz.core.sections import quantity
from diffgenz.scenario.mix import Mix, paths_named
from diffgenz.scenario.scenario import Scenario
from diffgenz.studies.expressions import Expression

COUNTED = ("batch", "input_tokens", "output_tokens", "images")
"""Numbers of a workload that are whole in the end."""

Bounds = Mapping[str, Sequence[float | str]]
"""From the name of a number to its lower and upper bound, in SI or as text with a unit."""


class Variable(NamedTuple):
    """A number that is free.

    Arguments:
        name: what people call it.
        paths: where it stands; in several scenarios of a mix at once. A quantity stands nowhere.
        low, high: its bounds in SI, both above 0.
        unit: SI.
        now: its value in the question.
        whole: whether it counts requests or tokens, and must be whole in the end.
    """

    name: str
    paths: tuple[Path, ...]
    low: float
    high: float
    unit: str
    now: float
    whole: bool


def variables_of(
    question: Scenario | Mix, over: Bounds, quantities: Mapping[str, Expression]
) -> tuple[Variable, ...]:
    """The variables that `over` names.

    Arguments:
        question: the scenario or mix.
        over: from names to bounds.
        quantities: formulas that have names; one that is a plain number may be free too.

    Raises:
        InputError: none, an unknown name, bounds that leave no room, that have no logarithm or that
            the number's record refuses, ranks and other counts, a number that two names mean.
    """
    if not over:
        raise InputError(
            'over: nothing is free; give at least one, such as {"memory_bandwidth": (1e12, 8e12)}'
        )
    found: list[Variable] = []
    for name, bounds in over.items():
        if name in quantities:
            variable = _own(name, bounds, quantities[name])
        else:
            variable = _variable(with_unset(question, name, 1.0), name, bounds)
        for other in found:
            if set(other.paths) & set(variable.paths):
                raise InputError(f"over: {name} and {other.name} are one number; leave one out")
        found.append(variable)
    return tuple(found)


def _own(name: str, bounds: Any, formula: Expression) -> Variable:
    """A quantity that is free."""
    place = f"over[{name}]"
    if formula.names:
        raise InputError(
            f"{place}: it is a formula ({formula.text}); free a number that is in it, or give the "
            "quantity as a plain number"
        )
    low, high = _ends(place, bounds, "1")
    return Variable(name, (), low, high, "1", float(formula(lambda name: 1.0)), False)


def _ends(place: str, bounds: Any, unit: str) -> tuple[float, float]:
    """The lower and upper bound in SI."""
    if isinstance(bounds, str) or not isinstance(bounds, Sequence) or len(bounds) != 2:
        raise InputError(f"{place}: {bounds!r} are no two bounds; write (low, high)")
    low, high = (quantity(place, bound, unit) for bound in bounds)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{place}: bounds of {low:g} and {high:g}; give finite ones")
    if low > high:
        raise InputError(
            f"{place}: the lower bound {low:g} exceeds the upper bound {high:g}; exchange them"
        )
    if low == high:
        raise InputError(f"{place}: {low:g} to {high:g} leaves no room; set it in the scenario")
    if low <= 0:
        raise InputError(f"{place}: a lower bound of {low:g} has no logarithm; give one above 0")
    return low, high


def _variable(question: Scenario | Mix, name: str, bounds: Any) -> Variable:
    place = f"over[{name}]"
    paths = paths_named(question, name)
    about = number_at(question, paths[0])
    if about is not None and (about.structure or about.whole):
        counts = about.whole or "structure"
        remedy = "list plans (plans)" if "ranks" in counts else "set it in the scenario"
        raise InputError(f"{place}: it counts {counts} and is not continuous; {remedy}")
    unit = "1" if about is None else about.unit
    low, high = _ends(place, bounds, unit)
    if about is not None:
        for bound in (low, high):
            about.check(place, bound)
    whole = getattr(paths[0][-1], "name", "") in COUNTED
    if whole and np.ceil(low) > np.floor(high):
        raise InputError(f"{place}: no whole number lies between {low:g} and {high:g}; widen it")
    now = float(np.asarray(leaf_at(question, paths[0])))
    return Variable(name, paths, low, high, unit, now, whole)


def full_names(variable: Variable) -> tuple[str, ...]:
    """The full names of the numbers that a variable sets."""
    return tuple(name_of(path) for path in variable.paths)
