"""Two equations in two unknowns: steps towards their solution, Newton's method, and derivatives.

Derivatives are those of the implicit function theorem: of z that solves F(z, theta) = 0 they are
-J^-1 dF/dtheta, where J is dF/dz. What they need is traced only where derivatives are taken.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.serving.implicit import moved_by

State: TypeAlias = tuple[Scalar, Scalar]
"""Logarithms of the two unknowns."""

Equations: TypeAlias = Callable[[State, Any], State]
"""From the unknowns, and what they depend on, to two numbers."""

NEWTON = 4
"""Newton steps; two are enough up to nine tenths of saturation."""

_LONGEST = 0.3


def solve(
    residual: Equations, step: Equations, start: Callable[[Any], State], theta: Any, steps: int
) -> State:
    """Where `residual` is zero.

    Arguments:
        residual: two numbers that are zero at the solution.
        step: from a state to a better one.
        start: the first state.
        theta: what all three depend on, and the solution is differentiated by.
        steps: how many steps come before Newton's method.
    """
    return _solution(residual, step, steps, start(xp.stop_gradient(theta)), theta)


def _found(residual: Equations, step: Equations, steps: int, start: State, theta: Any) -> State:
    if xp.is_jax(start, theta):
        return _compiled(residual, step, steps, start, theta)
    state = xp.repeated(lambda z: step(z, theta), start, steps)
    return xp.repeated(lambda z: _newton(lambda at: residual(at, theta), z), state, NEWTON)


def _compiled(residual: Equations, step: Equations, steps: int, start: State, theta: Any) -> State:
    """The same in one loop, so that the equations are compiled once.

    Newton steps take three rounds: at the state, and near it in either direction.
    """
    kind = jnp.result_type(*jax.tree.leaves((start, theta)))
    tiny = _tiny(kind)

    def round_of(count: Any, carried: Any) -> Any:
        state, (here, first) = carried
        newton, turn = count >= steps, (count - steps) % 3
        aside = [jnp.where(newton & (turn == i), tiny, 0.0).astype(kind) for i in (1, 2)]
        at = state[0] + aside[0], state[1] + aside[1]
        off, better = residual(at, theta), step(at, theta)
        moved = _moved(state, here, (first, off), tiny)
        ends = newton & (turn == 2)
        state = tuple(
            jnp.where(newton, jnp.where(ends, new, old), further).astype(kind)
            for old, new, further in zip(state, moved, better, strict=True)
        )
        # what was found at the last two places
        return state, (_pick(turn == 0, off, here, kind), _pick(turn == 1, off, first, kind))

    begin = tuple(jnp.asarray(x, kind) for x in start)
    nothing = jnp.zeros_like(begin[0]), jnp.zeros_like(begin[1])
    rounds = steps + 3 * NEWTON
    return jax.lax.fori_loop(0, rounds, round_of, (begin, (nothing, nothing)))[0]


def _pick(where: Any, new: State, old: State, kind: Any) -> State:
    first, second = (jnp.where(where, a, b).astype(kind) for a, b in zip(new, old, strict=True))
    return first, second


_solution = xp.rule(_found, nondiff_argnums=(0, 1, 2))


def _solution_jvp(
    residual: Equations, step: Equations, steps: int, primals: Any, tangents: Any
) -> tuple[State, State]:
    start, theta = primals
    state = _solution(residual, step, steps, start, theta)
    jacobian = jax.jacfwd(lambda z: jnp.stack(residual((z[0], z[1]), theta)))(jnp.stack(state))
    off = moved_by(lambda changed: residual(state, changed), theta, tangents[1])
    if off is None:
        return state, (jnp.zeros_like(state[0]), jnp.zeros_like(state[1]))
    first, second = _solved(jacobian, off)
    return state, (-first, -second)


_solution.defjvp(_solution_jvp, symbolic_zeros=True)


def _tiny(kind: Any) -> float:
    """How far apart the places of a difference are."""
    return 1e-7 if kind == np.float64 else 5e-4


def _newton(residual: Callable[[State], State], state: State) -> State:
    """One step, with a Jacobian by differences, of NumPy's numbers."""
    tiny = _tiny(state[0].dtype)
    here = residual(state)
    nearby = (state[0] + tiny, state[1]), (state[0], state[1] + tiny)
    return _moved(state, here, (residual(nearby[0]), residual(nearby[1])), tiny)


def _moved(state: State, here: State, beside: tuple[State, State], tiny: float) -> State:
    """The state after a Newton step, no longer than `_LONGEST`.

    Arguments:
        state: where the step starts.
        here: the residual there.
        beside: the residuals where the first and where the second unknown is larger by `tiny`.
        tiny: by how much.
    """
    first, second = beside
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
