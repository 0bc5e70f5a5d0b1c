"""Two equations in two unknowns: steps towards their solution, Newton's method, and derivatives.

After some steps the Jacobian is measured once, by differences, and kept: near the solution it
hardly changes, and each further step with it costs one evaluation instead of three.

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

NEWTON = 5
"""Newton steps with one Jacobian; three are enough up to nine tenths of saturation."""

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
    here, tiny = residual(state, theta), _tiny(state[0].dtype)
    nearby = (state[0] + tiny, state[1]), (state[0], state[1] + tiny)
    jacobian = tuple(
        tuple((x - y) / tiny for x, y in zip(residual(at, theta), here, strict=True))
        for at in nearby
    )
    state = _moved(state, here, jacobian)
    further = NEWTON - 1
    return xp.repeated(lambda z: _moved(z, residual(z, theta), jacobian), state, further)


def _compiled(residual: Equations, step: Equations, steps: int, start: State, theta: Any) -> State:
    """The same in one loop, so that the equations are compiled once.

    The first Newton step takes three rounds: at the state, and near it in either direction.
    """
    kind = jnp.result_type(*jax.tree.leaves((start, theta)))
    tiny = _tiny(kind)

    def round_of(count: Any, carried: Any) -> Any:
        state, here, jacobian = carried
        turn = count - steps  # below 0 while steps are taken
        aside = [jnp.where(turn == i, tiny, 0.0).astype(kind) for i in (1, 2)]
        at = state[0] + aside[0], state[1] + aside[1]
        off, better = residual(at, theta), step(at, theta)
        here = _pick((turn == 1) | (turn == 2), here, off, kind)
        slope = (off[0] - here[0]) / tiny, (off[1] - here[1]) / tiny
        jacobian = tuple(
            _pick(turn == i, slope, old, kind) for i, old in enumerate(jacobian, start=1)
        )
        moved = _moved(state, here, jacobian)
        stays = (turn == 0) | (turn == 1)
        state = tuple(
            jnp.where(turn < 0, further, jnp.where(stays, old, new)).astype(kind)
            for old, new, further in zip(state, moved, better, strict=True)
        )
        return state, here, jacobian

    begin = tuple(jnp.asarray(x, kind) for x in start)
    nothing = jnp.zeros_like(begin[0]), jnp.zeros_like(begin[1])
    rounds = steps + 2 + NEWTON
    return jax.lax.fori_loop(0, rounds, round_of, (begin, nothing, (nothing, nothing)))[0]


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


def _moved(state: State, here: State, jacobian: Any) -> State:
    """The state after a Newton step, no longer than `_LONGEST`.

    Arguments:
        state: where the step starts.
        here: the residual there.
        jacobian: how it changes with the first, and with the second unknown.
    """
    (a, c), (b, d) = jacobian
    change = _solved(((a, b), (c, d)), here)
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
