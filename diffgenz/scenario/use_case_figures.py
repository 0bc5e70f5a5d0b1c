"""The shipped use cases: what is asked and how fast the answer must be.

Nothing here imports JAX, so that `diffgenz list` is quick.
"""

import math
from typing import NamedTuple


class Figures(NamedTuple):
    """The numbers of one use case.

    Arguments:
        input_tokens: prompt tokens of one request.
        output_tokens: tokens generated for one request.
        beams: hypotheses of beam search that are decoded for each request.
        ttft: s until the first token, at most; infinite where there is no such objective.
        tpot: s between tokens, at most.
        note: what the source leaves open.
        batch: requests in flight.
    """

    input_tokens: float
    output_tokens: float
    beams: float
    ttft: float
    tpot: float
    note: str = ""
    batch: float = 1


SOURCE = "GenZ, arXiv 2406.01698, its table of use cases"

USE_CASES: dict[str, Figures] = {
    "question_answering": Figures(1_000, 200, 4, 0.2, 0.010),
    "chat": Figures(3_000, 1_000, 2, 0.2, 0.010),
    "rag": Figures(10_000, 200, 4, 0.4, 0.010, "question answering over retrieved text"),
    "summarization": Figures(15_000, 1_000, 4, 2.0, 0.020),
    "code_generation": Figures(
        20_000, 50, 4, 0.5, 0.020, "TTFT of the table of v3; the charts of v1 used 5 s"
    ),
    "assistant": Figures(
        100_000, 2_000, 4, math.inf, 0.2, "the paper: 100k to 2M tokens in, 5 tokens/s, no TTFT"
    ),
}
"""Every use case by name. A new use case is one line here."""
