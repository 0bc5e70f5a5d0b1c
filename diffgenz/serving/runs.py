"""Prefill runs: iterations in a row that carry prompt tokens, all of them full but the last.

Iterations form cycles: some that only decode, then a run. The tokens of a run are those that arrive
in a cycle, which makes each cycle start like the one before.
"""

from typing import Any

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.serving.demand import Demand
from diffgenz.serving.iteration_table import IterationTable
from diffgenz.serving.smoothing import between, larger, smaller, smooth_stairs

_WIDTH = 0.02
"""The least width of a step in the iterations that a prompt takes."""


class Runs(Tree):
    """Prefill runs beside a number of running decodes.

    Arguments:
        room: prompt tokens of a full iteration, what decodes leave of the budget.
        pieces: iterations that the prompt of each node takes.
        count: iterations of a run, in the mean.
        idle: s of an iteration that only decodes.
        full: s of a full one.
        part: s of the last one.
    """

    room: Scalar
    pieces: Any
    count: Scalar
    idle: Scalar
    full: Scalar
    part: Scalar

    def cycle(self, after_idle: Scalar, after_part: Scalar) -> Scalar:
        """Seconds from the start of a run to that of the next.

        Arguments:
            after_idle: the probability that a run starts after an iteration that only decodes.
            after_part: the probability that it starts after the last one of a run.
        """
        waiting = self.idle * (1 - after_part) / after_idle
        return waiting + (self.count - 1) * self.full + self.part

    def partly(self, after_idle: Scalar, after_part: Scalar) -> Scalar:
        """The share of iterations that are the last of a run; arguments as in `cycle`."""
        return after_idle / (1 - after_part + after_idle * self.count)


def runs_of(table: IterationTable, demand: Demand, beside: Scalar, tokens: Scalar) -> Runs:
    """The runs of some tokens.

    What joins the prompt that starts a run is nothing, or exponential.

    Arguments:
        table: how long iterations take.
        demand: the lengths of prompts.
        beside: running decodes.
        tokens: prompt tokens of a run, in the mean.
    """
    room = larger(table.budget - beside, 16.0)
    prompts, mean = demand.prompts.tokens, demand.prompt
    pieces = pieces_of(prompts, room, beside)
    scale = larger(tokens, mean)
    share = larger(tokens - mean, 0.0) / scale
    left = larger(pieces * room - prompts, 0.0)
    further = xp.exp(-left / scale) / -xp.expm1(-room / scale)
    count = demand.prompts.mean(pieces + share * further)
    last = between(tokens - room * (count - 1), 1.0, room)
    full, part = table.both(beside, xp.stack([room, last]))
    return Runs(
        room=room,
        pieces=pieces,
        count=count,
        idle=table.decodes(beside),
        full=full,
        part=part,
    )


def pieces_of(prompts: Any, room: Scalar, beside: Scalar) -> Any:
    """Iterations that prompts take, whose room varies as running decodes do."""
    ratio = prompts / room
    width = larger(0.6 * xp.sqrt(beside) / room * ratio, _WIDTH)
    return larger(smooth_stairs(ratio, width), 1.0)


def last_piece(prompts: Any, pieces: Any, room: Scalar) -> Any:
    """Tokens of prompts in the last of their iterations, at least 1.

    Arguments:
        prompts: tokens of each.
        pieces: iterations that each takes (`pieces_of`).
        room: prompt tokens of a full iteration.
    """
    return larger(prompts - (pieces - 1) * room, 1.0)


def next_tokens(
    runs: Runs, tokens: Scalar, arriving: Scalar, rates: tuple[Scalar, Scalar]
) -> Scalar:
    """A better guess of the tokens of a run, the linear part of the equation solved at once.

    Arguments:
        runs: the runs of the last guess.
        tokens: the last guess.
        arriving: the tokens that arrive in their cycle.
        rates: tokens that arrive for each token of a run while it is computed, and in the time of
            an iteration that only decodes for each token of a full one.
    """
    busy, idle = smaller(rates[0], 0.999), rates[1]
    new = (arriving - busy * tokens + idle * tokens) / (1 - busy + idle)
    return between(new, 0.6 * tokens, 3.0 * tokens)
