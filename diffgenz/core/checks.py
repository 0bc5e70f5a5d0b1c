"""Checks of numbers: ranges of single ones, and conditions on how several go together.

A check of concrete numbers raises `InputError`. Traced numbers (under `jit` and `vmap`) have no
value to compare yet: a check passes over them, and whoever wants to know asks for the condition
itself, which is a traced boolean like any other (`all_hold`).
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer

from diffgenz.core import xp
from diffgenz.core.errors import InputError
from diffgenz.core.smooth import Flag


class Condition(NamedTuple):
    """Something that must hold of several numbers together.

    Arguments:
        holds: a boolean, or an array of them; traced where one of the numbers is.
        message: what the error says where it does not hold.
    """

    holds: Any
    message: Callable[[], str]


def demand(field: str, value: Any, kind: type | tuple[type, ...], remedy: str) -> None:
    """Raise `InputError` unless `value` is of a class, or of one of several.

    Arguments:
        field: what people call it.
        value: the object.
        kind: the class; the first of several is what people call it.
        remedy: how to write one: 'load_model("ORG/NAME")'.
    """
    if not isinstance(value, kind):
        shown = repr(value) if isinstance(value, str) else f"a {type(value).__name__}"
        name = (kind[0] if isinstance(kind, tuple) else kind).__name__
        raise InputError(f"{field}: {shown} is no {name}; write {remedy}")


def at_most(field: str, value: Any, limit: Any, what: str) -> Condition:
    """`value` <= `limit`.

    Arguments:
        field: what people call `value`.
        value: the number.
        limit: the most that it may be.
        what: what the limit is, and the remedy.
    """

    def message() -> str:
        numbers, limits = np.broadcast_arrays(
            np.asarray(value, dtype=float), np.asarray(limit, dtype=float)
        )
        over = numbers > limits
        return f"{field}: {numbers[over].flat[0]:g} exceeds {limits[over].flat[0]:g}, {what}"

    value, limit = _comparable(value, limit)
    return Condition(value <= limit, message)


def at_least(field: str, value: Any, limit: Any, what: str) -> Condition:
    """`value` >= `limit`; arguments as of `at_most`, `limit` being the least that it may be."""
    value, limit = _comparable(value, limit)

    def message() -> str:
        numbers, limits = np.broadcast_arrays(value, limit)
        under = numbers < limits
        return f"{field}: {numbers[under].flat[0]:g} is below {limits[under].flat[0]:g}, {what}"

    return Condition(value >= limit, message)


def divides(field: str, value: Any, total: Any, what: str) -> Condition:
    """`value` divides `total`; both are whole numbers.

    Arguments:
        field: what people call `value`.
        value: the divisor.
        total: what it must divide.
        what: what `total` counts.
    """

    def message() -> str:
        numbers, totals = np.broadcast_arrays(
            np.asarray(value, dtype=float), np.asarray(total, dtype=float)
        )
        uneven = totals % numbers != 0
        return (
            f"{field}: {numbers[uneven].flat[0]:g} does not divide the "
            f"{totals[uneven].flat[0]:g} {what}; choose a divisor"
        )

    value, total = _comparable(value, total)
    return Condition(xp.round(total / value) * value == total, message)  # exact for whole numbers


def _comparable(*values: Any) -> tuple[Any, ...]:
    """The same numbers as NumPy arrays, which compare without compiling, unless one is traced."""
    if any(isinstance(value, Tracer) for value in values):
        return values
    return tuple(np.asarray(value, dtype=float) for value in values)


_UNCHECKED = ContextVar("unchecked", default=False)


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """In here, records are built unchecked: of numbers that were checked before, as under `jit`."""
    before = _UNCHECKED.set(True)
    try:
        yield
    finally:
        _UNCHECKED.reset(before)


def checking() -> bool:
    """Whether records are checked when they are built; see `unchecked`."""
    return not _UNCHECKED.get()


def enforce(conditions: Iterable[Condition]) -> None:
    """Raise `InputError` for the first condition on concrete numbers that does not hold."""
    for condition in conditions:
        if not isinstance(condition.holds, Tracer) and not np.all(condition.holds):
            raise InputError(condition.message())


def all_hold(conditions: Iterable[Condition]) -> Flag:
    """Whether all conditions hold, as one flag or a column; those on single numbers are enforced.

    Raises:
        InputError: a condition on single, concrete numbers does not hold.
    """
    total = xp.asarray(True)
    for condition in conditions:
        if isinstance(condition.holds, Tracer) or np.ndim(condition.holds):
            total = total & condition.holds
        else:
            enforce((condition,))
    return total


def check(
    field: str,
    value: Any,
    *,
    minimum: float = 0.0,
    maximum: float = np.inf,
    exclusive: bool = False,
    finite: bool = True,
    remedy: str = "",
) -> None:
    """Raise `InputError` unless every element of `value` lies in a range. Traced values pass.

    Arguments:
        field: what people call it.
        value: a number or an array.
        minimum: the least that it may be.
        maximum: the most that it may be, included.
        exclusive: whether `minimum` itself is refused.
        finite: whether infinity is refused.
        remedy: what to do about it.
    """
    if isinstance(value, Tracer):
        return
    numbers = np.asarray(value, dtype=float)
    good = within(numbers, minimum=minimum, maximum=maximum, exclusive=exclusive, finite=finite)
    if good.all():
        return
    bad = numbers[~good].flat[0] if numbers.ndim else numbers
    above = f"{'above' if exclusive else 'at least'} {minimum:g}"
    below = "" if np.isinf(maximum) else f" and at most {maximum:g}"
    raise InputError(
        f"{field}: {bad:g} is not allowed; it must be {'finite, ' if finite else ''}{above}{below}"
        f"{'; ' + remedy if remedy else ''}"
    )


def within(numbers: Any, *, minimum: float, maximum: float, exclusive: bool, finite: bool) -> Any:
    """Whether each of `numbers`, which may be traced, lies in a range; see `check`."""
    good = (numbers > minimum if exclusive else numbers >= minimum) & (numbers <= maximum)
    return good & (abs(numbers) < np.inf) if finite else good


def check_whole(field: str, value: Any, what: str) -> None:
    """Raise `InputError` unless every element of `value`, a number of `what`, is whole.

    Traced values pass.
    """
    if isinstance(value, Tracer):
        return
    numbers = np.asarray(value, dtype=float)
    broken = numbers != np.floor(numbers)
    if broken.any():
        raise InputError(f"{field}: {numbers[broken].flat[0]:g} is not a whole number of {what}")
