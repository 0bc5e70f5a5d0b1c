"""How long an iteration of any mix takes, tabulated once for a scenario and then interpolated.

The solution of a load asks for hundreds of iterations; the model is asked for a few dozen, on a
grid of running decodes and prompt tokens, evenly spaced in the logarithm.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import equinox as eqx
import numpy as np

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.inference.iteration_cost import cost_of
from diffgenz.inference.prefill_decode import Decodes, Prompts
from diffgenz.inference.resolved import Resolved
from diffgenz.serving.demand import Demand
from diffgenz.serving.drafting import drafting_seconds

DECODES, CHUNKS = 9, 10
"""Knots in the number of running decodes, and in the number of prompt tokens."""

LEAST_SLOTS = 2.0
"""Running decodes up to which every table goes, so that its knots are apart."""

LEAST = 16.0
"""Prompt tokens of the least chunk in the table; fewer take as long."""


class Chunks(NamedTuple):
    """How long iterations of prompt tokens take beside a number of running decodes.

    Arguments:
        knots: ln s, at the knots of the table and one beyond either end; shape (CHUNKS + 2,).
        range: ln of the most tokens over `LEAST`.
    """

    knots: Any
    range: Scalar

    def seconds(self, tokens: Any) -> Any:
        """Seconds of iterations of some prompt tokens each."""
        size = (CHUNKS - 1) * xp.log(_at_least(tokens, LEAST) / LEAST) / self.range
        return xp.exp(_weights(size, CHUNKS) @ self.knots)


class IterationTable(Tree):
    """The logarithm of the seconds of an iteration, at knots.

    Arguments:
        slots: the most running decodes, at least `LEAST_SLOTS`.
        budget: the most prompt tokens.
        alone: ln s of decodes only, at 1 to `slots` of them; shape (DECODES,).
        mixed: ln s with prompt tokens, of `LEAST` to `budget`, beside 0 to `slots` decodes; shape
            (DECODES, CHUNKS).
        pair: s that one more pair of a query and a key takes in the attention of a chunk.
        prefill_first: whether prompts are computed whole, in iterations without decodes.
        longest: the most prompt tokens in `mixed`, where prompts may exceed the budget. None: the
            budget.
    """

    slots: Scalar
    budget: Scalar
    alone: Any
    mixed: Any
    pair: Scalar
    prefill_first: bool = eqx.field(static=True, default=False)
    longest: Scalar | None = None

    def changed(self, into: Callable[[Any, bool], Any]) -> Self:
        """The table of iterations that take other times.

        Arguments:
            into: the s of iterations from those that they take here, of shape (..., iterations),
                and whether they carry prompts.
        """
        flat = self.mixed.reshape((*self.mixed.shape[:-2], DECODES * CHUNKS))
        both = ((self.alone, False), (flat, True))
        alone, mixed = (xp.log(into(xp.exp(each), prompts)) for each, prompts in both)
        mixed = mixed.reshape(self.mixed.shape)
        return eqx.tree_at(lambda table: (table.alone, table.mixed), self, (alone, mixed))

    def decodes(self, running: Any) -> Any:
        """Seconds of iterations of decodes only, of some each."""
        at = (DECODES - 1) * xp.log(_at_least(running, 1.0)) / xp.log(self.slots)
        return xp.exp(_weights(at, DECODES) @ _continued(self.alone))

    def elasticity(self, running: Scalar) -> Scalar:
        """By how many per cent such an iteration takes longer with one per cent more decodes."""
        step = 1e-2
        fewer, more = self.decodes(running * np.array([1 - step, 1 + step]))
        return xp.log(more / fewer) / (2 * step)

    def beside(self, running: Scalar) -> "Chunks":
        """How long chunks take beside running decodes, if they may run beside any."""
        if self.prefill_first:
            running = 0 * running
        rows = (DECODES - 1) * xp.log1p(_at_least(running, 0.0)) / xp.log1p(self.slots)
        most = self.budget if self.longest is None else self.longest
        knots = _continued(_continued(self.mixed).T)
        return Chunks(knots @ _weights(rows, DECODES), xp.log(most / LEAST))

    def both(self, running: Scalar, tokens: Any) -> Any:
        """Seconds of iterations of some prompt tokens each, beside running decodes if they may."""
        return self.beside(running).seconds(tokens)


def tabulate(
    question: Resolved, demand: Demand, slots: Scalar, budget: Scalar, prefill_first: bool = False
) -> IterationTable:
    """The table of a scenario, without its host.

    Arguments:
        question: the scenario. Where numbers of it are columns of NumPy, of shape (n, 1), there are
            n tables, one for each row.
        demand: the lengths of its requests: decodes have the mean context of running requests, and
            chunks are pieces of prompts such that a token has the mean number of pairs.
        slots: the most running decodes.
        budget: the most prompt tokens.
        prefill_first: whether iterations with prompts carry no decodes.
    """
    slots = xp.where(slots > LEAST_SLOTS, slots, LEAST_SLOTS)
    few = xp.expm1(np.arange(DECODES) / (DECODES - 1) * xp.log1p(slots))[..., 1:, None]
    longest = None
    if prefill_first:  # whoever exceeds the budget is computed alone
        most = demand.prompts.tokens.max()
        longest = xp.where(most > budget, most, budget)
    most = budget if longest is None else longest
    tokens = _chunks(most)
    flat = (*few.shape[:-2], (DECODES - 1) * CHUNKS)
    rows = (few * xp.ones(CHUNKS)).reshape(flat)
    columns = (xp.ones((DECODES - 1, 1)) * tokens[..., None, :]).reshape(flat)

    def mix(running: Any, tokens: Any) -> Any:
        decodes = Decodes(running, demand.context * xp.ones_like(running))
        return seconds_of(question, _chunk(tokens, demand), decodes)

    apart = xp.mapped(mix)(rows, columns)
    apart = apart.reshape((*apart.shape[:-1], DECODES - 1, CHUNKS))
    first, pair = prompts_alone(question, demand, most)
    return IterationTable(
        slots=slots,
        budget=budget,
        alone=xp.log(decodes_alone(question, demand, slots)),
        mixed=xp.log(xp.concatenate([first[..., None, :], apart], axis=-2)),
        pair=pair,
        prefill_first=prefill_first,
        longest=longest,
    )


def decodes_alone(question: Resolved, demand: Demand, slots: Scalar) -> Any:
    """Seconds of iterations of decodes only, at the knots; arguments as of `tabulate`."""

    def decode(running: Any) -> Any:
        return seconds_of(question, None, Decodes(running, demand.context * xp.ones_like(running)))

    return xp.mapped(decode)(xp.exp(np.arange(DECODES) / (DECODES - 1) * xp.log(slots)))


def prompts_alone(question: Resolved, demand: Demand, budget: Scalar) -> tuple[Any, Scalar]:
    """Seconds of iterations of prompts only, at the knots, and of one more pair.

    Arguments:
        question, demand, budget: as of `tabulate`.
    """

    def prefill(tokens: Any, further: Any) -> Any:
        chunk = _chunk(tokens, demand)
        context = chunk.context + further * demand.pairs
        return seconds_of(question, Prompts(chunk.sequences, chunk.tokens, context), None)

    tokens = _chunks(budget)
    last = np.arange(CHUNKS + 1) == CHUNKS  # a full chunk once more, each token with more keys
    sizes = xp.concatenate([tokens, tokens[..., -1:]], axis=-1)
    first = xp.mapped(prefill)(sizes, np.where(last, 1.0, 0.0))
    more = first[..., -1] - first[..., -2]
    return first[..., :-1], more / _row(budget * demand.pairs)


def _chunks(budget: Scalar) -> Any:
    """Prompt tokens at the knots."""
    return LEAST * xp.exp(np.arange(CHUNKS) / (CHUNKS - 1) * xp.log(budget / LEAST))


def _row(x: Any) -> Any:
    """A number; of a column of shape (n, 1), its n numbers."""
    return x[..., 0] if np.ndim(x) else x


def seconds_of(question: Resolved, prompts: Prompts | None, decodes: Decodes | None) -> Scalar:
    """Seconds of an iteration of one of the engines that share a pipeline in turn.

    It passes through all stages, or waits until the slowest stage has done as many iterations as
    there are engines at work: whose decodes are few, who finds others idle now and then.
    """
    cost, engines = cost_of(question, prompts, decodes), question.case.plan.pipeline
    if prompts is None and decodes is not None:
        engines = 1 - (engines - 1) * xp.expm1(1 - decodes.sequences)
    waiting = engines * cost.stage_seconds
    target = xp.where(cost.seconds > waiting, cost.seconds, waiting)
    return target + drafting_seconds(question, prompts, decodes)


def _chunk(tokens: Any, demand: Demand) -> Prompts:
    """Prompt tokens of which each has `demand.pairs` keys in the mean.

    Up to `whole` tokens they are a piece in the middle of a prompt, else several prompts.
    """
    whole, cached = demand.whole, demand.cached
    one = tokens < whole
    return Prompts(
        sequences=xp.where(one, 1.0, tokens / whole),
        tokens=xp.where(one, tokens, whole),
        context=xp.where(one, cached + (whole - tokens) / 2, cached),
    )


def _at_least(x: Any, least: float) -> Any:
    return xp.where(x > least, x, least)


def _continued(values: Any) -> Any:
    """Values at knots, and what a straight line continues them with before and after."""
    before, after = 2 * values[:1] - values[1:2], 2 * values[-1:] - values[-2:-1]
    return xp.concatenate([before, values, after])


def _weights(at: Any, knots: int) -> Any:
    """The weights of evenly spaced knots in a smooth curve through all of them (Keys 1981).

    Arguments:
        at: where, 0 at the first knot and `knots` - 1 at the last; of any shape.
        knots: how many there are, besides one before and one after them.

    Returns:
        The shape of `at` and (knots + 2,), summing to 1 up to the last of all.
    """
    far = xp.asarray(at)[..., None] - np.arange(-1.0, knots + 1)
    left = 2 - xp.where(far < 0, -far, far)
    left = xp.where(left > 0, left, 0.0)
    inner = xp.where(left > 1, left - 1, 0.0)
    return (left - 1) * left * left / 2 + inner * inner * (1 - 2 * inner)
