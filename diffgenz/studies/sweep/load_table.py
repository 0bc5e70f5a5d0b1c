"""[load] of a space or study file: the load that its scenario is under, in the words of `serve`."""

from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.core.sections import Section, quantity, said_of
from diffgenz.scenario.mix import Question
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.lengths import Constant, Lognormal
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.objectives import OBJECTIVES, Objectives
from diffgenz.serving.under_load import UnderLoad

_LOAD = ("rate", "concurrency", "requests", "burstiness")
_ENGINE = ("max_num_seqs", "host", "router", "prefill_first")
_KEYS = (*_LOAD, "lockstep", "sigma", *_ENGINE, *OBJECTIVES, "of")


def loaded(top: Section, question: Question) -> Question:
    """The question, under a load where the file has a table [load].

    Arguments:
        top: the file.
        question: what it asks otherwise.

    Raises:
        InputError: a key that is not known, a value that does not go there, a load of a mix.
    """
    if "load" not in top.raw:
        return question
    section = top.section("load", _KEYS)
    if not isinstance(question, Scenario):
        raise InputError(
            f"{section.place}: a load is that of one scenario; leave out [[scenario.mix]], or it"
        )
    numbers: dict[str, Any] = {key: section.number(key) for key in _LOAD if key in section.raw}
    spread = section.number("sigma") if "sigma" in section.raw else 0.0
    limits = {key: quantity(section.at(key), section.raw[key], "s") for key in _in(section)}
    settings: dict[str, Any] = {"prefill_first": section.flag("prefill_first")}
    if "max_num_seqs" in section.raw:
        settings["max_num_seqs"] = float(section.whole("max_num_seqs"))
    if "host" in section.raw:
        settings["host_seconds"] = quantity(section.at("host"), section.raw["host"], "s")
    if "router" in section.raw:
        settings["router"] = section.text("router")
    with said_of(section.place):
        lengths = Lognormal(spread) if spread else Constant()
        load = Load(**numbers, lockstep=section.flag("lockstep"), prompts=lengths, outputs=lengths)
        return UnderLoad(
            question,
            load,
            Engine(**settings),
            Objectives(**limits) if limits else None,
            section.text("of") if "of" in section.raw else "mean",
        )


def _in(section: Section) -> list[str]:
    """The objectives that a table names."""
    return [key for key in OBJECTIVES if key in section.raw]
