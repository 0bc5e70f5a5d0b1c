"""`diffgenz replay`: what the requests of a log would see, served by a deployment."""

import argparse
from typing import Any

from diffgenz.ui.cli.flags import (
    COUNT,
    LAYOUT,
    add_engine,
    add_set,
    add_words,
    engine_for,
    words_in,
)
from diffgenz.ui.cli.traced import add_placement, asked_of

_WORDS = (*(name for name in LAYOUT if name != "mixed"), "fit")
_EXAMPLE = (
    "diffgenz replay AzureLLMInferenceTrace_conv.csv meta-llama/Llama-3.1-70B --system h100_sxm "
    "--gpus 8 --requests 500"
)


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.epilog = f"Example: {_EXAMPLE}"
    parser.add_argument(
        "log",
        metavar="LOG",
        help="requests: CSV, or JSON lines, with arrival (s, or a date), prompt_tokens and "
        "output_tokens; or as Azure, BurstGPT, Vidur and Mooncake name them",
    )
    add_words(parser, _WORDS)
    add_placement(parser)
    add_set(parser)
    parser.add_argument(
        "--requests",
        type=COUNT,
        metavar="N",
        help="only the first N of the log (default: all)",
    )
    add_engine(parser)


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """Latencies over the requests of the log: text and JSON."""
    from diffgenz.inference.timed_by import timed_by
    from diffgenz.serving.replay import replay
    from diffgenz.serving.request_log import read_requests
    from diffgenz.ui.cli.progress import progress_line
    from diffgenz.ui.text.replay import replayed_json, replayed_text
    from diffgenz.ui.text.scenario import title

    log = read_requests(options.log, options.requests)
    asked = asked_of(words_in(options, _WORDS), options.set, options.placement)
    case = asked.scenario
    means = {
        "input_tokens": float(round(log.prompts.mean())),
        "output_tokens": max(float(round(log.outputs.mean())), 2.0),
    }
    case = case.replace(workload=case.workload.replace(**means))
    asked = asked._replace(scenario=case)
    with progress_line() as line:
        found = replay(case, *log, engine_for(options, case), None if line is None else line.write)
    timed = timed_by(case)
    text = f"{title(case, asked.note, timed)}\n\n{replayed_text(log, found)}"
    return text, replayed_json(asked, timed, log, found)
