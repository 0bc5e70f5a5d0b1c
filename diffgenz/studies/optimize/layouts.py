"""The plans that an optimization tries: integers are enumerated, not relaxed."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.checks import demand
from diffgenz.core.errors import InputError, NoSolution
from diffgenz.scenario.mix import Question, parts_of
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.studies.search.acceptance import accepted_by_engines
from diffgenz.studies.search.plans import plans as every_plan
from diffgenz.studies.sweep.axis_tables import plan_label

_OFF = {"context": 1.0, "sequence": 0.0}


class Layout(NamedTuple):
    """A plan, and the numbers that are chosen with it.

    Arguments:
        plan: the plan.
        numbers: in SI, in the order of the choices of its problem.
        choices: what people call them, by the name of the choice.
    """

    plan: Parallelism
    numbers: tuple[float, ...] = ()
    choices: Mapping[str, float | str] = MappingProxyType({})


def layouts_of(
    question: Question,
    wanted: Sequence[Parallelism] | Parallelism | None,
    *,
    some: bool = False,
) -> tuple[Parallelism, ...]:
    """The plans to try.

    Arguments:
        question: the scenario or mix, of which all parts have the same plan.
        wanted: the plans, one of them, or a batch of them; None: all that use all accelerators and
            that vLLM or SGLang accept for every part.
        some: whether plans that a scenario refuses are left out, as long as there is another.

    Raises:
        InputError: a plan that a scenario refuses.
        NoSolution: no plan is accepted.
    """
    if wanted is None:
        return _accepted(question)
    rows: list[Parallelism] = []
    for plan in (wanted,) if isinstance(wanted, Parallelism) else tuple(wanted):
        demand("plans", plan, Parallelism, "Parallelism(tensor=8)")
        rows += _rows(plan)
    if not rows:
        raise InputError("plans: none to try; give at least one, or None for all")
    possible: list[Parallelism] = []
    for row in rows:
        try:
            for part in parts_of(question):
                part.replace(plan=row)
        except InputError:
            if not some or (row is rows[-1] and not possible):
                raise
        else:
            possible.append(row)
    return tuple(possible)


def _accepted(question: Question) -> tuple[Parallelism, ...]:
    first = parts_of(question)[0]
    kept = [
        dataclasses.replace(row, overlap=first.plan.overlap, sequence=first.plan.sequence)
        for row in _rows(every_plan(first.model, first.platform))
    ]
    for part in parts_of(question):
        kept = [row for row in kept if _possible(part, row)]
        if kept:
            accepted = accepted_by_engines(part, stacked(kept), [part.precision])
            kept = [row for row, good in zip(kept, accepted[:, 0], strict=True) if good]
    if not kept:
        raise NoSolution(
            f"no plan serves all parts on {int(first.platform.accelerators)} accelerators; "
            "give plans, or another number of accelerators"
        )
    return tuple(kept)


def _possible(part: Scenario, plan: Parallelism) -> bool:
    try:
        part.replace(plan=plan)
    except InputError:
        return False
    return True


def _rows(plans: Parallelism) -> list[Parallelism]:
    """A batch of plans, or a single one, as single plans."""
    columns = {
        field.name: np.atleast_1d(np.asarray(getattr(plans, field.name), float))
        for field in dataclasses.fields(plans)
        if getattr(plans, field.name) is not None
    }
    count = max(len(column) for column in columns.values())
    return [
        Parallelism(
            **{name: float(np.resize(column, count)[row]) for name, column in columns.items()}
        )
        for row in range(count)
    ]


def stacked(plans: Sequence[Parallelism]) -> Parallelism:
    """Single plans as one batch, every field of shape (plans,)."""
    columns: dict[str, Any] = {}
    for field in dataclasses.fields(Parallelism):
        values = [getattr(plan, field.name) for plan in plans]
        absent = all(value is None for value in values)
        off = _OFF.get(field.name)
        filled = [off if value is None else float(value) for value in values]
        columns[field.name] = None if absent else np.asarray(filled, float)
    return Parallelism(**columns)


def label_of(plan: Parallelism) -> str:
    """A plan in words: "tp 8, pp 2"."""
    ranks = {
        field.name: float(getattr(plan, field.name))
        for field in dataclasses.fields(plan)
        if getattr(plan, field.name) is not None
    }
    return plan_label(ranks)
