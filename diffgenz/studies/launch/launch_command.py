"""`launch_command`: a scenario as the launch command of a serving engine.

What an engine would refuse is refused here, by the rules of `scenario.engines`.
"""

from collections.abc import Callable

from diffgenz.core.errors import InputError, unknown
from diffgenz.scenario.engines.engine import SGLANG, TITLES, VLLM, Ranks
from diffgenz.scenario.engines.refusals import beyond_positions, refusals
from diffgenz.scenario.scenario import Scenario, demand_scenario
from diffgenz.studies.launch.command import Command
from diffgenz.studies.launch.nodes import node_size
from diffgenz.studies.launch.served import Served, served
from diffgenz.studies.launch.sglang import sglang
from diffgenz.studies.launch.vllm import vllm

ENGINES: dict[str, Callable[[Ranks, Served, bool, int], Command]] = {VLLM: vllm, SGLANG: sglang}
"""Serving engines that `launch_command` speaks, by name.

A new one is a row here, its flags, and its rules (`scenario.engines`).
"""


def launch_command(engine: str, case: Scenario) -> str:
    """The shell command that starts a scenario, after lines of comments.

    Where the ranks are on several nodes, it is one command for the first node and one for each
    other, in which $HEAD_ADDRESS and $NODE_RANK stand for what differs.

    Arguments:
        engine: one of `ENGINES`.
        case: the scenario, such as that of a `Deployment`.

    Raises:
        InputError: an engine that is not known, or a plan, formats, lengths or memory that it
            cannot run.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    demand_scenario(case)
    reasons = refusals(case, engine)
    long = beyond_positions(case)
    reasons += [] if long is None else [long]
    if reasons:
        raise InputError(f"{TITLES[engine]} refuses {'; '.join(reasons)}")
    told = served(case, TITLES[engine])
    experts = bool(case.model.experts)
    command = ENGINES[engine](Ranks.of(case.plan), told, experts, node_size(case.platform))
    return command.text
