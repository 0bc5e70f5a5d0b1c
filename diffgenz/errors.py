"""The one exception for bad input, and the checks that raise it."""

import difflib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


class InputError(ValueError):
    """Input that cannot be used. The message names the field, the value and the remedy; the command line prints it and exits 2."""


def unknown(what: str, name: object, known: Iterable[str]) -> InputError:
    """An `InputError` for a name that is not in `known`, with the nearest ones, or all of them where they are few."""
    names = sorted(known)
    folded = {candidate.lower(): candidate for candidate in names}
    near = [folded[key] for key in difflib.get_close_matches(str(name).lower(), folded, n=4, cutoff=0.5)]
    contained = [candidate for candidate in names if str(name).lower() in candidate.lower()]
    suggestions = list(dict.fromkeys([*near, *contained]))[:6]
    if not suggestions and len(names) <= 40:
        return InputError(f"{what}: {name!r} is not known; known are {', '.join(names)}")
    hint = f"did you mean {' or '.join(suggestions)}?" if suggestions else f"{len(names)} are known"
    return InputError(f"{what}: {name!r} is not known; {hint}")


def check(
    field: str, value: Any, *, minimum: float = 0.0, maximum: float = np.inf, exclusive: bool = False, finite: bool = True, remedy: str = ""
) -> None:
    """Raise `InputError` unless every element of `value` lies in [minimum, maximum] (or above `minimum`, if `exclusive`).

    Traced values pass: under `jit` and `vmap` the numbers are not there yet, and whoever built them checked them.
    """
    if isinstance(value, jax.core.Tracer):
        return
    numbers = np.asarray(value, dtype=float)
    good = (numbers > minimum if exclusive else numbers >= minimum) & (numbers <= maximum)
    if finite:
        good &= np.isfinite(numbers)
    if good.all():
        return
    bad = numbers[~good].flat[0] if numbers.ndim else numbers
    above = f"{'above' if exclusive else 'at least'} {minimum:g}" + ("" if np.isinf(maximum) else f" and at most {maximum:g}")
    raise InputError(f"{field}: {bad:g} is not allowed; it must be {'finite, ' if finite else ''}{above}{'; ' + remedy if remedy else ''}")
