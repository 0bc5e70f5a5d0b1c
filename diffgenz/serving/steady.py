"""The steady state of one engine, which open and closed loops both end in."""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.serving.demand import Demand
from diffgenz.serving.runs import Runs
from diffgenz.serving.smoothing import larger


class Rests(NamedTuple):
    """What is left of the running iteration when a request arrives, where that is not a full one.

    It is uniform from 0 to the length of an iteration that only decodes, or of the last one of a
    run. Who arrives in a full iteration waits for prompts instead.

    Arguments:
        lengths: s of these two; 0 where none is waited for; shape (2,).
        shares: the probabilities to arrive in either; shape (2,).
    """

    lengths: Any
    shares: Any

    @property
    def mean(self) -> Scalar:
        """Seconds, in the mean over all requests."""
        return (self.lengths * self.shares).sum(-1) / 2


class Sharing(NamedTuple):
    """How prompts share iterations, which their percentiles depend on.

    Arguments:
        inside: s that a request's own prefill takes longer where it starts inside a full iteration
            of others than where it starts a run.
        joined: s of prompts that came later in its last iteration, in the mean, where it starts a
            run.
        each: s that another prompt adds to an iteration that has room for it.
        end: s of the last iteration of a run, as those meet it who arrive; 0 where nobody arrives
            within iterations.
    """

    inside: Any
    joined: Any
    each: Any
    end: Any


class Steady(Tree):
    """One engine under load, in the mean.

    Arguments:
        running: decodes that run, averaged over time.
        tagged: decodes that a running request sees, itself included.
        runs: the prefill runs.
        full: the share of iterations that carry as many prompt tokens as they may.
        part: the share of iterations that are the last of a run.
        iteration: s of an iteration, in the mean over iterations.
        waits_for_slot: the probability of it.
        slot_wait: s, in the mean over all requests.
        ahead: s that a request waits for the prompts before it, in the mean.
        ahead_busy: the probability that it does.
        rests: what is left of the running iteration.
        own: s of a request's own prefill, in the mean.
        excess: s that the decode iterations of a long answer take beyond the mean iteration, since
            prompts that queued behind its own still run.
        excess_pace: the share of what is left of it that an iteration takes, as an exponential's
            rate.
        rate: requests/s.
        arrivals: requests that arrive in an iteration.
        sharing: how prompts share iterations.
        residual: the share by which Little's law misses the running decodes.
    """

    running: Scalar
    tagged: Scalar
    runs: Runs
    full: Scalar
    part: Scalar
    iteration: Scalar
    waits_for_slot: Scalar
    slot_wait: Scalar
    ahead: Scalar
    ahead_busy: Scalar
    rests: Rests
    own: Scalar
    excess: Scalar
    excess_pace: Scalar
    rate: Scalar
    arrivals: Scalar
    sharing: Sharing
    residual: Scalar | float = 0.0

    def solving(self, off: Scalar) -> "Steady":
        """The same state, whose running decodes miss Little's law by `off`, in logarithms."""
        return eqx.tree_at(lambda s: s.residual, self, xp.where(off < 0, -off, off))

    @property
    def admitted(self) -> Scalar:
        """Seconds from admission to the first token."""
        return self.ahead + self.rests.mean + self.own

    @property
    def ttft(self) -> Scalar:
        """Seconds to the first token, in the mean."""
        return self.slot_wait + self.admitted

    def generation(self, steps: Any) -> Any:
        """Seconds from the first token to the last, of answers that take some decode iterations."""
        return steps * self.iteration - self.excess * xp.expm1(-steps * self.excess_pace)


def closed_state(
    concurrency: Scalar,
    admitted: Scalar,
    steps: Scalar,
    *,
    runs: Runs,
    tagged: Scalar,
    iteration: Scalar,
    rate: Scalar,
    own: Scalar,
    full: Scalar,
    part: Scalar,
    arrivals: Scalar,
    ahead: Scalar | float = 0.0,
    ahead_busy: Scalar | float = 0.0,
) -> Steady:
    """The state of a closed loop: nobody waits for a running iteration, and Little's law holds.

    Arguments:
        concurrency: requests under way.
        admitted: those of them that run at once, up to `concurrency`; the others wait for a slot.
        steps: decode iterations of a request.
        runs, tagged, iteration, rate, own, full, part, arrivals, ahead, ahead_busy: of `Steady`.
    """
    zero = 0 * own
    # below 0 by rounding where nobody waits: deciding by its sign would split its derivative
    wait = concurrency / rate - steps * iteration - own - ahead
    return Steady(
        running=rate * steps * iteration,
        tagged=tagged + zero,
        runs=runs,
        full=full + zero,
        part=part + zero,
        iteration=iteration,
        waits_for_slot=larger(1 - admitted / concurrency, 0.0) + zero,
        slot_wait=wait,
        ahead=ahead + zero,
        ahead_busy=ahead_busy + zero,
        rests=Rests(zero * np.ones(2), zero + np.array([1.0, 0.0])),
        own=own,
        excess=zero,
        excess_pace=zero,
        rate=rate,
        arrivals=arrivals,
        sharing=Sharing(zero, zero, 1 + zero, zero),
    )


def piece_seconds(demand: Demand, runs: Runs, full: Scalar, pair: Scalar) -> tuple[Scalar, Scalar]:
    """The mean and the mean square of the seconds of prompts at the speed of full iterations.

    Arguments:
        demand: the prompts.
        runs: the runs, whose room counts.
        full: s of a full iteration.
        pair: s of a pair of a query and a key.
    """
    seconds = demand.prompts.tokens * full / runs.room + pair * demand.extra_pairs
    seconds = larger(seconds, 1e-9)
    return demand.prompts.mean(seconds), demand.prompts.mean(seconds * seconds)
