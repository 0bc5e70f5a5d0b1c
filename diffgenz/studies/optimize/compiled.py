"""Values and slopes of a problem by a compiled program, for many lanes.

Slopes are JAX's forward derivatives, in float64. Lanes go through in blocks of one size, so that
one program serves however many of them are left.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.batches import COMPILED_QUICKLY
from diffgenz.core.differences import in_double
from diffgenz.core.record import unnamed
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.sqp import Point

BLOCK = 128
"""Lanes of one call; the last of them is filled up."""


class Compiled:
    """What is at many x of one problem, compiled when it is first asked.

    Arguments:
        problem: the problem.
    """

    def __init__(self, problem: Problem):
        self.problem = problem

    def __call__(self, x: Numbers, plans: np.ndarray) -> Point:
        """What is at each x, of shape (lanes, n), with these plans."""
        problem, parts = self.problem, []
        with in_double():
            question = unnamed(problem.double)
            leaves, structure = jax.tree.flatten(question)
            static = _Static(problem, structure)
            for start in range(0, len(x), BLOCK):
                places = np.minimum(np.arange(start, start + BLOCK), len(x) - 1)
                own = jax.tree.map(lambda rows, at=plans[places]: rows[at], problem.plan_table)
                found = _program(static, leaves, x[places], own)
                parts.append([np.asarray(part)[: len(x) - start] for part in found])
        rows, slopes = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Point(rows[:, 0], rows[:, 1:], slopes[:, 0], slopes[:, 1:])


class _Static:
    """What the program depends on beside numbers: the problem itself."""

    def __init__(self, problem: Problem, structure: Any):
        self.problem, self.structure = problem, structure

    def __hash__(self) -> int:
        return id(self.problem)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and other.problem is self.problem


@partial(jax.jit, static_argnums=0, compiler_options=COMPILED_QUICKLY)
def _program(
    static: _Static, leaves: list[Any], x: jax.Array, plans: Parallelism
) -> tuple[jax.Array, jax.Array]:
    problem = static.problem

    def one(point: jax.Array, plan: Parallelism) -> tuple[jax.Array, jax.Array]:
        def rows(numbers: jax.Array) -> jax.Array:
            question = jax.tree.unflatten(static.structure, leaves)
            found = problem.rows(problem.with_plan(question, plan), list(jnp.exp(numbers)))
            return jnp.stack([jnp.asarray(row, numbers.dtype) for row in found])

        def along(tangent: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.jvp(rows, (point,), (tangent,))

        basis = jnp.eye(len(point), dtype=point.dtype)
        return jax.vmap(along, out_axes=(None, 1))(basis)

    return jax.vmap(one)(x, plans)
