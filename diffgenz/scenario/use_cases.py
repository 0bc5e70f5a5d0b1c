"""Use cases: a workload and the service-level objectives it must meet."""

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.checks import check
from diffgenz.core.errors import unknown
from diffgenz.core.record import Record
from diffgenz.core.smooth import Leaf, as_leaf
from diffgenz.scenario.parallelism import Workload
from diffgenz.scenario.use_case_figures import SOURCE, USE_CASES


class UseCase(Record):
    """What is asked, and how fast the answer must be.

    Arguments:
        name: what people call it.
        input_tokens, output_tokens: of one request.
        beams: hypotheses of beam search that are decoded for each request, sharing the prompt's KV cache (`Serving.beams`); 1 without it.
        ttft: s until the first token, at most; infinite where there is no such objective.
        tpot: s between tokens, at most; infinite likewise.
        batch: requests in flight.
        source: where the figures come from.

    Raises:
        InputError: tokens, beams or batch below 1, an objective that is zero, negative or NaN.
    """

    name: str = eqx.field(static=True)
    input_tokens: Leaf = eqx.field(converter=as_leaf)
    output_tokens: Leaf = eqx.field(converter=as_leaf)
    beams: Leaf = eqx.field(converter=as_leaf, default=1.0)
    ttft: Leaf = eqx.field(converter=as_leaf, default=jnp.inf)
    tpot: Leaf = eqx.field(converter=as_leaf, default=jnp.inf)
    batch: Leaf = eqx.field(converter=as_leaf, default=1.0)
    source: str = eqx.field(static=True, default="")

    def __check_init__(self):
        for field in ("input_tokens", "output_tokens", "beams", "batch"):
            check(field, getattr(self, field), minimum=1)
        for field in ("ttft", "tpot"):
            check(field, getattr(self, field), exclusive=True, finite=False)

    @property
    def workload(self) -> Workload:
        """The requests."""
        return Workload(self.batch, self.input_tokens, self.output_tokens)


def load_use_case(name: str) -> UseCase:
    """The shipped use case `name` (see `diffgenz list use-cases`).

    Raises:
        InputError: there is none of that name (the nearest are named).
    """
    if name not in USE_CASES:
        raise unknown("use case", name, USE_CASES)
    figures = USE_CASES[name]
    return UseCase(name, *figures[:5], figures.batch, SOURCE)
