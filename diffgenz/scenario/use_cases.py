"""Use cases: a workload and the service-level objectives it must meet."""

import numpy as np

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.record import Record, label, number
from diffgenz.core.smooth import Leaf
from diffgenz.scenario.serving_options import Serving
from diffgenz.scenario.use_case_figures import SOURCE, USE_CASES
from diffgenz.scenario.workload import Workload


class UseCase(Record):
    """What is asked, and how fast the answer must be.

    Arguments:
        name: what people call it.
        input_tokens: prompt tokens of one request, at least 1.
        output_tokens: tokens generated for one request, at least 1.
        beams: hypotheses of beam search that are decoded for each request and share the prompt's
            KV cache (`Serving.beams`), at least 1; 1 without beam search.
        ttft: s until the first token, at most; infinite where there is no such objective.
        tpot: s between tokens, at most; infinite where there is no such objective.
        batch: requests in flight, at least 1.
        source: where the figures come from.

    Raises:
        InputError: tokens, beams or a batch below 1, or an objective that is zero, negative or
            NaN.
    """

    name: str = label()
    input_tokens: Leaf = number(at_least=1)
    output_tokens: Leaf = number(at_least=1)
    beams: Leaf = number(at_least=1, default=1.0)
    ttft: Leaf = number("s", above=0, finite=False, default=np.inf)
    tpot: Leaf = number("s", above=0, finite=False, default=np.inf)
    batch: Leaf = number(at_least=1, default=1.0)
    source: str = label(default="")

    @property
    def workload(self) -> Workload:
        """The workload of the use case."""
        return Workload(self.batch, self.input_tokens, self.output_tokens)

    def served(self, serving: Serving | None = None) -> Serving:
        """`serving` with the beams of the use case.

        Raises:
            InputError: `serving` has beams of its own.
        """
        serving = Serving() if serving is None else serving
        if serving.beams is not None:
            raise InputError(
                "serving: beams are the use case's; set UseCase.beams and leave them out of Serving"
            )
        return serving.replace(beams=self.beams)


def load_use_case(name: str) -> UseCase:
    """The shipped use case `name` (see `diffgenz list use-cases`).

    Raises:
        InputError: no use case has that name (the nearest names are given).
    """
    if name not in USE_CASES:
        raise unknown("use case", name, USE_CASES)
    figures = USE_CASES[name]
    return UseCase(name, *figures[:5], figures.batch, SOURCE)
