"""The steady state of one engine, which open and closed loops both end in."""

from typing import Any

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.serving.demand import Demand
from diffgenz.serving.runs import Runs
from diffgenz.serving.smoothing import larger


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
        rest: s until the running iteration ends, where that is not a full one.
        own: s of a request's own prefill, in the mean.
        excess: s that the decode iterations of a long answer take beyond the mean iteration, since
            prompts that queued behind its own still run.
        excess_rate: s of it in the first iteration.
        rate: requests/s.
        arrivals: requests that arrive in an iteration.
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
    rest: Scalar
    own: Scalar
    excess: Scalar
    excess_rate: Scalar
    rate: Scalar
    arrivals: Scalar

    @property
    def admitted(self) -> Scalar:
        """Seconds from admission to the first token."""
        return self.ahead + self.rest + self.own

    @property
    def ttft(self) -> Scalar:
        """Seconds to the first token, in the mean."""
        return self.slot_wait + self.admitted

    def generation(self, steps: Any) -> Any:
        """Seconds from the first token to the last, of answers that take some decode iterations."""
        excess = larger(self.excess, 1e-12)
        caught = -excess * xp.expm1(-steps * self.excess_rate / excess)
        return steps * self.iteration + caught


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
