"""Which variables reach which part of a question, and so may share a direction of derivatives.

The metrics of a part of a mix depend on the numbers of that part alone. Variables that reach one
part each, such as the batches of three workloads, are therefore moved together in one direction,
and each part says how it answers to its own. Variables that no estimate sees need none. Which
number depends on which is read from the traced program that places them, whatever the values.
"""

from itertools import zip_longest
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.differences import in_double
from diffgenz.inference.metrics import METRICS
from diffgenz.scenario.mix import Mix, parts_of
from diffgenz.studies.optimize.figures import COEFFICIENT
from diffgenz.studies.optimize.problem import Problem


class Directions(NamedTuple):
    """How variables are moved for derivatives.

    Arguments:
        basis: of shape (directions, n): which variables each direction moves.
        names: what is asked of the program: metrics of single parts.
        own: the direction of each variable, of shape (n,).
        counts: whether a variable reaches what a name means, of shape (names, n).
    """

    basis: np.ndarray
    names: tuple[str, ...]
    own: np.ndarray
    counts: np.ndarray

    def spread(self, slopes: np.ndarray) -> np.ndarray:
        """Slopes to variables, of shape (lanes, names, n), from those along directions.

        Arguments:
            slopes: of shape (lanes, names, directions).
        """
        return np.where(self.counts, slopes[:, :, self.own], 0.0)


def directions_of(problem: Problem) -> Directions:
    """As few directions as tell all slopes of the metrics that a problem needs.

    Arguments:
        problem: the problem.
    """
    names, reached = _of_parts(problem), _reached(problem)
    parts = [_part(name) for name in names]
    apart = isinstance(problem.question, Mix) and None not in parts
    alone = reached.sum(axis=1) == 1 if apart else np.zeros(len(reached), bool)
    moved = [[int(variable)] for variable in np.flatnonzero(reached.any(axis=1) & ~alone)]
    lists = [np.flatnonzero(alone & column).tolist() for column in reached.T]
    moved += [[v for v in row if v is not None] for row in zip_longest(*lists)]
    basis, own = np.zeros((max(len(moved), 1), len(reached))), np.zeros(len(reached), int)
    for place, variables in enumerate(moved):
        basis[place, variables], own[variables] = 1.0, place
    counts = [reached[:, part] if apart else reached.any(axis=1) for part in parts]
    return Directions(basis, names, own, np.array(counts, bool).reshape(len(names), -1))


def _of_parts(problem: Problem) -> tuple[str, ...]:
    """The metrics of parts from which those that a problem needs are made."""
    if not isinstance(problem.question, Mix):
        return problem.needed
    parts = range(len(parts_of(problem.question)))
    found = []
    for name in problem.needed:
        found += [f"{name}[{part}]" for part in parts] if name in METRICS else [name]
    return tuple(dict.fromkeys(found))


def _part(name: str) -> int | None:
    """The number of the part that a name ends with."""
    return int(name.split("[")[1][:-1]) if name.endswith("]") else None


def _reached(problem: Problem) -> np.ndarray:
    """Whether a variable reaches a part, of shape (variables, parts); shares reach all."""
    n = len(problem.variables)

    def placed(*numbers: Any) -> list[list[Any]]:
        own = problem.with_layout(problem.double, problem.table_at(0), numbers)
        question = problem.placed(*own)
        if not isinstance(question, Mix):  # a load is of the question, beside its scenario
            return [[jnp.asarray(leaf, float) for leaf in jax.tree.leaves(question)]]
        return [
            [jnp.asarray(leaf, float) for leaf in jax.tree.leaves((part, question.shares))]
            for part in parts_of(question)
        ]

    with in_double():
        traced, shape = jax.make_jaxpr(placed, return_shape=True)(*jnp.ones(n))
    depends: dict[Any, set[int]] = {
        variable: {place} for place, variable in enumerate(traced.jaxpr.invars)
    }

    def of(atoms: Any) -> set[int]:
        known = [depends.get(atom, set()) for atom in atoms if not hasattr(atom, "val")]
        return set().union(*known)

    for equation in traced.jaxpr.eqns:
        depends |= dict.fromkeys(equation.outvars, of(equation.invars))
    reached, ends = np.zeros((n, len(shape)), bool), iter(traced.jaxpr.outvars)
    for part, leaves in enumerate(shape):
        reached[list(of([next(ends) for _ in leaves])), part] = True
    for place, variable in enumerate(problem.variables):  # they have no place in a question
        reached[place] |= variable.name.startswith(COEFFICIENT)
    return reached
