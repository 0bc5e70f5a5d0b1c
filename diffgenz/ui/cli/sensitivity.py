"""`diffgenz sensitivity`: the elasticities of a metric, for every hardware number."""

import argparse
from typing import Any

from diffgenz.ui.cli.flags import LAYOUT, REQUESTS, add_words, words_in


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    add_words(parser, (*LAYOUT, "fit", *REQUESTS))
    parser.add_argument(
        "--metric",
        default="tpot",
        help="ttft, tpot, throughput, energy_per_output_token, memory.total, ... (default: tpot)",
    )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """The elasticities of one metric: text (a tornado) and JSON."""
    from diffgenz.inference.elasticities import elasticities
    from diffgenz.inference.estimate import estimate
    from diffgenz.inference.metrics import metric_named
    from diffgenz.inference.timed_by import timed_by
    from diffgenz.scenario.from_words import from_words
    from diffgenz.ui.text.scenario import title
    from diffgenz.ui.text.sensitivity import elasticities_table

    asked, metric = from_words(words_in(options, (*LAYOUT, "fit", *REQUESTS))), options.metric
    case = asked.scenario
    result = estimate(case)
    value, fits = float(metric_named(result, metric)), bool(result.memory.fits)
    card = {name: float(e) for name, e in elasticities(case, metric).items()}
    text = [
        f"{title(case, asked.note, timed_by(case))}; batch {float(case.workload.batch):g}",
        "",
        f"{metric} = {value:.4g} (SI); 1 % more of each changes it by so many percent:",
        "",
        elasticities_table(card, case.platform),
        *([] if fits else ["note: this deployment does not fit in memory"]),
    ]
    data = {"metric": metric, "value": value, "fits": fits, "elasticities": card}
    data["notes"] = list(case.model.notes)
    return "\n".join(text), data
