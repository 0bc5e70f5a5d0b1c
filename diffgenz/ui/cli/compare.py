"""`diffgenz compare`: a serving benchmark's own file beside what its set-up is predicted to do."""

import argparse
import sys
from typing import Any

from diffgenz.scenario.words import WORDS
from diffgenz.ui.cli.flags import (
    LAYOUT,
    REQUESTS,
    add_engine,
    add_set,
    add_words,
    engine_of,
    words_in,
)

_WORDS = (*(name for name in LAYOUT if name != "model"), "fit", *REQUESTS)
_EXAMPLE = "diffgenz compare result.json --model Qwen/Qwen3-32B --system h100_sxm --tp 4"


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.epilog = f"Example: {_EXAMPLE}"
    parser.add_argument(
        "files",
        metavar="BENCH.json",
        nargs="+",
        help="results of `vllm bench serve --save-result`, SGLang's bench_serving, aiperf, "
        "genai-perf, InferenceX and others (docs/calibration.md lists them)",
    )
    parser.add_argument(
        "--model", metavar="MODEL", help=f"{WORDS['model'].help} (default: what the file says)"
    )
    unsaid: dict[str, dict[str, Any]] = {
        name: {"default": None} for name in _WORDS if WORDS[name].kind is not bool
    }
    unsaid["system"] |= {"required": False}
    for name in ("system", "isl", "osl", "batch", "fit"):
        what = WORDS[name].help.partition(" (default")[0]
        unsaid[name] |= {"help": f"{what} (default: what the file says)"}
    add_words(parser, _WORDS, unsaid)
    add_set(parser)
    add_engine(parser)


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """Measured beside predicted: text and JSON."""
    from diffgenz.calibrating.comparing import compare
    from diffgenz.calibrating.readers.serving.registry import read_benchmarks
    from diffgenz.serving.load import Engine
    from diffgenz.serving.serving_fit import load_serving_fit
    from diffgenz.ui.text.compare import comparison_json, comparisons_text

    benchmarks = read_benchmarks(options.files)
    words = {"model": options.model, **words_in(options, _WORDS)}
    fit = None if options.serving_fit is None else load_serving_fit(options.serving_fit)
    engine = engine_of(options)
    said = None if engine == Engine() else engine
    found = compare(benchmarks, words, options.set, _say, said, fit)
    return comparisons_text(found), [comparison_json(each) for each in found]


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
