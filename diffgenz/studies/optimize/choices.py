"""What is chosen rather than free: formats, accelerators of a node, stacks, whole records.

Every combination of choices is tried with every plan that is possible there. Combinations that
differ in numbers alone are lanes of one problem, as plans are; those that differ in structure, such
as formats, are problems of their own, solved one after another. None is left out early.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.errors import InputError, NoSolution
from diffgenz.core.leaves import Path, leaf_at, number_at, with_leaves, with_unset
from diffgenz.core.record import Record
from diffgenz.scenario.mix import Question, paths_named
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.studies.expressions import Expression
from diffgenz.studies.optimize.layouts import Layout, layouts_of
from diffgenz.studies.sweep.axes import Axis, Choice, Grid

Choices = Mapping[str, Axis]
"""From the name of a number, a record, or of nothing but the choice, to what it may be."""

MOST_LAYOUTS = 4096
"""Combinations of choices and plans, at most."""


class Chosen(NamedTuple):
    """A number that is one of several.

    Arguments:
        name: what people call it.
        paths: where it stands; a quantity stands nowhere.
    """

    name: str
    paths: tuple[Path, ...]


class Variant(NamedTuple):
    """A question whose layouts differ in numbers alone.

    Arguments:
        question: with the records that are chosen.
        labels: of the records, by the name of the choice.
        chosen: the numbers that differ.
        layouts: every combination of these and of plans.
    """

    question: Question
    labels: dict[str, str]
    chosen: tuple[Chosen, ...]
    layouts: tuple[Layout, ...]


class _Option(NamedTuple):
    """One option of a choice: its label, and the numbers and records that it sets, by name."""

    label: float | str
    sets: Mapping[str, Any]


def variants_of(
    question: Question,
    choices: Choices,
    quantities: Mapping[str, str],
    plans: Sequence[Parallelism] | Parallelism | None,
) -> tuple[list[Variant], list[str]]:
    """The structures that choices and plans make, and notes on combinations without any plan.

    Arguments:
        question: the scenario or mix.
        choices: by name.
        quantities: formulas by name; one that is a plain number may be a choice.
        plans: as in `layouts_of`; of stated ones those that fit each combination.

    Raises:
        InputError: a choice that cannot be used, or no combination that can.
        NoSolution: no engine accepts any plan of any combination.
    """
    if not choices:
        alone = tuple(Layout(plan) for plan in layouts_of(question, plans))
        return [Variant(question, {}, (), alone)], []
    options = {name: _options(name, axis) for name, axis in choices.items()}
    records = {name for name, every in options.items() if any(_has_record(each) for each in every)}
    variants: list[Variant] = []
    notes: list[str] = []
    refused: InputError | NoSolution | None = None
    numeric = {name: every for name, every in options.items() if name not in records}
    for combination in product(*(options[name] for name in options if name in records)):
        base = question
        labels: dict[str, str] = {}
        named = [name for name in options if name in records]
        for name, option in zip(named, combination, strict=True):
            base = _with(base, name, option.sets)
            labels[name] = str(option.label)
        names = dict.fromkeys(
            key for every in numeric.values() for each in every for key in each.sets
        )
        for name in names:
            if name not in quantities:
                base = with_unset(base, name, 1.0)
        chosen = tuple(_chosen(base, name, quantities) for name in names)
        layouts: list[Layout] = []
        plans_of: dict[tuple[float, ...], tuple[Parallelism, ...]] = {}
        for row in product(*numeric.values()):
            given = {key: float(value) for each in row for key, value in each.sets.items()}
            numbers = tuple(given.get(each.name, _now(base, each, quantities)) for each in chosen)
            own = labels | {name: each.label for name, each in zip(numeric, row, strict=True)}
            own = {name: own[name] for name in options}
            placed = {
                path: np.float64(number)
                for each, number in zip(chosen, numbers, strict=True)
                for path in each.paths
            }
            key = tuple(placed.values())
            try:
                if key not in plans_of:
                    plans_of[key] = ()
                    moved = with_leaves(base, placed) if placed else base
                    plans_of[key] = layouts_of(moved, plans, some=True)
            except (InputError, NoSolution) as error:
                refused = error
                said = ", ".join(said_of_choices(own))
                notes.append(f"{said}: not possible ({error})")
            layouts += [Layout(plan, numbers, own) for plan in plans_of[key]]
            if len(layouts) > MOST_LAYOUTS:
                raise InputError(
                    f"choices: more than {MOST_LAYOUTS} combinations with plans; list fewer"
                )
        if layouts:
            variants.append(Variant(base, labels, chosen, tuple(layouts)))
    if not variants:
        assert refused is not None
        raise refused
    return variants, notes


def said_of_choices(labels: Mapping[str, float | str]) -> list[str]:
    """Choices in words: "fp8", "accelerators 4"."""
    return [
        label if isinstance(label, str) else f"{name} {label:g}" for name, label in labels.items()
    ]


def said_with_plan(labels: Mapping[str, float | str], plan: str) -> str:
    """Choices and a plan in words: "fp8, accelerators 4; tp 2".

    Where parts of a mix have ranks of their own, chosen by name, these alone are their plans.
    """
    said = ", ".join(said_of_choices(labels))
    if not said or any(".plan." in name for name in labels):
        return said or plan
    return f"{said}; {plan}"


def _options(name: str, axis: Axis) -> list[_Option]:
    if not isinstance(axis, Grid | Choice) or axis.drawn:
        raise InputError(f"choices[{name}]: a choice has single values; write values = [...]")
    if isinstance(axis, Grid):
        return [_Option(level, {name: level}) for level in axis.levels]
    found = []
    for label, given in axis.options.items():
        sets = given if isinstance(given, Mapping) else {name: given}
        if any(isinstance(part, Parallelism) for part in sets.values()):
            raise InputError(f"choices[{name}]: plans are not listed there; write them in plans")
        found.append(_Option(str(label), sets))
    return found


def _has_record(option: _Option) -> bool:
    return any(isinstance(part, Record) or not _plain(part) for part in option.sets.values())


def _plain(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _with(question: Any, name: str, sets: Mapping[str, Any]) -> Any:
    """The question with the records and numbers of an option."""
    for key, part in sets.items():
        if _plain(part):
            question = with_unset(question, key, 1.0)
        paths = paths_named(question, key, parts=not _plain(part))
        for path in paths:
            old = leaf_at(question, path)
            if not _plain(part) and not isinstance(part, type(old)):
                raise InputError(
                    f"choices[{name}]: {key} is a {type(old).__name__}, not a {type(part).__name__}"
                )
        question = with_leaves(question, dict.fromkeys(paths, part))
    return question


def _chosen(question: Any, name: str, quantities: Mapping[str, str]) -> Chosen:
    if name not in quantities:
        return Chosen(name, paths_named(question, name))
    formula = Expression(quantities[name])
    if formula.names:
        raise InputError(
            f"choices[{name}]: it is a formula ({formula.text}); give the quantity as a number"
        )
    return Chosen(name, ())


def _now(question: Any, chosen: Chosen, quantities: Mapping[str, str]) -> float:
    """What a number is where an option leaves it as it is."""
    if not chosen.paths:
        return float(Expression(quantities[chosen.name])(lambda name: 1.0))
    return float(leaf_at(question, chosen.paths[0]))


def check_choices(question: Any, chosen: Sequence[Chosen], layouts: Sequence[Layout]) -> None:
    """Raise `InputError` for a number that the record of a choice refuses."""
    for place, each in enumerate(chosen):
        about = number_at(question, each.paths[0]) if each.paths else None
        for value in {layout.numbers[place] for layout in layouts}:
            if about is not None:
                about.check(f"choices[{each.name}]", value)
