"""`Load`: how requests come. `Engine`: what the server that takes them is set to."""

from collections.abc import Iterable

import equinox as eqx
import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import Condition
from diffgenz.core.errors import InputError
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf
from diffgenz.serving.lengths import Constant, Lengths

ROUTERS = ("random", "round_robin")
"""How a router deals requests out to engines: to any of them, or to one after the other."""


_REGULAR = 0.1
"""The least burstiness that is modelled."""


class Load(Record):
    """Requests over time: an open loop of a given rate, or a closed one of a given concurrency.

    The workload of the scenario says how long prompts and answers are in the mean, and the
    distributions here how they differ. Prompts and answers are independent of each other.

    Arguments:
        rate: requests/s that arrive at all replicas together, above 0 (open loop).
        concurrency: requests that are under way all the time, at least 1; each reply is followed at
            once by the next request (closed loop).
        requests: how many requests a benchmark in a closed loop sends, at least the concurrency;
            the first of them all arrive at once. None: as many as one likes.
        burstiness: the squared coefficient of variation of the time between arrivals in an open
            loop, at least 0.1: 1 for Poisson arrivals, more for bursts, less for a regular stream.
        lockstep: in a closed loop, whether requests of one length stay together as they started, as
            those of benchmarks with constant lengths do.
        prompts: how the lengths of prompts are distributed. Default: all alike.
        outputs: how the lengths of answers are distributed. Default: all alike.

    Raises:
        InputError: neither a rate nor a concurrency, or both; an option of the other loop; lengths
            in lockstep that differ; fewer requests than are under way.
    """

    rate: Leaf | None = number("1/s", above=0, default=None)
    concurrency: Leaf | None = number(at_least=1, default=None)
    requests: Leaf | None = number(at_least=1, default=None)
    burstiness: Leaf = number(at_least=_REGULAR, default=1.0)
    lockstep: bool = eqx.field(static=True, default=False)
    prompts: Lengths = eqx.field(default_factory=Constant)
    outputs: Lengths = eqx.field(default_factory=Constant)

    def share_of(self, engines: Leaf | float, router: str) -> "Load":
        """The load of one of some engines.

        Arguments:
            engines: how many there are, at least 1.
            router: one of `ROUTERS`. Arrivals that are dealt out at random are nearer to Poisson
                than those before; in turn they become regular.
        """
        parts = {
            name: value / engines
            for name, value in (
                ("rate", self.rate),
                ("concurrency", self.concurrency),
                ("requests", self.requests),
            )
            if value is not None
        }
        bursts = self.burstiness
        if router == "round_robin":
            bursts = xp.where(bursts / engines > _REGULAR, bursts / engines, _REGULAR)
        else:
            bursts = 1 + (bursts - 1) / engines
        return self.replace(**parts, burstiness=bursts)

    def conditions(self) -> Iterable[Condition]:
        if (self.rate is None) == (self.concurrency is None):
            raise InputError(
                "load: give either a rate of requests (open loop) or a concurrency (closed loop)"
            )
        if self.rate is not None:
            for name, given in (
                ("requests", self.requests is not None),
                ("lockstep", self.lockstep),
            ):
                if given:
                    raise InputError(f"{name}: needs a concurrency; leave it out for a rate")
            return
        alike = isinstance(self.prompts, Constant) and isinstance(self.outputs, Constant)
        if self.lockstep and not alike:
            raise InputError("lockstep: lengths that differ don't stay together; leave it out")
        if self.requests is not None:
            yield Condition(
                self.requests >= self.concurrency,
                lambda: (
                    f"requests: {np.max(np.asarray(self.requests)):g} are fewer than "
                    "the concurrency; benchmarks send some 10 times as many"
                ),
            )


class Engine(Record):
    """What a server that batches continuously is set to, beside `Serving`.

    Its token budget is `Serving.chunk`: prompts are computed in chunks beside the running decodes,
    which take their share of it first. With `prefill_first` it bounds the prompts, each of them
    whole, that are computed together while decodes stand still.

    Arguments:
        max_num_seqs: requests that may run at once, of each engine (each data-parallel replica or
            attention group), at least 1.
        host_seconds: s that the host adds to each iteration, at least 0.
        request_seconds: s that the server adds to each request before its first token, at least 0.
            None: nothing.
        stream_interval: tokens that are sent to a user at once, at least 1 and fewer than an answer
            has: the first of them wait for the others. None: each by itself.
        layer_seconds: s in which the host of an eager engine, one without CUDA graphs, launches the
            kernels of a layer, at least 0: iterations take no less. None: launches cost what
            kernels' fits have of them.
        pace: the time that accelerators take for an iteration, over the one that kernels' fits say,
            above 0. None: 1.
        router: how requests are dealt out to several engines: "random", or "round_robin".
        prefill_first: whether whole prompts go before decodes, in iterations of their own, as in
            engines without chunked prefill. A prompt that exceeds the budget is computed alone.

    Raises:
        InputError: a router that is not known.
    """

    max_num_seqs: Leaf = number(at_least=1, default=256.0)
    host_seconds: Leaf = number("s", default=0.0)
    request_seconds: Leaf | None = number("s", off=0.0, default=None)
    stream_interval: Leaf | None = number(at_least=1, off=1.0, default=None)
    layer_seconds: Leaf | None = number("s", off=0.0, default=None)
    pace: Leaf | None = number(above=0, off=1.0, default=None)
    router: str = eqx.field(static=True, default="random")
    prefill_first: bool = eqx.field(static=True, default=False)

    def conditions(self) -> Iterable[Condition]:
        if self.router not in ROUTERS:
            raise InputError(
                f"router: {self.router!r} is not known; use one of {', '.join(ROUTERS)}"
            )
        return ()
