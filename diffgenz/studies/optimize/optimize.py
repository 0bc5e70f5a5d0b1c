"""`optimize`: the numbers and the plan that serve a question best, and what each limit costs.

All plans and starts are solved together, one lane for each (`sqp`); the best are made exact
(`exact`). For a fixed plan the problem is convex in logarithms but for few parts, so that a handful
of starts for each plan is a proof of health rather than a search (`convexity`).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from diffgenz.core.checks import demand
from diffgenz.core.errors import InputError
from diffgenz.scenario.mix import Mix, parts_of
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.studies.optimize.choices import Choices, variants_of
from diffgenz.studies.optimize.draws import Uncertainty, at_medians, draws_of
from diffgenz.studies.optimize.exact import CANDIDATES, exact_optimum
from diffgenz.studies.optimize.lanes import Ends, Lanes, Progress
from diffgenz.studies.optimize.optimum import Exact, Optimum
from diffgenz.studies.optimize.prices import leaf_elasticities
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.resolved_prices import resolved_prices
from diffgenz.studies.optimize.robust import Robust
from diffgenz.studies.optimize.robustness import robustness_of
from diffgenz.studies.optimize.statistic_words import (
    limits_on_draws,
    objective_on_draws,
    speaks_of_draws,
)
from diffgenz.studies.optimize.variables import Bounds

STARTS = 8
"""Starts of each plan."""


def optimize(
    case: Scenario | Mix,
    over: Bounds,
    objective: str,
    *,
    maximise: bool = False,
    subject_to: Sequence[str] = ("fits",),
    derived: Mapping[str, str] | None = None,
    quantities: Mapping[str, str] | None = None,
    plans: Sequence[Parallelism] | Parallelism | None = None,
    choices: Choices | None = None,
    uncertain: Uncertainty | None = None,
    check_prices: bool = True,
    starts: int = STARTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Optimum:
    """The least, or the most, of an objective over some numbers, within limits, for every plan.

    Kernels are timed as `estimate` times them: by the fits of the platform where it has some.

    Arguments:
        case: the question, or a mix of several that take turns on one platform.
        over: what is free: from the name of a number ("memory_bandwidth", "peak_flops[fp8]",
            "batch") to its lower and upper bound, in SI or as text with a unit. A name that fits
            every scenario of a mix means all of them.
        objective: a metric, or a formula of metrics, numbers and quantities, which is above 0.
        maximise: whether more of it is better.
        subject_to: formulas that must hold: "fits", "tpot <= 0.02", "board_power <= 1000". Both
            sides must be above 0.
        derived: numbers that follow from others: {"peak_flops[bf16]": "peak_flops[fp8] / 2"}.
        quantities: names for formulas, as a sweep has them.
        plans: the plans to try. Default: all that use all accelerators and that vLLM or SGLang
            accept.
        choices: what is one of several, as the axes of a space have them (`values`, `integers`,
            `choice`), by name: {"accelerators": values(4, 8)}. Every combination is tried with
            every plan that is possible there.
        uncertain: what is not known for sure. The objective may then be "mean(F)", "worst(F)" or
            "cvar(75%, F)", the mean of the worst quarter of draws; a formula alone means its mean.
            So may one side of a limit; and "ttft <= 2 in 90% of draws" is a limit that so many
            draws must meet. A limit alone must be met in every draw.
        check_prices: whether the shadow prices of the best plan, and the ranges in which they hold,
            are checked by solving again with each limit moved; else ranges are to first order.
        starts: random starts of each plan, at least 1.
        seed: of the starts.
        progress: called again and again while it works.

    Returns:
        The optimum of every plan with shadow prices and certificate, and the best one exactly:
        whole requests, hard maxima. Where nothing meets the limits, the least violation.

    Raises:
        InputError: an unknown name, bounds or formulas that cannot be used, an objective that
            nothing free moves, formulas without a value at any start.
        NoSolution: no engine accepts any plan.
    """
    demand("case", case, (Scenario, Mix), "Scenario(model, platform, workload)")
    if starts < 1:
        raise InputError(f"starts: {starts} is not allowed; it must be at least 1")
    more = derived or {}, quantities or {}
    if uncertain is None:
        _check_certain(objective, subject_to)
        asked = over, objective, maximise, subject_to, *more
        problems, notes = problems_of(case, asked, plans, choices or {})
        return _solved(problems, notes, starts, seed, progress, check_prices)
    demand("uncertain", uncertain, Uncertainty, "Uncertainty(calibration=True)")
    formula, statistic = objective_on_draws(objective)
    limits = limits_on_draws(subject_to)
    asked = over, formula, maximise, [limit.text for limit in limits], *more
    nominal, notes = problems_of(case, asked, plans, choices or {}, uncertain)
    robust = [
        Robust(problem, draws_of(problem, uncertain, uncertain.draws), statistic, limits)
        for problem in nominal
    ]
    said = progress and (lambda what, *counts: progress(f"at medians, {what}", *counts))
    before = _solved(nominal, [], starts, seed, said, False)
    found = _solved(robust, notes, starts, seed, progress, check_prices)
    if found.exact is None:
        return found
    how = robustness_of(robust, uncertain, found.exact, before.exact)
    return dataclasses.replace(found, robustness=how)


def _check_certain(objective: str, subject_to: Sequence[str]) -> None:
    """Raise `InputError` for statistics of draws where nothing is drawn."""
    fields = [("objective", objective), *(("subject_to", text) for text in subject_to)]
    for field, text in fields:
        if speaks_of_draws(text):
            raise InputError(
                f"{field}: {text!r} is of draws, and nothing is uncertain; say what is "
                "(uncertain), or leave the statistic out"
            )


def _solved(
    problems: Sequence[Problem],
    notes: list[str],
    starts: int,
    seed: int,
    progress: Progress | None,
    check_prices: bool,
) -> Optimum:
    every = [Lanes(problem, starts, seed, progress).solved() for problem in problems]
    return _together(every, notes, progress, check_prices)


Asked = tuple[Bounds, str, bool, Sequence[str], Mapping[str, str], Mapping[str, str]]
"""What is free, the objective, whether more is better, limits, derived numbers, and quantities."""


def problems_of(
    case: Scenario | Mix,
    asked: Asked,
    plans: Sequence[Parallelism] | Parallelism | None,
    choices: Choices,
    uncertain: Uncertainty | None = None,
) -> tuple[list[Problem], list[str]]:
    """The smooth problem of each structure that is chosen, and notes on what is not possible.

    Arguments:
        case: the question.
        asked: of it.
        plans, choices: as in `optimize`.
        uncertain: what stands at its median; None: nothing.

    Raises:
        InputError, NoSolution: as `optimize`.
    """
    sharpness = parts_of(case)[0].sharpness
    variants, notes = variants_of(case, choices, asked[-1], plans)
    problems = []
    for each in variants:
        question, quantities = each.question, asked[-1]
        if uncertain is not None:
            question, quantities = at_medians(question, quantities, uncertain)
        parts = *asked[:-1], quantities, each.layouts, each.chosen, each.labels
        problem = Problem(question, *parts)
        problems.append(problem.hardened(sharpness=sharpness, smooth_batch=True))
    return problems, notes


def _together(
    every: list[Ends], notes: list[str], progress: Progress | None, check_prices: bool
) -> Optimum:
    """What was found, of all structures."""
    ranked = sorted(
        ((float(each.ends.point.f[row]), number, int(row)))
        for number, each in enumerate(every)
        for row in each.order
    )
    worst = sorted(
        (float(each.violation[row]), number, int(row))
        for number, each in enumerate(every)
        for row in each.least
    )
    notes = [*notes, *(note for each in every for note in each.notes)]
    exact: Exact | None = None
    elasticities: dict[str, float] = {}
    problem = every[0].problem
    plans = [every[number].rows[row] for _, number, row in ranked]
    if ranked:
        _, number, row = ranked[0]
        one = every[number]
        plan = int(one.layouts[row])
        lane = one.ends.at(np.array([row]))
        elasticities = leaf_elasticities(one.problem, lane, plan)
        if check_prices:
            checked = resolved_prices(one.problem, lane, plan, plans[0].prices)
            plans[0] = dataclasses.replace(plans[0], prices=checked)
        for number, each in enumerate(every):
            mine = np.array([row for _, at, row in ranked[:CANDIDATES] if at == number], int)
            if len(mine):
                said = progress and (lambda done, count: progress("rounding", done, count))
                found = exact_optimum(each.problem, each.ends.at(mine), each.layouts[mine], said)
                if found is not None and (exact is None or _better(found, exact, problem)):
                    exact = found
        if exact is None:
            notes.append("no whole counts near the optimum meet all limits exactly")
    return Optimum(
        problem.objective.text,
        problem.maximise,
        problem.unit_of(problem.objective.text),
        {variable.name: variable.unit for variable in problem.variables},
        tuple(plans),
        tuple(every[number].rows[row] for _, number, row in worst),
        exact,
        elasticities,
        tuple(notes),
    )


def _better(one: Exact, other: Exact, problem: Problem) -> bool:
    return one.value > other.value if problem.maximise else one.value < other.value
