"""`diffgenz requirements`: what a platform must have to meet a use case's objectives."""

import argparse
import math
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.scenario.words import WORDS
from diffgenz.ui.cli.cache import cache_compilations
from diffgenz.ui.cli.flags import LAYOUT, MILLISECONDS, add_set, add_words, words_in
from diffgenz.ui.cli.progress import working

_SYSTEM = {
    "required": False,
    "help": "what the numbers not sought are: an accelerator or a TOML file (default: unlimited)",
}
_REQUESTS = {
    "isl": "input sequence length, tokens",
    "osl": "output sequence length, tokens",
    "batch": "requests in flight",
}
_OBJECTIVES = {"ttft": "the time to the first token", "tpot": "the time between tokens"}


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "--use-case",
        help="requests and objectives that are shipped, see `diffgenz list use-cases` (default: "
        "none; then --ttft or --tpot is needed)",
    )
    own = {
        name: {
            "default": None,
            "help": f"{what} (default: the use case's, or {WORDS[name].default})",
        }
        for name, what in _REQUESTS.items()
    }
    add_words(parser, _REQUESTS, own)
    for name, what in _OBJECTIVES.items():
        parser.add_argument(
            f"--{name}",
            type=MILLISECONDS,
            metavar="MS",
            help=f"objective for {what}, at most (default: the use case's)",
        )
    add_words(parser, (*LAYOUT, "fit"), {"system": _SYSTEM})
    add_set(parser)


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """What each accelerator needs for the use case: text and JSON."""
    from diffgenz.inference.timed_by import timed_by
    from diffgenz.scenario.from_words import from_words
    from diffgenz.studies.requirements import ideal_platform, requirements
    from diffgenz.ui.text.requirements import Required, requirements_json, requirements_text

    cache_compilations()
    use_case = _use_case(options)
    working("compiling, then solving for each number")
    words = words_in(options, (*LAYOUT, "fit")) | {"beams": None}
    asked = from_words(words, without_system=ideal_platform, settings=options.set)
    case = asked.scenario
    case = case.replace(workload=use_case.workload, serving=use_case.served(case.serving))
    result = requirements(case, ttft=use_case.ttft, tpot=use_case.tpot)
    required = Required(use_case, asked, result, timed_by(case))
    return requirements_text(required), requirements_json(required)


def _use_case(options: argparse.Namespace) -> Any:
    """The shipped use case with what the flags change, or one of the flags alone."""
    from diffgenz.scenario.use_cases import UseCase, load_use_case

    changes = _changes(options)
    if options.use_case is not None:
        return load_use_case(options.use_case).replace(**changes)
    if not any(name in changes for name in _OBJECTIVES):
        raise InputError(
            "--ttft, --tpot: no objective is given; give one of them in ms, or a --use-case"
        )
    tokens: dict[str, Any] = {WORDS[name].number: WORDS[name].default for name in ("isl", "osl")}
    tokens.update(changes)
    return UseCase("", **tokens)


def _changes(options: argparse.Namespace) -> dict[str, float]:
    """What the flags change of the use case, in SI."""
    given = {WORDS[name].number: getattr(options, name) for name in (*_REQUESTS, "beams")}
    changes = {name: float(value) for name, value in given.items() if value is not None}
    for name in _OBJECTIVES:
        milliseconds = getattr(options, name)
        if milliseconds is None:
            continue
        if not 0 < milliseconds < math.inf:
            raise InputError(
                f"--{name}: {milliseconds:g} is not allowed; it must be finite and above 0 ms"
            )
        changes[name] = 1e-3 * milliseconds
    return changes
