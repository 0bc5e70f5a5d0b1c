"""`diffgenz estimate`: latency, throughput, memory, energy and cost, for one or several batches."""

import argparse
import math
from pathlib import Path
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
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="of one batch: draw where its times go, and its operators under the roofline, as "
        ".png, .svg or .pdf (needs diffgenz[plots])",
    )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """The estimates of every batch size: text and JSON."""
    from diffgenz.inference.timed_by import timed_by
    from diffgenz.scenario.from_words import from_words
    from diffgenz.ui.plots.figure import check_picture
    from diffgenz.ui.text.estimate import estimate_json, estimates_text
    from diffgenz.ui.text.scenario import title

    if options.plot is not None:
        check_picture(Path(options.plot))
        if len(options.batch) > 1:
            raise InputError(
                f"--plot: one estimate is drawn, not {len(options.batch)}; give one --batch"
            )
    words = words_in(options, (*LAYOUT, "fit", *REQUESTS))
    asked = from_words(words | {"batch": options.batch[0]})
    cases = [asked.scenario]
    for batch in options.batch[1:]:
        workload = asked.scenario.workload.replace(batch=float(batch))
        cases.append(asked.scenario.replace(workload=workload))
    points = [_estimated(case, options.dp, options.uncertainty) for case in cases]
    kernels = timed_by(asked.scenario)
    data = [estimate_json(point, asked, kernels) for point in points]
    above = title(asked.scenario, asked.note, kernels)
    text = f"{above}\n\n{estimates_text(points)}"
    if options.plot is not None:
        text += f"\n\n{_drawn(points[0], options.plot)}"
    return text, data if len(data) > 1 else data[0]


def _drawn(point: Any, path: str) -> str:
    """Draw an estimate, and say so."""
    from diffgenz.inference.roofline import roofline
    from diffgenz.ui.plots.estimate import estimate_plot

    case = point.scenario
    if point.breakdown is None:
        return f"{path} is not written: what does not fit has no times to draw"
    title = f"{case.model.name} on {int(case.plan.ranks)} x {case.platform.accelerator.name}"
    title += f", batch {point.batch}"
    estimate_plot(case, point.breakdown, roofline(case), Path(path), title)
    return f"wrote {path}"


def _estimated(case: Any, replicas: int, uncertainty: bool) -> Any:
    """What is known of one scenario."""
    from diffgenz.inference.breakdown import breakdown
    from diffgenz.inference.estimate import estimate
    from diffgenz.inference.uncertainty import deviations
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
        return Estimated(case, result, needed=smallest_layout(case, replicas))
    deviation = deviations(case) if uncertainty else None
    return Estimated(case, result, breakdown(case), deviation)
