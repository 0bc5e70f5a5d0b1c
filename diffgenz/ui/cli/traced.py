"""Flags of a trace and a placement, and the scenario in which tokens go where these say."""

import argparse
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_PLACEMENT = (
    "where experts are, as `diffgenz routing place` writes it; needs a trace as --routing "
    "(default: experts in order)"
)


def add_placement(parser: argparse.ArgumentParser, what: str = _PLACEMENT) -> None:
    """`--placement`, of commands whose `--routing` may be a trace.

    Arguments:
        parser: of the command.
        what: what it says, for the help text.
    """
    parser.add_argument("--placement", metavar="FILE", help=what)


def asked_of(words: Mapping[str, Any], settings: Sequence[str], placement: str | None) -> Any:
    """The question that words ask (`from_words`), its routing that of a trace where they name one.

    Arguments:
        words: values by word.
        settings: numbers of the system to change.
        placement: the path of a placement; None: experts are in order.

    Raises:
        InputError: as of `from_words`, `said_by` and `routed`.
    """
    from diffgenz.routing.routed import routed
    from diffgenz.scenario.from_words import from_words

    said = said_by(words, placement)
    if said is None:
        return from_words(words, settings=settings)
    asked = from_words(dict(words) | {"routing": None}, settings=settings)
    return asked._replace(
        scenario=routed(asked.scenario, said.trace, said.placement, note=said.note)
    )


class Said(NamedTuple):
    """A trace that a command names.

    Arguments:
        trace: which experts tokens chose.
        placement: where the experts are; None: in order.
        note: where both are from, for people.
    """

    trace: Any
    placement: Any
    note: str


def said_by(words: Mapping[str, Any], placement: str | None) -> Said | None:
    """The trace that words name as their routing; None where they name none.

    Arguments:
        words: values by word.
        placement: the path of a placement; None: experts are in order.

    Raises:
        InputError: as of `read_trace` and `load_placement`, or a placement without a trace.
    """
    from diffgenz.core.errors import InputError
    from diffgenz.routing.asked import names_trace
    from diffgenz.routing.placement_files import load_placement

    named = words.get("routing")
    if named is None or not names_trace(named):
        if placement is not None:
            raise InputError(
                f"--placement: {placement} says nothing without a trace; give one, or a preset, as "
                "--routing"
            )
        return None
    if words.get("imbalance") is not None:
        raise InputError(
            f"--imbalance: {words['imbalance']:g} contradicts --routing {named}; leave one out"
        )
    where = None if placement is None else load_placement(placement)
    note = Path(named).name + ("" if placement is None else f", {Path(placement).name}")
    return Said(_trace(named), where, note)


@cache
def _trace(name: str) -> Any:
    """The trace of that name, read once for all systems of a command."""
    from diffgenz.routing.asked import read_trace

    return read_trace(name)
