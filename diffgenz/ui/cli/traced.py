"""Flags of a trace and a placement, and the scenario in which tokens go where these say."""

import argparse
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any


def add_placement(parser: argparse.ArgumentParser) -> None:
    """`--placement`, of commands whose `--routing` may be a trace."""
    parser.add_argument(
        "--placement",
        metavar="FILE",
        help="where experts are, as `diffgenz routing place` writes it; needs a trace as --routing "
        "(default: experts in order)",
    )


def asked_of(words: Mapping[str, Any], settings: Sequence[str], placement: str | None) -> Any:
    """The question that words ask (`from_words`), its routing that of a trace where they name one.

    Arguments:
        words: values by word.
        settings: numbers of the system to change.
        placement: the path of a placement; None: experts are in order.

    Raises:
        InputError: as of `from_words`, `read_trace` and `routed`, or a placement without a trace.
    """
    from diffgenz.core.errors import InputError
    from diffgenz.routing.asked import names_trace
    from diffgenz.routing.placement_files import load_placement
    from diffgenz.routing.routed import routed
    from diffgenz.scenario.from_words import from_words

    named = words.get("routing")
    if named is None or not names_trace(named):
        if placement is not None:
            raise InputError(
                f"--placement: {placement} says nothing without a trace; give one, or a preset, as "
                "--routing"
            )
        return from_words(words, settings=settings)
    if words.get("imbalance") is not None:
        raise InputError(
            f"--imbalance: {words['imbalance']:g} contradicts --routing {named}; leave one out"
        )
    asked = from_words(dict(words) | {"routing": None}, settings=settings)
    where = None if placement is None else load_placement(placement)
    note = Path(named).name + ("" if placement is None else f", {Path(placement).name}")
    return asked._replace(scenario=routed(asked.scenario, _trace(named), where, note=note))


@cache
def _trace(name: str) -> Any:
    """The trace of that name, read once for all systems of a command."""
    from diffgenz.routing.asked import read_trace

    return read_trace(name)
