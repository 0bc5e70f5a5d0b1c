"""Two equations in two unknowns: steps towards their solution, Newton's method, and derivatives.

Derivatives are those of the implicit function theorem. The solution is found with everything
constant, and one exact Newton step more, whose Jacobian is constant, moves it by nothing and gives
it its derivatives: z = z0 - J^-1 F(z0, theta).
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar

State: TypeAlias = tuple[Scalar, Scalar]
"""Logarithms of the two unknowns."""

NEWTON = 4
"""Newton steps; two are enough up to nine tenths of saturation."""

_LONGEST = 0.3


def solve(
    residual: Callable[[State, Any], State],
    step: Callable[[State, Any], State],
    start: Callable[[Any], State],
    theta: Any,
    steps: int,
) -> State:
    """Where `residual` is zero.

    Arguments:
        residual: two numbers that are zero at the solution.
        step: from a state to a better one.
        start: the first state.
        theta: what all three depend on, and the solution is differentiated by.
        steps: how many steps come before Newton's method.
    """
    fixed = xp.stop_gradient(theta)
    state = xp.repeated(lambda z: step(z, fixed), start(fixed), steps)
    state = xp.repeated(lambda z: _newton(lambda at: residual(at, fixed), z), state, NEWTON)
    if not xp.is_jax(state):
        return state
    state = jax.lax.stop_gradient(state)
    jacobian = jax.jacfwd(lambda z: jnp.stack(residual((z[0], z[1]), fixed)))(jnp.stack(state))
    change = _solved(jax.lax.stop_gradient(jacobian), residual(state, theta))
    return state[0] - change[0], state[1] - change[1]


def _newton(residual: Callable[[State], State], state: State) -> State:
    """One step, no longer than `_LONGEST`, with a Jacobian by differences."""
    double = state[0].dtype == np.float64
    tiny = 1e-7 if double else 5e-4
    nearby = np.array([[0.0, tiny, 0.0], [0.0, 0.0, tiny]], state[0].dtype)
    if xp.is_jax(state):
        rows = jax.vmap(residual)((state[0] + nearby[0], state[1] + nearby[1]))
        here, first, second = ((rows[0][i], rows[1][i]) for i in range(3))
    else:
        here, first, second = (
            residual((state[0] + a, state[1] + b)) for a, b in zip(*nearby, strict=True)
        )
    jacobian = [[(first[i] - here[i]) / tiny, (second[i] - here[i]) / tiny] for i in range(2)]
    change = _solved(jacobian, here)
    return state[0] - _short(change[0]), state[1] - _short(change[1])


def _short(x: Scalar) -> Scalar:
    x = xp.where(x == x, x, 0.0)
    return xp.where(x > _LONGEST, _LONGEST, xp.where(x < -_LONGEST, -_LONGEST, x))


def _solved(jacobian: Any, right: State) -> State:
    """J^-1 r, by Cramer's rule."""
    (a, b), (c, d) = (jacobian[0][0], jacobian[0][1]), (jacobian[1][0], jacobian[1][1])
    determinant = a * d - b * c
    size = xp.where(determinant < 0, -determinant, determinant)
    determinant = xp.where(size > 1e-6, determinant, xp.where(determinant < 0, -1e-6, 1e-6))
    first, second = right
    return (d * first - b * second) / determinant, (a * second - c * first) / determinant
