"""Values and slopes of a problem by a compiled program, for many lanes.

The program gives the metrics that the formulas use, in float64; their slopes are central
differences along as few directions as tell them (`influence`). JAX's forward derivatives take four
times as long to compile and no less to run: along each direction a derivative costs what two values
do. Objective and limits are made of the metrics in NumPy, so that other formulas and limits of the
same question need no other program. Lanes go through in blocks of one size, for the same reason.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.batches import COMPILED_FOR_SOME
from diffgenz.core.differences import STEP, in_double
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.metrics import METRICS
from diffgenz.inference.mix import together
from diffgenz.scenario.mix import Mix, parts_of
from diffgenz.studies.optimize.influence import directions_of
from diffgenz.studies.optimize.problem import LayoutTable, Problem
from diffgenz.studies.optimize.quadratic import Numbers
from diffgenz.studies.optimize.sqp import Point

BLOCK = 64
"""Lanes of one call, where nothing else is said; the last of them is filled up.

Larger blocks take no less time for each lane.
"""


class Compiled:
    """What is at many x of one problem, compiled when it is first asked.

    Arguments:
        problem: the problem.
        block: lanes of one call.
    """

    def __init__(self, problem: Problem, block: int = BLOCK):
        self.problem, self._block = problem, block
        with in_double():
            leaves, structure = jax.tree.flatten(problem.double)
        self._leaves, places = _shared(problem, leaves)
        self._directions = directions_of(problem)
        basis = STEP * self._directions.basis
        self._moves = np.concatenate([0 * basis[:1], basis, -basis])
        self._columns, layouts = jax.tree.flatten(problem.layout_table)
        self._static = _Static(problem, self._directions.names, (structure, layouts), places)

    def __call__(self, x: Numbers, plans: np.ndarray) -> Point:
        """What is at each x, of shape (lanes, n), with these plans."""
        if not self.problem.needed:
            metrics, slopes = np.zeros((len(x), 0)), np.zeros((len(x), 0, x.shape[1]))
        else:
            metrics, slopes = self._metrics(x, plans)
        return self._point(x, plans, metrics, slopes)

    def _metrics(self, x: Numbers, plans: np.ndarray) -> tuple[Numbers, Numbers]:
        """The metrics of parts, of shape (lanes, k), and their slopes, of shape (lanes, k, n)."""
        again = len(self._moves)
        rows = []
        with in_double():
            for start in range(0, len(x), self._block):
                places = np.minimum(np.arange(start, start + self._block), len(x) - 1)
                moved = (x[places][:, None] + self._moves).reshape(-1, x.shape[1])
                own = [column[np.repeat(plans[places], again)] for column in self._columns]
                rows.append(_program(self._static, self._leaves, moved, own))
            found = np.concatenate([np.asarray(each) for each in rows])
        found = found.reshape(-1, again, found.shape[1])[: len(x)]
        up, down = np.split(found[:, 1:], 2, axis=1)
        slopes = ((up - down) / (2 * STEP)).swapaxes(1, 2)
        return found[:, 0], self._directions.spread(slopes)

    def _point(self, x: Numbers, plans: np.ndarray, metrics: Numbers, slopes: Numbers) -> Point:
        """Objective and limits, by differences of formulas whose metrics move by their slopes."""
        problem, (lanes, n) = self.problem, x.shape
        moves = np.zeros((1 + 2 * n, n))
        moves[1 + 2 * np.arange(n), np.arange(n)] = STEP
        moves[2 + 2 * np.arange(n), np.arange(n)] = -STEP
        columns = (x[:, None] + moves).reshape(-1, n)
        moved = metrics[:, None] + np.einsum("lkn,rn->lrk", slopes, moves)
        by_name = dict(zip(self._directions.names, moved.reshape(len(columns), -1).T, strict=True))
        with in_double(), as_if_traced():
            at = np.repeat(plans, len(moves))
            own = problem.table_at(at)
            question, numbers = problem.with_layout(problem.double, own, np.exp(columns).T)
            question = problem.placed(question, numbers)
            if isinstance(question, Mix):
                each = [
                    {
                        name: by_name[f"{name}[{part}]"]
                        for name in METRICS
                        if f"{name}[{part}]" in by_name
                    }
                    for part in range(len(question.scenarios))
                ]
                by_name |= together(question, each)
            found = problem.formulas(question, numbers, by_name)
            rows = [np.broadcast_to(np.asarray(row, np.float64), len(columns)) for row in found]
        every = np.stack(rows, axis=1).reshape(lanes, len(moves), -1)
        with np.errstate(invalid="ignore"):
            slope = ((every[:, 1::2] - every[:, 2::2]) / (2 * STEP)).swapaxes(1, 2)
        return Point(every[:, 0, 0], every[:, 0, 1:], slope[:, 0], slope[:, 1:])


def _shared(problem: Problem, leaves: list[Any]) -> tuple[list[Any], tuple[int, ...]]:
    """The leaves without those of a later part that are as in the first, and where each is."""
    counts = [len(jax.tree.leaves(part)) for part in parts_of(problem.double)]
    alike = len(set(counts)) == 1
    kept: list[Any] = []
    places: list[int] = []
    for place, leaf in enumerate(leaves):
        first = place % counts[0] if alike and place < sum(counts) else place
        if first < place and np.shape(leaf) == () and leaf == leaves[first]:
            places.append(places[first])
        else:
            places.append(len(kept))
            kept.append(leaf)
    return kept, tuple(places)


class _Static:
    """What the program depends on beside numbers."""

    def __init__(
        self, problem: Problem, names: tuple[str, ...], structures: Any, places: tuple[int, ...]
    ):
        self.problem, self.names = problem, names
        (self.structure, self.layouts), self.places = structures, places
        self._key = (
            structures,
            places,
            tuple(
                (each.name if not each.paths else "", each.paths)
                for each in (*problem.variables, *problem.chosen)
            ),
            len(problem.chosen),
            tuple((paths, formula.text) for paths, formula in problem.derived.items()),
            names,
            problem.design,
        )

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and other._key == self._key


@partial(jax.jit, static_argnums=0, compiler_options=COMPILED_FOR_SOME)
def _program(
    static: _Static, leaves: list[Any], x: jax.Array, columns: list[jax.Array]
) -> jax.Array:
    problem = static.problem

    def metrics(point: jax.Array, columns: list[jax.Array]) -> jax.Array:
        own: LayoutTable = jax.tree.unflatten(static.layouts, columns)
        whole = [leaves[place] for place in static.places]
        question = jax.tree.unflatten(static.structure, whole)
        question, every = problem.with_layout(question, own, jnp.exp(point))
        found = problem.metrics(problem.placed(question, every), every)
        return jnp.stack([jnp.asarray(found[name], x.dtype) for name in static.names])

    return jax.vmap(metrics)(x, columns)
