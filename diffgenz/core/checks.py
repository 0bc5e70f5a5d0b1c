"""Checks of numbers: ranges of single ones, and conditions on how several go together.

A check of concrete numbers raises `InputError`. Traced numbers (under `jit` and `vmap`) have no
value to compare yet, so a check passes over them. Code that needs the answer asks for the condition
itself, which is a traced boolean like any other (`all_hold`).
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool

from diffgenz.core.errors import InputError


class Condition(NamedTuple):
    """Something that must hold of several numbers together.

    Arguments:
        holds: a boolean, or an array of booleans; traced where one of the numbers is.
        message: returns what the error says where the condition does not hold.
    """

    holds: Any
    message: Callable[[], str]


def at_most(field: str, value: Any, limit: Any, what: str) -> Condition:
    """The condition that `value` is at most `limit`.

    Arguments:
        field: what people call `value`.
        value: a number, or an array of numbers.
        limit: the greatest value that is allowed; it broadcasts with `value`.
        what: what the limit is, and the remedy: the end of the error.
    """

    def message() -> str:
        numbers, limits = np.broadcast_arrays(
            np.asarray(value, dtype=float), np.asarray(limit, dtype=float)
        )
        over = numbers > limits
        return f"{field}: {numbers[over].flat[0]:g} exceeds {limits[over].flat[0]:g}, {what}"

    value, limit = _comparable(value, limit)
    return Condition(value <= limit, message)


def divides(field: str, value: Any, total: Any, what: str) -> Condition:
    """The condition that `value` divides `total`.

    Arguments:
        field: what people call `value`.
        value: a whole number above 0, or an array of them.
        total: a whole number; it broadcasts with `value`.
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
    round_ = jnp.round if any(isinstance(x, Tracer) for x in (value, total)) else np.round
    return Condition(round_(total / value) * value == total, message)  # exact for whole numbers


def _comparable(*values: Any) -> tuple[Any, ...]:
    """The same numbers, as NumPy arrays unless one is traced: NumPy compares without compiling."""
    if any(isinstance(value, Tracer) for value in values):
        return values
    return tuple(np.asarray(value, dtype=float) for value in values)


def enforce(conditions: Iterable[Condition]) -> None:
    """Raise `InputError` for the first condition on concrete numbers that does not hold."""
    for condition in conditions:
        if not isinstance(condition.holds, Tracer) and not np.all(condition.holds):
            raise InputError(condition.message())


def all_hold(conditions: Iterable[Condition]) -> Bool[Array, ""]:
    """Whether all conditions hold, as one boolean.

    Conditions on concrete numbers are enforced.

    Raises:
        InputError: a condition on concrete numbers does not hold.
    """
    total = jnp.asarray(True)
    for condition in conditions:
        if isinstance(condition.holds, Tracer):
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
        field: what people call the value.
        value: a number, or an array of numbers.
        minimum: the lower end of the range, included unless `exclusive`.
        maximum: the upper end of the range, included.
        exclusive: whether `minimum` itself is refused.
        finite: whether infinity is refused.
        remedy: what to do about a value out of range: the end of the error.
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
    """Whether each of `numbers`, which may be traced, lies in a range.

    The other arguments are those of `check`.
    """
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
