"""What random starts tell of a problem: formulas without a value, numbers that move nothing."""

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.sqp import Point

_NO_SLOPE = 1e-9


def check_starts(problem: Problem, start: Numbers, first: Point, starts: int) -> list[str]:
    """Notes on starts without a value.

    Arguments:
        problem: the problem.
        start: where lanes begin, by layout, of shape (layouts x starts, n).
        first: what is there.
        starts: of each layout.

    Raises:
        InputError: no start has a value, or nothing that is free moves the objective.
    """
    good, notes = first.finite(), []
    if not good.all():
        lane = int(np.flatnonzero(~good)[0])
        numbers = zip(problem.variables, np.exp(start[lane]), strict=True)
        where = ", ".join(f"{each.name} = {number:.4g}" for each, number in numbers)
        said = (
            f"{_without_value(problem, first, lane)} has no positive, finite value at "
            f"{int((~good).sum())} of {len(good)} starts, such as start {lane % starts + 1} of "
            f"{problem.label(lane // starts)} ({where})"
        )
        if not good.any():
            raise InputError(f"{said}; correct the formula, or narrow the bounds")
        notes.append(said)
    if not (np.abs(first.g[good]) > _NO_SLOPE).any():
        names = ", ".join(variable.name for variable in problem.variables)
        raise InputError(
            f"objective: nothing that is free moves {problem.objective.text!r} (over: {names}); "
            "free a number that it depends on"
        )
    return notes


def _without_value(problem: Problem, point: Point, lane: int) -> str:
    """Which formula has none there."""
    if not (np.isfinite(point.f[lane]) and np.isfinite(point.g[lane]).all()):
        return f"objective: {problem.objective.text!r}"
    bad = ~(np.isfinite(point.c[lane]) & np.isfinite(point.rows[lane]).all(axis=1))
    return f"subject_to: {problem.limits[int(np.flatnonzero(bad)[0])].text!r}"


def uninfluential(first: Point, layouts: int) -> np.ndarray:
    """Which variables move nothing at any start, of shape (layouts, n).

    Arguments:
        first: what is at the starts, by layout.
        layouts: how many there are.
    """
    with np.errstate(invalid="ignore"):
        moves = np.abs(first.g) > _NO_SLOPE
        moves |= (np.abs(first.rows) > _NO_SLOPE).any(axis=1)
    return np.logical_not(moves.reshape(layouts, -1, moves.shape[1]).any(axis=1))
