"""`diffgenz estimate`: latency, throughput, memory, energy and cost, for one or several batches."""

import argparse
import math
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.ui.cli.flags import LAYOUT, REQUESTS, add_words, words_in

_SEVERAL = {
    "nargs": "+",
    "default": [1],
    "help": "requests in flight, which arrive and are served together; one or several (default: 1)",
}
_EXAMPLE = (
    "diffgenz estimate meta-llama/Llama-3.1-70B --system h100_sxm --gpus 8 --tp 8 --isl 2048 "
    "--osl 256 --batch 1 8 64"
)


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.epilog = f"Example: {_EXAMPLE}"
    add_words(parser, (*LAYOUT, "fit"))
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="show times +- a standard deviation, from the fits of the kernels",
    )
    add_words(parser, REQUESTS, {"batch": _SEVERAL})


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """The estimates of every batch size: text and JSON."""
    from diffgenz.inference.timed_by import timed_by
    from diffgenz.scenario.engines.refusals import engine_notes
    from diffgenz.scenario.from_words import from_words
    from diffgenz.ui.text.estimate import estimate_json, estimates_text
    from diffgenz.ui.text.scenario import title

    words = words_in(options, (*LAYOUT, "fit", *REQUESTS))
    asked = from_words(words | {"batch": options.batch[0]})
    cases = [asked.scenario]
    for batch in options.batch[1:]:
        workload = asked.scenario.workload.replace(batch=float(batch))
        cases.append(asked.scenario.replace(workload=workload))
    points = [_estimated(case, options.dp, options.uncertainty) for case in cases]
    kernels = timed_by(asked.scenario)
    data = [estimate_json(point, asked, kernels) for point in points]
    above = title(asked.scenario, asked.note, kernels, engine_notes(asked.scenario))
    return f"{above}\n\n{estimates_text(points)}", data if len(data) > 1 else data[0]


def _estimated(case: Any, replicas: int, uncertainty: bool) -> Any:
    """What is known of one scenario."""
    from diffgenz.inference.breakdown import breakdown
    from diffgenz.inference.estimate import estimate
    from diffgenz.inference.uncertainty import deviations
    from diffgenz.studies.search.remedies import remedy
    from diffgenz.studies.search.smallest_layout import smallest_layout
    from diffgenz.ui.text.estimate import Estimated

    result, workload = estimate(case), case.workload
    if not math.isfinite(float(result.end_to_end)):
        tokens = f"{float(workload.input_tokens):g} + {float(workload.output_tokens):g} tokens"
        raise InputError(
            f"batch: {float(workload.batch):g} requests of {tokens} overflow float32; use smaller "
            "numbers"
        )
    if not bool(result.memory.fits):
        found = remedy(case)
        if found is not None:
            return Estimated(case, result, remedy=found)
        return Estimated(case, result, needed=smallest_layout(case, replicas))
    deviation = deviations(case) if uncertainty else None
    return Estimated(case, result, breakdown(case), deviation)
