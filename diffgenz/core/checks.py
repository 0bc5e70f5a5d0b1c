"""Range checks at construction; of traced numbers, conditions to be met."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from diffgenz.core.errors import InputError

_NOTED: ContextVar[tuple[list[Any], bool] | None] = ContextVar("noted", default=None)
_SINGLY: ContextVar[bool] = ContextVar("singly", default=False)


@contextmanager
def noting(*, alone: bool) -> Iterator[list[Any]]:
    """Within it, checks of traced numbers, which pass elsewhere, add what must hold to a list of booleans, traced like the numbers.

    Arguments:
        alone: note checks of single numbers too, not only those of how they go together.
    """
    conditions: list[Any] = []
    token = _NOTED.set((conditions, alone))
    try:
        yield conditions
    finally:
        _NOTED.reset(token)


@contextmanager
def singly() -> Iterator[None]:
    """Within it, only single numbers are checked, not how they go together."""
    token = _SINGLY.set(True)
    try:
        yield
    finally:
        _SINGLY.reset(token)


def _passes(condition: Callable[[], Any], *values: Any) -> bool:
    """Whether a check has nothing to compare yet, some value being traced; its condition is noted where somebody asks."""
    if not any(isinstance(value, Tracer) for value in values):
        return False
    noted = _NOTED.get()
    if noted is not None and (noted[1] or len(values) > 1):
        noted[0].append(condition())
    return True


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
    """Raise `InputError` unless every element of `value` lies in [minimum, maximum] (or above `minimum`, if `exclusive`).

    Traced values pass: under `jit` and `vmap` the numbers are not there yet, and whoever built them checked them (or is `noting`).
    """

    def within(numbers: Any) -> Any:
        good = (numbers > minimum if exclusive else numbers >= minimum) & (numbers <= maximum)
        return good & (abs(numbers) < np.inf) if finite else good

    if _passes(lambda: within(value), value):
        return
    numbers = np.asarray(value, dtype=float)
    good = within(numbers)
    if good.all():
        return
    bad = numbers[~good].flat[0] if numbers.ndim else numbers
    above = f"{'above' if exclusive else 'at least'} {minimum:g}" + (
        "" if np.isinf(maximum) else f" and at most {maximum:g}"
    )
    raise InputError(
        f"{field}: {bad:g} is not allowed; it must be {'finite, ' if finite else ''}{above}{'; ' + remedy if remedy else ''}"
    )


def check_at_most(field: str, value: Any, limit: Any, what: str) -> None:
    """Raise `InputError` where an element of `value` exceeds `limit`; `what` says what the limit is, and the remedy. Traced values pass."""
    if _SINGLY.get() or _passes(lambda: value <= limit, value, limit):
        return
    numbers, limits = np.broadcast_arrays(
        np.asarray(value, dtype=float), np.asarray(limit, dtype=float)
    )
    over = numbers > limits
    if over.any():
        raise InputError(
            f"{field}: {numbers[over].flat[0]:g} exceeds {limits[over].flat[0]:g}, {what}"
        )


def check_divides(field: str, value: Any, total: Any, what: str) -> None:
    """Raise `InputError` unless every element of `value` divides `total`, the number of `what`. Traced values pass."""
    if _SINGLY.get() or _passes(
        lambda: jnp.round(total / value) * value == total, value, total
    ):  # exact for whole numbers, without a remainder
        return
    numbers, totals = np.broadcast_arrays(
        np.asarray(value, dtype=float), np.asarray(total, dtype=float)
    )
    uneven = totals % numbers != 0
    if uneven.any():
        raise InputError(
            f"{field}: {numbers[uneven].flat[0]:g} does not divide the {totals[uneven].flat[0]:g} {what}; choose a divisor"
        )


def check_whole(field: str, value: Any, what: str) -> None:
    """Raise `InputError` unless every element of `value`, a number of `what`, is whole. Traced values pass."""
    if _passes(lambda: value == jnp.floor(value), value):
        return
    numbers = np.asarray(value, dtype=float)
    broken = numbers != np.floor(numbers)
    if broken.any():
        raise InputError(f"{field}: {numbers[broken].flat[0]:g} is not a whole number of {what}")
