"""What must hold of a space before anything is estimated."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jax.tree_util import GetAttrKey

from diffgenz.core.errors import InputError
from diffgenz.core.leaves import Path, leaf_names, name_of, number_at
from diffgenz.scenario.mix import Question
from diffgenz.serving.under_load import SUSTAINED
from diffgenz.studies.expressions import Expression
from diffgenz.studies.sweep.slots import Continuum, Slot

CONDITIONS = ("fits", "legal", SUSTAINED)
"""Conditions that have names; the last is that of a load."""


def check_formulas(quantities: Mapping[str, Expression], constraints: Sequence[Expression]) -> None:
    """Raise `InputError` for quantities made of themselves, and constraints that are numbers."""
    for name in quantities:
        seen, waiting = set(), [name]
        while waiting:
            inner = waiting.pop()
            if inner in seen or inner not in quantities:
                continue
            seen.add(inner)
            waiting += quantities[inner].names
            if name in quantities[inner].names:
                raise InputError(f"quantity: {name} is made of itself; give it a name of its own")
    for constraint in constraints:
        deepest = constraint
        while deepest.text in quantities:
            deepest = quantities[deepest.text]
        if not deepest.conditional and deepest.text not in CONDITIONS:
            raise InputError(
                f"constraint: {constraint.text!r} is a number, not a condition; "
                "compare it with another"
            )


def checked_samples(samples: int | None, drawn: Sequence[Slot | Continuum]) -> int:
    """How often the sampled axes are drawn; 1 where there are none.

    Arguments:
        samples: as people ask for it.
        drawn: the sampled axes.

    Raises:
        InputError: samples without sampled axes, sampled axes without samples, or less than one.
    """
    if drawn and samples is None:
        raise InputError(
            f"samples: needed, since {drawn[0].name} is sampled; give their number, or n"
        )
    if not drawn and samples is not None:
        raise InputError(
            f"samples: {samples} asked for, but no axis is sampled; leave it out, "
            "or make an axis a range or `sampled()`"
        )
    if samples is not None and samples < 1:
        raise InputError(f"samples: {samples} is not allowed; it must be at least 1")
    return samples or 1


def check_values(
    scenario: Question, slots: Iterable[Slot | Continuum], derived: Iterable[Path]
) -> None:
    """Raise `InputError` where a value of an axis is one that its record refuses.

    How numbers go together is for the device to see.

    Arguments:
        scenario: of one variant.
        slots: the axes.
        derived: the numbers that follow from others.
    """
    known = {tuple(path) for path in leaf_names(scenario).values()}
    missing = "is not in every option of the choices; leave out those without"
    for slot in slots:
        for path in slot.paths:
            if path not in known:
                raise InputError(f"axis {slot.name}: {name_of(path)} {missing}")
        for path, values in zip(slot.paths, slot.probes, strict=True):
            check_number(f"axis {slot.name}: ", scenario, path, values)
    for path in derived:
        if path not in known:
            raise InputError(f"derived: {name_of(path)} {missing}")


def check_number(prefix: str, record: Any, path: Path, value: Any) -> None:
    """Raise `InputError` where the number at `path` may not be `value`.

    Arguments:
        prefix: what the message begins with.
        record: where the number is.
        path: which number of it.
        value: one, or an array of them.
    """
    about = number_at(record, path)
    if about is not None:
        field = next(key.name for key in reversed(path) if isinstance(key, GetAttrKey))
        try:
            about.check(field, value)
        except InputError as error:
            raise InputError(f"{prefix}{error}") from None
