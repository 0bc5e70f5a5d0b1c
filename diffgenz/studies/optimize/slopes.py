"""Values and slopes of a problem at many points: what each iteration of the solver asks for.

Few points are answered in NumPy, by central differences in float64, which compiles nothing; many
by differences of a compiled program (`compiled`). Both agree to some 1e-8.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from diffgenz.core.differences import STEP
from diffgenz.core.leaves import Path
from diffgenz.serving.under_load import UnderLoad
from diffgenz.studies.optimize.compiled import BLOCK, Compiled
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.robust import Robust
from diffgenz.studies.optimize.sqp import Point


def point_at(
    problem: Problem,
    x: Numbers,
    plans: np.ndarray,
    free: np.ndarray | None = None,
    changes: Mapping[Path, Any] | None = None,
) -> Point:
    """What is at each x, with slopes by central differences.

    Arguments:
        problem: the problem.
        x: of shape (lanes, n).
        plans: of each lane, of shape (lanes,).
        free: the variables with slopes; None: all of them.
        changes: other numbers of the question, of shape (lanes,).
    """
    lanes, n = x.shape
    free = np.arange(n) if free is None else free
    moves = np.zeros((1 + 2 * len(free), n))
    for place, variable in enumerate(free):
        moves[1 + 2 * place, variable], moves[2 + 2 * place, variable] = STEP, -STEP
    columns = (x[:, None] + moves).reshape(-1, n)
    again = len(moves)
    repeated = {path: np.repeat(value, again) for path, value in (changes or {}).items()}
    f, c = problem.values(columns, np.repeat(plans, again), repeated)
    f, c = f.reshape(lanes, again), c.reshape(lanes, again, -1)
    slope = (f[:, 1::2] - f[:, 2::2]) / (2 * STEP)
    rows = (c[:, 1::2] - c[:, 2::2]) / (2 * STEP)
    return Point(f[:, 0], c[:, 0], slope, rows.swapaxes(1, 2))


COMPILED_FROM = 2**14
"""Columns of differences for one iteration from which compiling takes less time."""

_DRAWN = 4
"""So many times the lanes of a call where each has draws."""

UNDER_LOAD_FROM = 48
"""The same under a load, where each column takes NumPy some hundredths of a second."""


Slopes = Callable[[Numbers, np.ndarray], Point]
"""From x, of shape (lanes, n), and plans, of shape (lanes,), to what is there."""


def answered_in_numpy(slopes: Slopes) -> bool:
    """Whether it compiles nothing, and takes about as long for many lanes as for one."""
    return isinstance(slopes, partial)


def slopes_of(problem: Problem, lanes: int) -> Slopes:
    """What gives values and slopes at each x, of shape (lanes, n), with plans of shape (lanes,).

    Arguments:
        problem: the problem.
        lanes: how many lanes there are at first.
    """
    under_load = isinstance(problem.question, UnderLoad)
    least = UNDER_LOAD_FROM if under_load else COMPILED_FROM
    if lanes * (1 + 2 * len(problem.variables)) * problem.draws < least:
        return partial(point_at, problem)
    return compiled_slopes(problem, BLOCK)


def compiled_slopes(problem: Problem, block: int) -> Slopes:
    """The same by a compiled program.

    Arguments:
        problem: the problem.
        block: lanes of one call of the program; draws of a lane are lanes of it, too.
    """
    if isinstance(problem, Robust):
        return problem.over_draws(Compiled(problem.inner, block * _DRAWN))
    return Compiled(problem, block)
