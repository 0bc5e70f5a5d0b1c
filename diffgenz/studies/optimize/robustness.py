"""How a design does at draws that it was not found with, beside the one that is best at medians."""

import numpy as np

from diffgenz.core.smooth import HARD
from diffgenz.studies.optimize.draws import Uncertainty, draws_of
from diffgenz.studies.optimize.layouts import label_of
from diffgenz.studies.optimize.optimum import Exact
from diffgenz.studies.optimize.outcomes import Met, Outcome, Robustness
from diffgenz.studies.optimize.robust import Robust

FRESH = 1000
"""Draws that a design is judged by."""

_MET = 1e-5
"""The violation in the logarithm that is still called none."""


def robustness_of(
    problems: list[Robust], uncertain: Uncertainty, robust: Exact, nominal: Exact | None
) -> Robustness:
    """How two designs do at the same fresh draws.

    Arguments:
        problems: of each structure that is chosen.
        uncertain: what is drawn.
        robust: the exact optimum of these problems.
        nominal: that at medians; None where there is none.
    """
    after = _outcome(problems, uncertain, robust)
    before = None if nominal is None else _outcome(problems, uncertain, nominal)
    premium = None
    if before is not None:
        ratio = after.value / before.value
        premium = 100 * ((1 / ratio if problems[0].maximise else ratio) - 1)
    problem = problems[0]
    said = problem.statistic.said(problem.objective.text)
    return Robustness(said, problem.draws, FRESH, after, before, premium)


def _outcome(problems: list[Robust], uncertain: Uncertainty, design: Exact) -> Outcome:
    known, layout = next(
        (problem, place)
        for problem in problems
        for place, each in enumerate(problem.layouts)
        if label_of(each.plan) == design.plan and dict(each.choices) == design.choices
    )
    hard = known.nominal.hardened(sharpness=HARD, smooth_batch=False)
    one = hard.with_chosen(hard.chosen, [hard.layouts[layout]])
    drawn = draws_of(one, uncertain, FRESH, salt=1)
    fresh = Robust(one, drawn, known.statistic, known.asked, known.moved)
    x, first = np.log([list(design.numbers.values())]), np.zeros(1, int)
    f, c = fresh.values_of_draws(x, first)
    value, statistics = fresh.values(x, first)
    sign = -1 if known.maximise else 1
    low, middle, high = np.exp(np.quantile(sign * f[0], (0.1, 0.5, 0.9)))
    good = c[0] <= _MET
    limits = []
    for place, (limit, asked) in enumerate(zip(fresh.limits, fresh.of_limits, strict=True)):
        share, kind = float(good[:, place].mean()), asked.statistic.kind
        wanted = {"share": asked.statistic.level, "worst": 1.0}.get(kind)
        held = share >= wanted if wanted is not None else bool(statistics[0, place] <= _MET)
        limits.append(Met(limit.text, share, wanted, held))
    each_draw = [limit.asked is not None for limit in limits]
    return Outcome(
        design.label,
        design.numbers,
        float(np.exp(sign * value[0])),
        float(low),
        float(middle),
        float(high),
        tuple(limits),
        float(good[:, each_draw].all(axis=1).mean()),
    )
