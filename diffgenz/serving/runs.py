"""Prefill runs: iterations in a row that carry prompt tokens, all of them full but the last.

Iterations form cycles: some that only decode, then a run. The tokens of a run are those that arrive
in a cycle, which makes each cycle start like the one before.
"""

from typing import Any, NamedTuple

import equinox as eqx

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
        last: prompt tokens of it.
        apart: whether iterations with prompts carry no decodes: shares of iterations are then those
            of iterations with decodes.
    """

    room: Scalar
    pieces: Any
    count: Scalar
    idle: Scalar
    full: Scalar
    part: Scalar
    last: Scalar
    apart: bool = eqx.field(static=True, default=False)

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
        count = 0.0 if self.apart else self.count
        return after_idle / (1 - after_part + after_idle * count)


def runs_of(table: IterationTable, demand: Demand, beside: Scalar, tokens: Scalar) -> Runs:
    """The runs of some tokens.

    What joins the prompt that starts a run is nothing, or exponential.

    Arguments:
        table: how long iterations take.
        demand: the lengths of prompts.
        beside: running decodes.
        tokens: prompt tokens of a run, in the mean.
    """
    room = room_of(table, demand, beside)
    prompts, mean = demand.prompts.tokens, demand.prompt
    pieces = pieces_of(table, prompts, room, beside)
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
        last=last,
        apart=table.prefill_first,
    )


class Ends(NamedTuple):
    """The last iterations of runs, as those see them who arrive meanwhile.

    Arguments:
        seconds: of one; a long one is met more often than a short one.
        square: mean square of the s, at the speed of full iterations, that prompts spend in them.
    """

    seconds: Scalar
    square: Scalar


def ends_of(demand: Demand, runs: Runs, token: Scalar) -> Ends:
    """The last iterations of runs.

    They hold the last pieces of prompts, and prompts that joined, whose number is Poisson; tokens
    of chunks vary no more than if any number of them were as likely.

    Arguments:
        demand: the lengths of prompts.
        runs: the runs.
        token: s that one more prompt token takes.
    """
    prompt, room = demand.prompt, runs.room
    pieces = last_piece(demand.prompts.tokens, runs.pieces, room)
    piece, square = demand.prompts.mean(pieces), demand.prompts.mean(pieces * pieces)
    joined = larger(runs.last - piece, 0.0)
    variance = square - piece * piece + joined * prompt * (1 + demand.prompt_variation)
    if not runs.apart:
        variance = variance * room * room / (12 * variance + room * room)
    # of prompts that end in them; the rest end in full ones
    share = smaller(runs.last * prompt / ((room * (runs.count - 1) + runs.last) * piece), 1.0)
    full = runs.full / room
    return Ends(runs.part + token * token * variance / runs.part, share * square * full * full)


def room_of(table: IterationTable, demand: Demand, beside: Scalar) -> Scalar:
    """Prompt tokens of a full iteration beside running decodes.

    Whole prompts leave room for the next one unused: for half a prompt, as seen by a token drawn at
    random, where their lengths vary, and for what no prompt fills, where they are all alike.
    """
    if not table.prefill_first:
        return larger(table.budget - demand.queries * beside, 16.0)
    prompts, mean, varies = demand.prompts.tokens, demand.prompt, demand.prompt_variation
    whole = xp.stop_gradient(xp.floor(table.budget / mean + 1e-4))
    left = larger(table.budget - prompts, 0.0)
    further = left * left / (left + mean * (1 + varies) / 2)
    random = smaller(4 * varies, 1.0)
    return (1 - random) * mean * larger(whole, 1.0) + random * demand.prompts.mean(
        prompts + further
    )


def pieces_of(table: IterationTable, prompts: Any, room: Scalar, beside: Scalar) -> Any:
    """Iterations that prompts take, whose room varies as running decodes do."""
    if table.prefill_first:
        return xp.ones_like(prompts)
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
