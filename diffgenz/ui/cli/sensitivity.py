"""`diffgenz sensitivity`: the elasticities of a metric, for hardware and routing."""

import argparse
from typing import Any

from diffgenz.ui.cli.flags import LAYOUT, REQUESTS, add_set, add_words, words_in
from diffgenz.ui.cli.traced import add_placement, asked_of


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    add_words(parser, (*LAYOUT, "fit", *REQUESTS))
    add_placement(parser)
    add_set(parser)
    parser.add_argument(
        "--metric",
        nargs="+",
        default=["tpot"],
        help="ttft, tpot, throughput, energy_per_output_token, memory.total, ... (default: tpot)",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="the parameters of fitted kernels and efficiencies, too, not only the hardware's and "
        "the routing's numbers",
    )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """What some metrics depend on: text (a tornado for each) and JSON."""
    from diffgenz.inference.elasticities import elasticities
    from diffgenz.inference.estimate import estimate
    from diffgenz.inference.metrics import METRICS, metric_named
    from diffgenz.inference.timed_by import timed_by
    from diffgenz.inference.worth import worth
    from diffgenz.ui.text.scenario import notes_of, title
    from diffgenz.ui.text.sensitivity import elasticities_tables, is_hardware

    words = words_in(options, (*LAYOUT, "fit", *REQUESTS))
    asked = asked_of(words, options.set, options.placement)
    case, result = asked.scenario, estimate(asked.scenario)
    fits = bool(result.memory.fits)
    text = [f"{title(case, asked.note, timed_by(case))}; batch {float(case.workload.batch):g}"]
    told = {}
    for name in dict.fromkeys(options.metric):
        value, metric = float(metric_named(result, name)), METRICS[name]
        card = {number: float(e) for number, e in elasticities(case, name).items()}
        shown = {n: e for n, e in card.items() if options.all or is_hardware(n)}
        more = worth(case, [name], list(shown))[name]
        text += [
            "",
            f"{metric.label} = {metric.factor * value:.4g} ({name}); "
            "with 1 % and with 10 % more of each number it changes by",
            "",
            elasticities_tables(shown, more, metric, case),
        ]
        hidden = sum(abs(e) >= 0.01 for n, e in card.items() if n not in shown)
        if hidden:
            text.append(f"{hidden} parameters of kernels and efficiencies are not shown: --all")
        told[name] = {"value": value, "elasticities": card, "ten_percent_more": more}
    if not fits:
        text.append("note: this deployment does not fit in memory")
    return "\n".join(text), {"fits": fits, "notes": notes_of(case), "metrics": told}
