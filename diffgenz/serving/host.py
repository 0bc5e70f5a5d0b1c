"""What the host of an engine adds to the time of its accelerators.

A host launches kernels, schedules iterations, reads requests and sends tokens. What it does between
iterations adds to each of them; eager engines, which launch every kernel anew, are not faster than
their host.
"""

from typing import Any

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.serving.smoothing import larger, smaller
from diffgenz.serving.steady import Steady

_HIDES = 3.0
"""The power at which launches and kernels hide each other in an eager engine: chosen on Llama-2-70B
served by vLLM of 2023."""


class Host(Tree):
    """What a host adds; None where it adds nothing.

    Arguments:
        iteration: s to each iteration.
        launches: s in which it launches the kernels of an iteration, in an eager engine.
        request: s to each request, before its first token.
        interval: tokens that it sends at once.
        pace: the time of the accelerators' part of an iteration, over the one that kernels' fits
            say.
        prompts: s by which launches take longer in an iteration that carries prompts, which CUDA
            graphs of decodes do not cover.
        wait: iterations that pass before it looks at a request, in the mean.
    """

    iteration: Any
    launches: Any = None
    request: Any = None
    interval: Any = None
    pace: Any = None
    prompts: Any = None
    wait: Any = None

    def on(self, seconds: Any, prompts: bool = False) -> Any:
        """Seconds of iterations, those of the accelerators given; of any shape.

        Arguments:
            seconds: what the accelerators take.
            prompts: whether these iterations carry prompts.
        """
        if self.pace is not None:
            seconds = self.pace * seconds
        parts = (self.launches, self.prompts if prompts else None)
        launches = [each for each in parts if each is not None]
        if launches:
            least = larger(sum(launches), 1e-12)
            both = xp.exp(_HIDES * xp.log(seconds)) + xp.exp(_HIDES * xp.log(least))
            seconds = xp.exp(xp.log(both) / _HIDES)
        return seconds + self.iteration

    def held(self, tpot: Any) -> Any:
        """Seconds by which the engine starts with a request later.

        Arguments:
            tpot: s between tokens.
        """
        found = 0 * tpot
        if self.request is not None:
            found = found + self.request
        if self.wait is not None:
            found = found + self.wait * tpot
        return found

    def delay(self, tpot: Any, steps: Any) -> Any:
        """Seconds by which users see the first token later than the engine has it.

        Arguments:
            tpot: s between tokens.
            steps: tokens after the first.
        """
        found = self.held(tpot)
        if self.interval is not None:
            found = found + smaller(self.interval - 1, steps) * tpot
        return found

    def kept(self, steps: Any) -> Any:
        """The share of the time between the first and the last token that users see as such.

        Tokens that are sent with the first one take none of it.

        Arguments:
            steps: tokens after the first.
        """
        if self.interval is None:
            return 1 + 0 * steps
        return 1 - smaller(self.interval - 1, steps) / steps

    def closed(self, steady: Steady, concurrency: Scalar) -> Steady:
        """A closed loop in which requests are held by the host, too, before they are served.

        Those that would wait for a slot meanwhile lose nothing; else requests under way are fewer
        in the engine.

        Arguments:
            steady: the loop without.
            concurrency: requests under way.
        """
        if self.request is None and self.wait is None:
            return steady
        held = self.held(steady.iteration)
        waited = smaller(steady.slot_wait, held)
        rate = concurrency / (concurrency / steady.rate + held - waited)
        running = steady.running * rate / steady.rate
        return eqx.tree_at(
            lambda s: (s.rate, s.running, s.slot_wait),
            steady,
            (rate, running, steady.slot_wait - waited),
        )
