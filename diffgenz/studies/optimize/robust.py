"""The problem under uncertainty: statistics of objective and limits over draws.

What is uncertain are numbers that are chosen by the draw, so that each draw of each layout is one
more layout of the same problem: draws are further columns in NumPy, and further lanes of the same
program where it is compiled.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffgenz.core.differences import STEP
from diffgenz.core.leaves import Path
from diffgenz.core.smooth import HARD
from diffgenz.scenario.mix import parts_of
from diffgenz.studies.optimize.draws import Draws
from diffgenz.studies.optimize.layouts import Layout
from diffgenz.studies.optimize.limits import Limit, limits_of
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.sqp import Evaluate, Point
from diffgenz.studies.optimize.statistic_words import DrawnLimit
from diffgenz.studies.optimize.statistics import MEAN, Statistic

_PROBES, _SAME = 4, 1e-12
"""Points at which it is looked whether draws move a formula, and what does not count as moved."""


class Robust(Problem):
    """A problem over draws.

    Arguments:
        nominal: the problem at medians, whose limits are those of `limits` without statistics.
        draws: what is uncertain.
        objective: what of the draws of the objective counts.
        limits: what of the draws must meet each limit.
        moved: which limits the draws move, of shape (m,); None: it is found out.
    """

    def __init__(
        self,
        nominal: Problem,
        draws: Draws,
        objective: Statistic,
        limits: Sequence[DrawnLimit],
        moved: np.ndarray | None = None,
    ):
        self.__dict__.update(nominal.__dict__)
        self.nominal, self.drawn, self.statistic = nominal, draws, objective
        self.draws, self.asked = len(draws.table), tuple(limits)
        self.inner = nominal.with_chosen(
            (*nominal.chosen, *draws.chosen),
            [
                Layout(layout.plan, (*layout.numbers, *row), layout.choices)
                for layout in nominal.layouts
                for row in draws.table.tolist()
            ],
        )
        parts = len(parts_of(nominal.question))
        self.of_limits = [
            limit
            for limit in limits
            for _ in limits_of([limit.text], nominal.quantities, parts, nominal.unit_of)
        ]
        pairs = zip(nominal.limits, self.of_limits, strict=True)
        self.limits = tuple(_said(limit, drawn) for limit, drawn in pairs)
        self._smooth = parts_of(nominal.question)[0].sharpness != HARD
        self.moved = np.ones(len(self.limits), bool) if moved is None else moved
        if moved is None:
            self.moved = self._moved()

    def hardened(self, *, sharpness: float, smooth_batch: bool) -> "Robust":
        """The same problem of estimates with another sharpness, with or without whole requests."""
        other = self.nominal.hardened(sharpness=sharpness, smooth_batch=smooth_batch)
        return Robust(other, self.drawn, self.statistic, self.asked, self.moved)

    def values(
        self, x: Numbers, plans: np.ndarray, changes: Mapping[Path, Any] | None = None
    ) -> tuple[Numbers, Numbers]:
        """The logarithms of the statistics of objective and limits, as in `Problem`."""
        return self._counted(*self.values_of_draws(x, plans, changes))

    def values_of_draws(
        self, x: Numbers, plans: np.ndarray, changes: Mapping[Path, Any] | None = None
    ) -> tuple[Numbers, Numbers]:
        """Objective and limits of each draw, of shape (columns, draws) and (columns, draws, m)."""
        repeated = {path: np.repeat(each, self.draws) for path, each in (changes or {}).items()}
        f, c = self.inner.values(np.repeat(x, self.draws, axis=0), self._rows(plans), repeated)
        shape = len(x), self.draws
        return f.reshape(shape), c.reshape(*shape, -1)

    def over_draws(self, evaluate: Evaluate) -> Evaluate:
        """Statistics and their slopes at each x, from those of all draws.

        Arguments:
            evaluate: what is at x of each draw, with the layout of the draw.
        """

        def point(x: Numbers, plans: np.ndarray) -> Point:
            (lanes, n), draws = x.shape, self.draws
            at = evaluate(np.repeat(x, draws, axis=0), self._rows(plans))
            moves = np.concatenate([np.zeros((1, n)), STEP * np.eye(n), -STEP * np.eye(n)])
            f = at.f[:, None] + at.g @ moves.T
            c = at.c[:, None] + np.einsum("lmn,rn->lrm", at.rows, moves)
            shape = lanes * len(moves), draws
            f = f.reshape(lanes, draws, -1).swapaxes(1, 2).reshape(shape)
            c = c.reshape(lanes, draws, len(moves), -1).swapaxes(1, 2).reshape(*shape, -1)
            f, c = self._counted(f, c)
            f, c = f.reshape(lanes, -1), c.reshape(lanes, len(moves), -1)
            slope = (f[:, 1 : n + 1] - f[:, n + 1 :]) / (2 * STEP)
            rows = (c[:, 1 : n + 1] - c[:, n + 1 :]) / (2 * STEP)
            return Point(f[:, 0], c[:, 0], slope, rows.swapaxes(1, 2))

        return point

    def _rows(self, plans: np.ndarray) -> np.ndarray:
        """The layouts of all draws of some plans."""
        return (np.asarray(plans)[:, None] * self.draws + np.arange(self.draws)).ravel()

    def _counted(self, f: Numbers, c: Numbers) -> tuple[Numbers, Numbers]:
        """The statistics of objective and limits of draws."""
        smooth, sign = self._smooth, -1 if self.maximise else 1
        objective = sign * self.statistic.of(sign * f, least=self.maximise, smooth=smooth)
        limits = np.empty((len(c), c.shape[2]))
        for place, drawn in enumerate(self.of_limits):
            statistic = drawn.statistic if self.moved[place] else MEAN
            side = -1 if drawn.least and statistic.kind in ("mean", "cvar") else 1
            limits[:, place] = side * statistic.of(
                side * c[:, :, place], least=side < 0, smooth=smooth
            )
        return objective, limits

    def _moved(self) -> np.ndarray:
        """Which limits draws move, at some random points of every layout."""
        layouts = len(self.layouts)
        shape = _PROBES * layouts, len(self.variables)
        x = np.random.default_rng(0).uniform(self.low, self.high, shape)
        _, c = self.values_of_draws(x, np.tile(np.arange(layouts), _PROBES))
        with np.errstate(invalid="ignore"):
            apart = c.max(axis=1) - c.min(axis=1)
        return ~(apart <= _SAME).all(axis=0)


def _said(limit: Limit, drawn: DrawnLimit) -> Limit:
    """The limit with its statistic in words."""
    if not drawn.written:
        return limit
    if drawn.statistic.kind == "share":
        return limit._replace(text=drawn.statistic.said(limit.text))
    if limit.value is not None:
        side = (limit.right if limit.least else limit.left).text
        end = (limit.left if limit.least else limit.right).text
        operator = ">=" if limit.least else "<="
        return limit._replace(text=f"{drawn.statistic.said(side)} {operator} {end}")
    left, right = limit.left.text, limit.right.text
    if drawn.least:
        right = drawn.statistic.said(right)
    else:
        left = drawn.statistic.said(left)
    return limit._replace(text=f"{left} <= {right}")
