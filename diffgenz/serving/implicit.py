"""What derivatives by the implicit function theorem need of equations."""

from collections.abc import Callable
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero


def moved_by(function: Callable[[Any], Any], theta: Any, changes: Any) -> Any:
    """By how much a function moves when its argument does; None where nothing of that moves.

    Arguments:
        function: of `theta`.
        theta: a pytree of numbers.
        changes: their tangents, those that are zero as `SymbolicZero`, which cost nothing.
    """
    numbers, structure = jax.tree.flatten(theta)
    tangents = jax.tree.leaves(changes, is_leaf=_is_zero)
    moving = [i for i, tangent in enumerate(tangents) if not _is_zero(tangent)]
    if not moving:
        return None

    def of(values: list[Any]) -> Any:
        new = dict(zip(moving, values, strict=True))
        all_ = [new.get(i, number) for i, number in enumerate(numbers)]
        return function(jax.tree.unflatten(structure, all_))

    primal, tangent = ([every[i] for i in moving] for every in (numbers, tangents))
    return jax.jvp(of, (primal,), (tangent,))[1]


def _is_zero(x: Any) -> bool:
    return isinstance(x, SymbolicZero)
