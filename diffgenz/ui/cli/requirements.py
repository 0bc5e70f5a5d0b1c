"""`diffgenz requirements`: what a platform must have to meet a use case's objectives."""

import argparse
import math
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.ui.cli.cache import cache_compilations
from diffgenz.ui.cli.flags import LAYOUT, add_words, words_in
from diffgenz.ui.cli.progress import working

_SYSTEM = {
    "required": False,
    "help": "what the numbers not sought are: an accelerator or a TOML file (default: unlimited)",
}
_OBJECTIVES = {"ttft": "the time to the first token", "tpot": "the time between tokens"}


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--use-case", required=True, help="see `diffgenz list use-cases`")
    batch = {"default": None, "help": "requests in flight (default: the use case's)"}
    add_words(parser, ("batch",), {"batch": batch})
    for name, what in _OBJECTIVES.items():
        parser.add_argument(
            f"--{name}",
            type=float,
            help=f"objective for {what}, ms (default: the use case's)",
        )
    add_words(parser, (*LAYOUT, "fit"), {"system": _SYSTEM})


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """What each accelerator needs for the use case: text and JSON."""
    from diffgenz.inference.timed_by import timed_by
    from diffgenz.scenario.from_words import from_words
    from diffgenz.scenario.use_cases import load_use_case
    from diffgenz.studies.requirements import ideal_platform, requirements
    from diffgenz.ui.text.requirements import Required, requirements_json, requirements_text

    cache_compilations()
    working("compiling, then solving for each number")
    use_case = load_use_case(options.use_case).replace(**_changes(options))
    words = words_in(options, (*LAYOUT, "fit")) | {"beams": None}
    asked = from_words(words, without_system=ideal_platform)
    case = asked.scenario
    case = case.replace(workload=use_case.workload, serving=use_case.served(case.serving))
    result = requirements(case, ttft=use_case.ttft, tpot=use_case.tpot)
    required = Required(use_case, asked, result, timed_by(case))
    return requirements_text(required), requirements_json(required)


def _changes(options: argparse.Namespace) -> dict[str, float]:
    """What the flags change of the use case, in SI."""
    given = {name: getattr(options, name) for name in ("batch", "beams")}
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
