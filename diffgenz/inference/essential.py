"""A scenario without what no estimate depends on, where the names of its numbers still count."""

from diffgenz.core.leaves import with_parts
from diffgenz.core.record import unnamed
from diffgenz.hardware.platform import Platform
from diffgenz.inference.padded_experts import expert_tiles
from diffgenz.inference.timing.execution import kernels_in_use
from diffgenz.operators.precision import Precision
from diffgenz.scenario.scenario import Scenario, demand_scenario
from diffgenz.scenario.serving_options import Draft


def essential(case: Scenario) -> Scenario:
    """The scenario without what no estimate depends on, for derivatives to be taken of.

    Labels are left out, and so are the peaks and fitted kernels of formats that are not in use, and
    the architecture where no format asks for it. All other numbers keep their names, which
    `resolved` gives up.
    """
    demand_scenario(case)
    draft = case.serving.draft
    own = () if not isinstance(draft, Draft) or draft.platform is not None else (draft.precision,)
    case = with_parts(case, {"platform": _in_use(case.platform, (case.precision, *own))})
    if isinstance(draft, Draft) and draft.platform is not None:
        platform = _in_use(draft.platform, (draft.precision,))
        case = with_parts(case, {"serving.speculation.draft.platform": platform})
    return unnamed(case)


def _in_use(platform: Platform, precisions: tuple[Precision, ...]) -> Platform:
    accelerator = platform.accelerator
    names = {name for precision in precisions for name in precision.peaks}
    peaks = {name: peak for name, peak in accelerator.peak_flops.items() if name in names}
    library = accelerator.kernels
    if library is not None:
        library = kernels_in_use(library, precisions)
    changes = {"accelerator.peak_flops": peaks, "accelerator.kernels": library}
    if not any(expert_tiles(accelerator, precision) for precision in precisions):
        changes["accelerator.architecture"] = ""
    return with_parts(platform, changes)
