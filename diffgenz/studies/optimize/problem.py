"""The problem in logarithms: for every plan, ln objective and ln(left / right) of every limit.

With x = ln of the free numbers, times, bytes and prices are sums of products of powers, whose
logarithms are convex in x: the problem is a geometric program (Boyd et al., A tutorial on geometric
programming, 2007), as far as a plan is fixed and batches are smooth (`Scenario.smooth_batch`).
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from diffgenz.core import xp
from diffgenz.core.differences import as_double, in_double
from diffgenz.core.errors import InputError
from diffgenz.core.leaves import (
    Path,
    called,
    leaf_at,
    leaf_names,
    number_at,
    with_leaves,
    with_unset,
)
from diffgenz.core.record import unnamed
from diffgenz.core.smooth import Scalar
from diffgenz.core.verb import as_if_traced
from diffgenz.hardware.design import Design
from diffgenz.scenario.mix import Question, parts_of, paths_named, with_each_part
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.serving.under_load import (
    SUSTAINED,
    UnderLoad,
)
from diffgenz.studies.expressions import Expression
from diffgenz.studies.optimize.choices import Chosen, check_choices, said_with_plan
from diffgenz.studies.optimize.figures import figures_of, technology_with
from diffgenz.studies.optimize.layouts import Layout, label_of, stacked
from diffgenz.studies.optimize.limits import NEEDED, ROOM, limits_of
from diffgenz.studies.optimize.names import check_names
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.variables import Bounds, variables_of
from diffgenz.studies.sweep.built import platform_of
from diffgenz.studies.sweep.checks import check_formulas
from diffgenz.technology.build import QUANTITIES
from diffgenz.technology.chip import stated_design

_OWN = NEEDED.split("[")[0], ROOM.split("[")[0]

NumberOf = Callable[[str], Any]
"""From the name of a number to it."""

LayoutTable = tuple[Parallelism, tuple[Any, ...]]
"""Plans, and numbers that are chosen, each of shape (layouts,)."""

COLUMNS = 2**15
"""Configurations that are estimated in one call, at most."""


class Problem:
    """What is optimized, over what, and within which limits.

    Arguments:
        question: the scenario or mix.
        over: from the names of free numbers to their bounds.
        objective: a metric, or a formula of metrics, numbers and quantities; above 0.
        maximise: whether more of it is better.
        subject_to: formulas that must hold; of a rate of requests also that it is sustained.
        derived: numbers that follow from others, in this order.
        quantities: names for formulas.
        layouts: single plans, with the numbers that are chosen.
        chosen: what these numbers are, in their order.
        labels: of what else is chosen for the question, by the name of the choice.

    Raises:
        InputError: an unknown name, bounds or formulas that cannot be used.
    """

    draws = 1
    """Estimates of each scenario for one answer."""

    def __init__(
        self,
        question: Question,
        over: Bounds,
        objective: str,
        maximise: bool,
        subject_to: Sequence[str],
        derived: Mapping[str, str],
        quantities: Mapping[str, str],
        layouts: Sequence[Layout],
        chosen: Sequence[Chosen] = (),
        labels: Mapping[str, str] | None = None,
    ):
        self.layouts, self.maximise = tuple(layouts), maximise
        self.chosen, self.labels = tuple(chosen), dict(labels or {})
        self._known: dict[str, tuple[Path, ...]] = {}
        self.quantities = {name: Expression(text) for name, text in quantities.items()}
        check_formulas(self.quantities, ())
        self.variables = variables_of(question, over, self.quantities)
        own = {variable.name for variable in self.variables if not variable.paths}
        for name in (*over, *derived):
            if name not in own:
                question = with_unset(question, name, 1.0)
        self.derived = {
            paths_named(question, name): Expression(text) for name, text in derived.items()
        }
        for paths in self.derived:
            for variable in self.variables:
                if set(paths) & set(variable.paths):
                    raise InputError(
                        f"derived: {variable.name} is free (over); leave it out of one of them"
                    )
        self._check_chosen(question)
        self.objective = Expression(objective)
        if self.objective.conditional or objective == "fits":
            raise InputError(f"objective: {objective!r} is a condition; name a number")
        self.question = question
        parts = len(parts_of(question))
        if isinstance(question, UnderLoad) and question.load.rate is not None:
            subject_to = (*(each for each in subject_to if each != SUSTAINED), SUSTAINED)
        self.limits = limits_of(subject_to, self.quantities, parts, self.unit_of)
        self._check_names()

    @property
    def low(self) -> Numbers:
        """The logarithms of the lower bounds, of shape (n,)."""
        return np.log([variable.low for variable in self.variables])

    @property
    def high(self) -> Numbers:
        """The logarithms of the upper bounds, of shape (n,)."""
        return np.log([variable.high for variable in self.variables])

    @property
    def weights(self) -> Numbers:
        """How much a violation of each limit counts, of shape (m,)."""
        return np.asarray([limit.weight for limit in self.limits], float)

    def hardened(self, *, sharpness: float, smooth_batch: bool) -> "Problem":
        """The same problem of estimates with another sharpness, with or without whole requests."""

        def hard(part: Scenario) -> Scenario:
            return dataclasses.replace(part, sharpness=sharpness, smooth_batch=smooth_batch)

        other = object.__new__(Problem)
        other.__dict__.update(
            {name: value for name, value in self.__dict__.items() if name != "double"}
        )
        other.question = with_each_part(self.question, hard)
        return other

    def with_chosen(self, chosen: Sequence[Chosen], layouts: Sequence[Layout]) -> "Problem":
        """The same problem with other numbers that are chosen, which are not checked."""
        other = object.__new__(Problem)
        kept = {name: value for name, value in self.__dict__.items() if name != "layout_table"}
        other.__dict__.update(kept, chosen=tuple(chosen), layouts=tuple(layouts))
        return other

    @cached_property
    def double(self) -> Question:
        """The question in float64, without labels."""
        with in_double():
            return unnamed(as_double(self.question))

    def values(
        self, x: Numbers, plans: np.ndarray, changes: Mapping[Path, Any] | None = None
    ) -> tuple[Numbers, Numbers]:
        """ln objective (its negative, where it is maximised) and ln(left / right) of each limit.

        It is answered in float64 by NumPy, without compiling.

        Arguments:
            x: logarithms of the variables, of shape (columns, n).
            plans: which plan each column has, of shape (columns,).
            changes: other numbers of the question, each of shape (columns,).

        Returns:
            arrays of shape (columns,) and (columns, m); NaN where a logarithm has no value.
        """
        blocks = [
            self._block(
                x[at : at + COLUMNS],
                plans[at : at + COLUMNS],
                {path: value[at : at + COLUMNS] for path, value in (changes or {}).items()},
            )
            for at in range(0, len(x), COLUMNS)
        ]
        f, c = zip(*blocks, strict=True)
        return np.concatenate(f), np.concatenate(c)

    def _block(
        self, x: Numbers, plans: np.ndarray, changes: Mapping[Path, Any]
    ) -> tuple[Numbers, Numbers]:
        with in_double(), as_if_traced():
            question = with_leaves(self.double, changes) if changes else self.double
            found = self.rows(*self.with_layout(question, self.table_at(plans), np.exp(x).T))
            rows = [np.broadcast_to(np.asarray(row, np.float64), len(x)) for row in found]
        return rows[0], np.stack(rows[1:], axis=1) if rows[1:] else np.zeros((len(x), 0))

    def rows(self, question: Any, numbers: Sequence[Any]) -> list[Scalar]:
        """The logarithms of objective and limits, NumPy's or JAX's.

        Arguments:
            question: with its plan, and `numbers`: of variables and choices, of `with_layout`.
        """
        question = self.placed(question, numbers)
        metrics = self.metrics(question, numbers) if self.needed else {}
        return self.formulas(partial(self.number, question), numbers, metrics)

    def formulas(
        self, number: NumberOf, numbers: Sequence[Any], metrics: Mapping[str, Any]
    ) -> list[Any]:
        """The same where the metrics are known.

        Arguments:
            number: the number of the question that has a name.
            numbers: of variables and choices, in SI.
            metrics: by name.
        """
        lookup = self.lookup(number, numbers, metrics)
        objective = _log(self.objective(lookup))
        limits = [_log(limit.left(lookup)) - _log(limit.right(lookup)) for limit in self.limits]
        return [-objective if self.maximise else objective, *limits]

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """The metrics that the formulas use, and what the accelerator takes to build."""
        waiting = set(self.objective.names)
        for limit in self.limits:
            waiting |= limit.left.names | limit.right.names
        found = set()
        while waiting:
            name = waiting.pop()
            if name in self.quantities:
                waiting |= self.quantities[name].names
            elif name.split("[")[0] in (*EVERY_METRIC, *_OWN, *QUANTITIES) or name in EVERY_METRIC:
                found.add(name)
        return tuple(sorted(found))

    @cached_property
    def design(self) -> Design | None:
        """How the accelerator is built; None where no formula asks for it."""
        if not QUANTITIES.keys() & set(self.needed):
            return None
        return stated_design(platform_of(self.question))

    def with_layout(
        self, question: Any, own: LayoutTable, numbers: Iterable[Any]
    ) -> tuple[Any, list[Any]]:
        """The question with a plan, or columns of plans, in every part; and all numbers to place.

        Arguments:
            question: the question.
            own: of `table_at`.
            numbers: of the variables, in SI.
        """
        plan, chosen = own
        return with_leaves(question, dict.fromkeys(self._plan_paths, plan)), [*numbers, *chosen]

    @cached_property
    def _plan_paths(self) -> tuple[Path, ...]:
        """Where plans stand."""
        return paths_named(self.question, "plan", parts=True)

    def table_at(self, layouts: np.ndarray | int) -> LayoutTable:
        """The plans and chosen numbers of some layouts, as columns in float64."""
        return jax.tree.map(lambda table: table[layouts], self.layout_table)

    def label(self, layout: int) -> str:
        """A layout in words: "fp8, accelerators 4; tp 2"."""
        return said_with_plan(self.choices(layout), label_of(self.layouts[layout].plan))

    def choices(self, layout: int) -> dict[str, float | str]:
        """What is chosen in a layout, by name."""
        return dict(self.layouts[layout].choices)

    def path(self, name: str) -> Path:
        """Where the number called `name` stands, which is looked for once."""
        if name not in self._known:
            self._known[name] = paths_named(self.question, name)
        return self._known[name][0]

    def number(self, question: Any, name: str) -> Any:
        """The number of a question that is called `name`."""
        return leaf_at(question, self.path(name))

    def number_with(self, plan: Parallelism, path: Path) -> Any:
        """The number at a path of the question, or of this plan, where it stands in one."""
        for place in self._plan_paths:
            if path[: len(place)] == place:
                return leaf_at(plan, path[len(place) :])
        return leaf_at(self.double, path)

    @cached_property
    def layout_table(self) -> LayoutTable:
        """All plans, and all numbers that are chosen, as columns in float64."""
        with in_double():
            plans = as_double(stacked([layout.plan for layout in self.layouts]))
            rows = np.asarray([layout.numbers for layout in self.layouts], np.float64)
            return plans, tuple(rows.reshape(len(self.layouts), -1).T)

    def placed(self, question: Any, numbers: Sequence[Any]) -> Any:
        """The question with numbers of variables and choices, and what follows from them."""
        changes = {}
        for variable, column in zip((*self.variables, *self.chosen), numbers, strict=True):
            changes |= dict.fromkeys(variable.paths, column)
        question = with_leaves(question, changes) if changes else question
        for paths, formula in self.derived.items():
            value = formula(self.lookup(partial(self.number, question), numbers, {}))
            question = with_leaves(question, dict.fromkeys(paths, xp.asarray(value, float)))
        return question

    def _own(self, numbers: Sequence[Any]) -> dict[str, Any]:
        """The free and chosen numbers that are quantities, by name."""
        return {
            variable.name: number
            for variable, number in zip((*self.variables, *self.chosen), numbers, strict=True)
            if not variable.paths
        }

    def metrics(self, question: Any, numbers: Sequence[Any] | None = None) -> dict[str, Scalar]:
        """Every metric, what "fits" compares, and what the accelerator takes where it is asked.

        Arguments:
            question: with all its numbers.
            numbers: of variables and choices, in SI; None: no coefficient of technology is chosen.
        """
        chosen = {} if numbers is None else self._own(numbers)
        return figures_of(question, self.design, technology_with(chosen), self.needed)

    def lookup(
        self, number: NumberOf, numbers: Sequence[Any], metrics: Mapping[str, Any]
    ) -> NumberOf:
        """What formulas mean by their names; the arguments are those of `formulas`."""
        known = self._own(numbers)

        def lookup(name: str) -> Any:
            if name in known:
                return known[name]
            if name in self.quantities:
                return known.setdefault(name, self.quantities[name](lookup))
            return metrics[name] if name in metrics else number(name)

        return lookup

    def unit_of(self, name: str) -> str:
        """The SI unit of what is called by a name; "" of a formula."""
        metric = name.split("[")[0] if name not in EVERY_METRIC else name
        if metric in EVERY_METRIC:
            return EVERY_METRIC[metric].unit
        if name in QUANTITIES and name not in self.quantities:
            return QUANTITIES[name]
        if name in self.quantities or not any(
            called(full, name) for full in leaf_names(self.question)
        ):
            return ""
        about = number_at(self.question, paths_named(self.question, name)[0])
        return "" if about is None else about.unit

    def _check_chosen(self, question: Any) -> None:
        """Raise `InputError` for choices of numbers that are free or derived, or are refused."""
        check_choices(question, self.chosen, self.layouts)
        taken = {path for variable in self.variables for path in variable.paths}
        taken |= {path for paths in self.derived for path in paths}
        for place, each in enumerate(self.chosen):
            others = {path for other in self.chosen[:place] for path in other.paths}
            own = {variable.name for variable in self.variables}
            if set(each.paths) & (taken | others) or each.name in own:
                raise InputError(
                    f"choices: {each.name} is free (over), derived or chosen twice; leave it out "
                    "of one of them"
                )

    def _check_names(self) -> None:
        """Raise `InputError` for names that mean nothing in the formulas."""
        middle = np.exp((self.low + self.high) / 2)
        with in_double(), as_if_traced():
            question, numbers = self.with_layout(self.double, self.table_at(0), middle)
            metrics = self.metrics(self.placed(question, numbers), numbers)
        formulas = [
            ("objective", self.objective),
            *(("subject_to", side) for limit in self.limits for side in (limit.left, limit.right)),
            *(("quantities", formula) for formula in self.quantities.values()),
        ]
        check_names(self.question, formulas, self.quantities, metrics, self.variables)


def _log(value: Any) -> Any:
    """The logarithm; NaN or infinite where there is none."""
    return xp.log(value)
