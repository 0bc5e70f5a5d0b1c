"""A request's own prefill: what it takes, and whose prompts share its last iteration.

A prompt that starts a run takes full iterations and a last one, which prompts that came meanwhile
fill up. One that arrives in somebody else's full iteration starts inside it, on average in its
middle.
"""

from typing import Any, NamedTuple

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.serving.demand import Demand
from diffgenz.serving.iteration_table import Chunks, IterationTable
from diffgenz.serving.runs import Runs, last_piece
from diffgenz.serving.smoothing import LAST_ITERATION, larger, smooth_smaller


class Joining(NamedTuple):
    """Prompt tokens of others that come in time to share a request's last iteration.

    Arguments:
        start: where the request starts a run; of the shape of the nodes of prompts.
        inside: where it starts inside an iteration of others.
    """

    start: Any
    inside: Scalar


class OwnPrefill(NamedTuple):
    """A request's own prefill, in the mean.

    Arguments:
        seconds: s of it.
        shared: tokens of others that are computed in its last iteration.
        joined: s of those, where it starts a run.
        inside: s that it takes longer where it starts inside an iteration of others.
    """

    seconds: Scalar
    shared: Scalar
    joined: Scalar
    inside: Scalar


def own_prefill(
    table: IterationTable,
    demand: Demand,
    runs: Runs,
    beside: tuple[Chunks, Scalar],
    joining: Joining,
    inside: tuple[Scalar, Scalar],
) -> OwnPrefill:
    """The prefill of a request.

    Arguments:
        table: how long iterations take.
        demand: the requests.
        runs: the prefill runs.
        beside: how long chunks take beside the decodes that run, and s of a full iteration.
        joining: what shares its last iteration.
        inside: the probability that it starts inside an iteration of others, and s of a prompt at
            the speed of full iterations.
    """
    (chunks, full), (probability, mean) = beside, inside
    before, room, prompts = runs.pieces - 1, runs.room, demand.prompts.tokens
    if runs.apart:
        last, half = prompts, larger(room - demand.prompt, 0.0) / 2
    else:
        last, half = last_piece(prompts, runs.pieces, room), room / 2
    joined = last + _shared(joining.start, room - last)
    filled = room - half + _shared(joining.inside, half)
    lasts = chunks.seconds(xp.concatenate([joined, filled[None]]))
    seconds = before * full + lasts[:-1]
    first = demand.prompts.mean(seconds + table.pair * demand.extra_pairs)
    later = lasts[-1] - half / room * runs.full
    if not runs.apart:
        later = later + mean
    return OwnPrefill(
        seconds=(1 - probability) * first + probability * later,
        shared=(1 - probability) * demand.prompts.mean(joined - last)
        + probability * (filled - room + half),
        joined=demand.prompts.mean(lasts[:-1] - chunks.seconds(last)),  # where percentiles ask
        inside=later - first,
    )


def _shared(coming: Any, left: Any) -> Any:
    """Tokens of those that are coming that fit into what is left of an iteration."""
    return smooth_smaller(larger(coming, 1e-3), larger(left, 1e-3), LAST_ITERATION)
