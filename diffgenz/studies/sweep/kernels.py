"""What times the kernels of a space, for each choice of a system, a model or formats."""

import itertools
from collections.abc import Iterator
from typing import Any

from diffgenz.core.leaves import Path, with_leaves
from diffgenz.inference.timed_by import run_by, sources_of, timed_by
from diffgenz.operators.message import Axis
from diffgenz.scenario.mix import Question, parts_of
from diffgenz.studies.sweep.slots import Slot
from diffgenz.studies.sweep.space import Space

_RECORDS = ("platform", "model", "precision")
"""The records of a scenario on which it depends what times its kernels."""

MOST = 32
"""Combinations of choices that are looked at."""


def kernels_of(space: Space) -> dict[str, dict[str, str]]:
    """What times the kernels of a space (`timed_by`), by the labels of its choices.

    Where a number of the plan varies, collectives between all kinds of ranks are among them.

    Arguments:
        space: the space.

    Returns:
        by labels such as "h100_sxm, weights fp8", "" where no choice matters; of at most `MOST`
        combinations, the first.
    """
    varies = any(_names(path) & {"plan"} for path in space.paths)
    varies = varies or any(
        _names(path) & {"plan"} for axis in _options(space) for path in axis[0][2]
    )
    return {label: _sources(question, varies) for label, question in _questions(space)}


def notes_of(space: Space) -> dict[str, tuple[str, ...]]:
    """What to know of the models of a space (`Model.notes`), by their names.

    Arguments:
        space: as in `kernels_of`, and of at most as many combinations of choices.
    """
    models = (case.model for _, question in _questions(space) for case in parts_of(question))
    return {model.name: model.notes for model in models if model.notes}


def _options(space: Space) -> list[list[tuple[str, str, Any]]]:
    """(name, label, changes) of each option of each choice of a space."""
    return [
        [(variant.name, *each) for each in zip(variant.labels, variant.changes, strict=True)]
        for variant in space.variants
    ] + [
        [(slot.name, *each) for each in zip(slot.labels, slot.options, strict=True)]
        for slot in space.slots
        if isinstance(slot, Slot) and slot.options
    ]


def _questions(space: Space) -> Iterator[tuple[str, Question]]:
    """The labels of a combination of choices, and its question; of at most `MOST`, the first."""
    choices = [
        axis for axis in _options(space) if any(_names(path) & {*_RECORDS} for path in axis[0][2])
    ]
    for chosen in itertools.islice(itertools.product(*choices), MOST):
        question = space.scenario
        for _, _, changes in chosen:
            question = with_leaves(question, changes)
        yield ", ".join(label for _, label, _ in chosen), question


def _sources(question: Question, varies: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for case in parts_of(question):
        found |= sources_of(case, run_by(case), set(Axis)) if varies else timed_by(case)
    return found


def _names(path: Path) -> set[Any]:
    """The fields on the way to a number or a record."""
    return {getattr(key, "name", None) for key in path}
