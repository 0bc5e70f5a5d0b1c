"""Equations in one or two unknowns: steps towards their solution, Newton's method, derivatives.

After some steps the Jacobian is measured once, by differences, and then follows the changes that
it causes (Broyden), so that each further step costs one evaluation. Steps are bounded in number,
alike in NumPy and in compiled batches, where a solver that stops by itself (as optimistix has them)
would wait for the slowest member.

Derivatives are those of the implicit function theorem: of z that solves F(z, theta) = 0 they are
-J^-1 dF/dtheta, where J is dF/dz. What follows from z is differentiated together with F, in one
pass; what that needs is traced only where derivatives are taken.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.serving.implicit import moved_by

State: TypeAlias = tuple[Scalar, ...]
"""One or two unknowns, all positive."""


class Tried(NamedTuple):
    """What equations say of a state.

    Arguments:
        off: numbers that are zero at the solution, one for each unknown.
        better: a state that is nearer to it.
        answer: what follows from the state: a pytree.
    """

    off: State
    better: State
    answer: Any


Equations: TypeAlias = Callable[[State, Any], Tried]
"""From the unknowns, and what they depend on."""

_NEWTON = 4, 10
"""Newton steps after the first, in float32 and in float64; four are enough up to nine tenths of
saturation, beyond which some answers scatter more in float32 than a fifth one would change."""

_EXACT = 1e-13
"""A residual that is no more than rounding."""

_FALL, _RISE = 0.9, 2.0
"""The most by which a Newton step lowers or raises an unknown, as a share of it."""


def solve(
    equations: Equations, start: Callable[[Any], tuple[State, State]], theta: Any, steps: int
) -> Any:
    """What follows from the solution of equations.

    Arguments:
        equations: of the unknowns.
        start: the first state, and the least that its unknowns may be.
        theta: what both depend on, and the answer is differentiated by.
        steps: how many steps come before Newton's method.
    """
    first, least = start(xp.stop_gradient(theta))
    return _answer(equations, steps, first, least, theta)


def _solved(equations: Equations, steps: int, start: State, least: State, theta: Any) -> Any:
    find = _compiled if xp.is_jax(start, theta) else _found
    return equations(find(equations, steps, start, least, theta), theta).answer


def _found(equations: Equations, steps: int, start: State, least: State, theta: Any) -> State:
    state = xp.repeated(lambda z: equations(z, theta).better, start, steps)
    here, tiny = equations(state, theta).off, _tiny(state[0].dtype)
    jacobian = []
    for i in range(len(state)):
        aside = tuple((1 + tiny) * z if i == j else z for j, z in enumerate(state))
        change = _minus(equations(aside, theta).off, here)
        jacobian.append(tuple(x / (tiny * state[i]) for x in change))
    for _ in range(_newton(state[0].dtype)):
        if all(abs(x) < _EXACT for x in here):
            break
        change = _change(state, here, jacobian, least)
        new = _plus(state, change)
        there = equations(new, theta).off
        jacobian = _secant(jacobian, state, change, _minus(there, here))
        state, here = new, there
    return _plus(state, _change(state, here, jacobian, least))


def _compiled(equations: Equations, steps: int, start: State, least: State, theta: Any) -> State:
    """The same in one loop, so that the equations are compiled once."""
    kind = jnp.result_type(*jax.tree.leaves((start, theta)))
    tiny, unknowns = _tiny(kind), range(len(start))

    def round_of(count: Any, carried: Any) -> Any:
        state, here, jacobian, change = carried
        turn = count - steps  # below 0 while steps are taken, then aside in each direction
        at = _plus(state, change)
        off, better, _ = equations(at, theta)
        more = _minus(off, here)
        secant = _secant(jacobian, state, change, more)
        jacobian = tuple(
            tuple(
                jnp.where(turn == i + 1, x / (tiny * state[i]), jnp.where(turn > len(at), new, old))
                for x, new, old in zip(more, secant[i], jacobian[i], strict=True)
            )
            for i in unknowns
        )
        aside = (turn >= 1) & (turn <= len(at))
        state, here = _pick(aside, state, at), _pick(aside, here, off)
        probe = tuple(jnp.where(turn == i, tiny * state[i], 0.0) for i in unknowns)
        change = _pick(turn < len(at), probe, _change(state, here, jacobian, least))
        change = _pick(turn < 0, _minus(better, at), change)
        return jax.tree.map(lambda x: x.astype(kind), (state, here, jacobian, change))

    begin = tuple(jnp.asarray(x, kind) for x in start)
    nothing = tuple(jnp.zeros_like(x) for x in begin)
    rounds = steps + 1 + len(start) + _newton(kind)
    first = begin, nothing, len(start) * (nothing,), nothing
    state, _, _, change = jax.lax.fori_loop(0, rounds, round_of, first)
    return _plus(state, change)


def _pick(where: Any, new: State, old: State) -> State:
    return tuple(jnp.where(where, a, b) for a, b in zip(new, old, strict=True))


_answer = xp.rule(_solved, nondiff_argnums=(0, 1))


def _answer_jvp(equations: Equations, steps: int, primals: Any, tangents: Any) -> tuple[Any, Any]:
    start, least, theta = primals

    def only_state(z: State, theta: Any) -> Tried:
        return equations(z, theta)._replace(answer=z)

    def of(z: State, theta: Any) -> tuple[State, Any]:
        off, _, answer = equations(z, theta)
        return off, answer

    state = _answer(only_state, steps, start, least, theta)
    answer = of(state, theta)[1]
    moved = moved_by(lambda changed: of(state, changed), theta, tangents[2])
    if moved is None:
        return answer, jax.tree.map(jnp.zeros_like, answer)
    by_state = jax.jacfwd(lambda z: of(tuple(z), theta))(jnp.stack(state))
    columns = [jax.tree.map(lambda x, i=i: x[..., i], by_state) for i in range(len(state))]
    further = _step([column[0] for column in columns], moved[0])
    changes = moved[1]
    for (_, slope), step in zip(columns, further, strict=True):
        changes = jax.tree.map(lambda x, y, step=step: x - y * step, changes, slope)
    return answer, changes


_answer.defjvp(_answer_jvp, symbolic_zeros=True)


def _tiny(kind: Any) -> float:
    """How far apart the places of a difference are."""
    return 1e-7 if kind == np.float64 else 5e-4


def _newton(kind: Any) -> int:
    return _NEWTON[1] if kind == np.float64 else _NEWTON[0]


def _plus(state: State, change: State) -> State:
    return tuple(x + y for x, y in zip(state, change, strict=True))


def _minus(state: State, other: State) -> State:
    return tuple(x - y for x, y in zip(state, other, strict=True))


def _change(state: State, here: State, jacobian: Any, least: State) -> State:
    """A Newton step, which changes each unknown by a limited factor.

    Arguments:
        state: where the step starts.
        here: the residual there.
        jacobian: how it changes with each of the unknowns.
        least: the least that they may be.
    """
    steps = _step(jacobian, here)
    changes = [-x * _short(step / x) for x, step in zip(state, steps, strict=True)]
    return tuple(
        xp.where(x + change > low, change, low - x)
        for x, change, low in zip(state, changes, least, strict=True)
    )


def _short(x: Scalar) -> Scalar:
    x = xp.where(x == x, x, 0.0)
    return xp.where(x > _FALL, _FALL, xp.where(x < -_RISE, -_RISE, x))


def _secant(jacobian: Any, state: State, change: State, more: State) -> Any:
    """The Jacobian that explains the last change of the residual, else as before (Broyden 1965).

    Changes so small that rounding shows in the residual say nothing.

    Arguments:
        jacobian: the one before.
        state: the unknowns before.
        change: by how much they changed.
        more: by how much the residual did.
    """
    shares = [x / z for x, z in zip(change, state, strict=True)]
    size = sum(share * share for share in shares)
    noise = (_tiny(state[0].dtype) / 5) ** 2
    told = xp.where(size > noise, 1 / xp.where(size > noise, size, 1.0), 0.0)
    expected = [sum(map(operator.mul, change, row)) for row in zip(*jacobian, strict=True)]
    missing = [told * (new - old) for new, old in zip(more, expected, strict=True)]
    return tuple(
        tuple(old + share / z * each for old, each in zip(column, missing, strict=True))
        for share, z, column in zip(shares, state, jacobian, strict=True)
    )


def _step(jacobian: Any, right: State) -> State:
    """J^-1 r, by Cramer's rule; the Jacobian is given by columns, one for each unknown."""
    if len(right) == 1:
        return (right[0] / _not_zero(jacobian[0][0]),)
    (a, c), (b, d) = jacobian
    first, second = right
    determinant = _not_zero(a * d - b * c)
    return (d * first - b * second) / determinant, (a * second - c * first) / determinant


def _not_zero(x: Scalar) -> Scalar:
    size = xp.where(x < 0, -x, x)
    return xp.where(size > 1e-6, x, xp.where(x < 0, -1e-6, 1e-6))
