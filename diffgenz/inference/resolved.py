"""What compiled functions take: a scenario whose formats have selected their peaks and kernels."""

from typing import Any

from diffgenz.core.leaves import with_parts
from diffgenz.core.record import unnamed
from diffgenz.core.tree import Tree
from diffgenz.hardware.platform import Platform
from diffgenz.inference.timing.execution import Execution
from diffgenz.scenario.scenario import Scenario, demand_scenario
from diffgenz.scenario.serving_options import Draft


class Resolved(Tree):
    """A scenario without labels and names of formats, and what these names select.

    Models of one family, accelerators of one kind and precisions with kernels of the same forms
    have the same structure, and so they share compiled programs.

    Arguments:
        case: the scenario. Its accelerators have neither peaks nor kernels, and its precisions no
            names.
        execution: how its accelerator executes its precision.
        draft: how a draft model's accelerator executes the draft's precision; None where there is
            no draft model.
    """

    case: Scenario
    execution: Execution
    draft: Execution | None


def resolved(case: Scenario) -> Resolved:
    """The scenario as compiled functions take it.

    Raises:
        InputError: it is no scenario, or an accelerator does not multiply one of the formats.
    """
    demand_scenario(case)
    model = case.model
    execution = Execution.of(case.platform.accelerator, case.precision, bool(model.experts))
    draft, drafting = case.serving.draft, None
    parts: dict[str, Any] = {
        "platform": _without_selection(case.platform),
        "precision": case.precision.nameless,
    }
    if isinstance(draft, Draft):
        own = case.platform if draft.platform is None else draft.platform
        experts = bool(draft.model.experts)
        drafting = Execution.of(own.accelerator, draft.precision, experts)
        parts["serving.speculation.draft.precision"] = draft.precision.nameless
        if draft.platform is not None:
            parts["serving.speculation.draft.platform"] = _without_selection(draft.platform)
    if case.smooth_batch:
        execution = execution.smooth
        drafting = None if drafting is None else drafting.smooth
    return Resolved(unnamed(with_parts(case, parts)), execution, drafting)


def _without_selection(platform: Platform) -> Platform:
    """The platform without what selected numbers: architecture, and peaks and kernels by format."""
    selecting = {"peak_flops": {}, "kernels": None, "architecture": ""}
    return with_parts(platform, {f"accelerator.{name}": part for name, part in selecting.items()})
