"""`diffgenz estimate`: latency, throughput, memory, energy and cost, for one or several batches."""

import argparse
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.ui.cli.flags import LAYOUT, REQUESTS, add_plot, add_set, add_words, words_in
from diffgenz.ui.cli.traced import add_placement, asked_of

_SEVERAL = {
    "nargs": "+",
    "default": [1],
    "help": "requests in flight, which arrive and are served together; one or several (default: 1)",
}
_EXAMPLE = (
    "diffgenz estimate meta-llama/Llama-3.1-70B --system h100_sxm --gpus 8 --tp 8 --isl 2048 "
    "--osl 256 --batch 1 8 64"
)


_SYSTEMS = {
    "nargs": "+",
    "help": "accelerators to compare (see `diffgenz list systems`), or TOML files; one or several",
}


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.epilog = f"Example: {_EXAMPLE}"
    add_words(parser, (*LAYOUT, "fit"), {"system": _SYSTEMS})
    add_placement(parser)
    add_set(parser)
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="show times +- a standard deviation, from the fits of the kernels",
    )
    add_words(parser, REQUESTS, {"batch": _SEVERAL})
    add_plot(parser, "of one batch: draw where its times go, and its operators under the roofline")


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """The estimates of every system and batch size: text and JSON."""
    from diffgenz.inference.timed_by import timed_by
    from diffgenz.scenario.engines.refusals import engine_notes
    from diffgenz.ui.plots.figure import check_picture
    from diffgenz.ui.text.estimate import estimate_json, estimates_text
    from diffgenz.ui.text.scenario import title, title_of_several

    if options.plot is not None:
        check_picture(Path(options.plot))
        for name in ("batch", "system"):
            count = len(getattr(options, name))
            if count > 1:
                raise InputError(f"--plot: one estimate is drawn, not {count}; give one --{name}")
    asked = {system: _asked(options, system) for system in dict.fromkeys(options.system)}
    names = _names(asked)
    points, data, kernels = [], [], {}
    for system, its in asked.items():
        kernels[names[system]] = timed = timed_by(its.scenario)
        for batch in options.batch:
            workload = its.scenario.workload.replace(batch=float(batch))
            case = its.scenario.replace(workload=workload)
            name = names[system] if len(asked) > 1 else ""
            point = _estimated(case, options.dp, options.uncertainty)._replace(system=name)
            points.append(point)
            data.append(estimate_json(point, its, timed) | ({"system": name} if name else {}))
    first, (timed, *others) = next(iter(asked.values())), kernels.values()
    above = title(first.scenario, first.note, timed, engine_notes(first.scenario))
    if others:
        above = title_of_several({names[system]: its for system, its in asked.items()}, kernels)
    text = f"{above}\n\n{estimates_text(points)}"
    if options.plot is not None:
        text += f"\n\n{_drawn(points[0], options.plot)}"
    return text, data if len(data) > 1 else data[0]


def _asked(options: argparse.Namespace, system: str) -> Any:
    """The question about one of the systems; errors say which it is where there are several."""
    from diffgenz.core.sections import said_of

    words = words_in(options, (*LAYOUT, "fit", *REQUESTS))
    words |= {"system": system, "batch": options.batch[0]}
    with said_of(f"--system {system}") if len(options.system) > 1 else nullcontext():
        return asked_of(words, options.set, options.placement)


def _names(asked: dict[str, Any]) -> dict[str, str]:
    """What people call each system: its id, or its path where files have the same name."""
    ids = [its.system for its in asked.values()]
    return {
        system: its.system if ids.count(its.system) == 1 else system
        for system, its in asked.items()
    }


def _drawn(point: Any, path: str) -> str:
    """Draw an estimate, and say so."""
    from diffgenz.inference.roofline import roofline
    from diffgenz.ui.plots.estimate import estimate_plot
    from diffgenz.ui.text.scenario import deployed

    case = point.scenario
    if point.breakdown is None:
        return f"{path} is not written: what does not fit has no times to draw"
    title = f"{deployed(case)}, batch {point.batch}"
    estimate_plot(case, point.breakdown, roofline(case), Path(path), title)
    return f"wrote {path}"


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
