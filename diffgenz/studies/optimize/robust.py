"""The problem under uncertainty: statistics of objective and limits over draws.

What is uncertain are numbers that are chosen by the draw, so that each draw of each layout is one
more layout of the same problem: draws are further columns in NumPy, and further lanes of the same
program where it is compiled.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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
        return self.counted(*self.values_of_draws(x, plans, changes))

    def values_of_draws(
        self, x: Numbers, plans: np.ndarray, changes: Mapping[Path, Any] | None = None
    ) -> tuple[Numbers, Numbers]:
        """Objective and limits of each draw, of shape (columns, draws) and (columns, draws, m)."""
        repeated = {path: np.repeat(each, self.draws) for path, each in (changes or {}).items()}
        f, c = self.inner.values(
            np.repeat(x, self.draws, axis=0), self.drawn_layouts(plans), repeated
        )
        shape = len(x), self.draws
        return f.reshape(shape), c.reshape(*shape, -1)

    def over_draws(self, evaluate: Evaluate) -> Evaluate:
        """Statistics and their slopes at each x, from those of all draws.

        Arguments:
            evaluate: what is at x of each draw, with the layout of the draw.
        """

        def point(x: Numbers, plans: np.ndarray) -> Point:
            shape = len(x), self.draws
            at = evaluate(np.repeat(x, self.draws, axis=0), self.drawn_layouts(plans))
            every = Point(*(part.reshape(*shape, *part.shape[1:]) for part in at))
            f, shares = self._of_objective(every.f)
            g = np.einsum("ld,ldn->ln", shares, every.g)
            c, rows = np.empty((len(x), every.c.shape[2])), []
            for place in range(c.shape[1]):
                c[:, place], shares = self._of_limit(every.c[:, :, place], place)
                rows.append(np.einsum("ld,ldn->ln", shares, every.rows[:, :, place]))
            none = np.zeros((*c.shape, x.shape[1]))
            return Point(f, c, g, np.stack(rows, axis=1) if rows else none)

        return point

    def drawn_layouts(self, plans: np.ndarray) -> np.ndarray:
        """The layouts of all draws of some plans."""
        return (np.asarray(plans)[:, None] * self.draws + np.arange(self.draws)).ravel()

    def counted(self, f: Numbers, c: Numbers) -> tuple[Numbers, Numbers]:
        """The statistics of objective and limits, from those of draws.

        Arguments:
            f: of shape (columns, draws).
            c: of shape (columns, draws, m).
        """
        limits = [self._of_limit(c[:, :, place], place)[0] for place in range(c.shape[2])]
        none = np.zeros((len(c), 0))
        return self._of_objective(f)[0], np.stack(limits, axis=1) if limits else none

    def _of_objective(self, f: Numbers) -> tuple[Numbers, Numbers]:
        """The statistic of the objective, and the shares of draws in it."""
        sign = -1 if self.maximise else 1
        value, shares = self.statistic.with_shares(
            sign * f, least=self.maximise, smooth=self._smooth
        )
        return sign * value, shares

    def _of_limit(self, c: Numbers, place: int) -> tuple[Numbers, Numbers]:
        """The statistic of a limit, and the shares of draws in it."""
        drawn = self.of_limits[place]
        statistic = drawn.statistic if self.moved[place] else MEAN
        side = -1 if drawn.least and statistic.kind in ("mean", "cvar") else 1
        value, shares = statistic.with_shares(side * c, least=side < 0, smooth=self._smooth)
        return side * value, shares

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
