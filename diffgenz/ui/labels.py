"""How numbers are shown: what heads their column, and the factor from SI to the unit of people.

Metrics say both themselves (`inference.metrics`); for numbers of a scenario they follow from the
unit that the field states.
"""

from collections.abc import Container

from diffgenz.core.errors import InputError
from diffgenz.core.leaves import leaf_at, number_at
from diffgenz.hardware.network import Level
from diffgenz.inference.metrics import METRICS
from diffgenz.scenario.mix import Question, paths_named
from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.studies.sweep.findings import Findings

SCALARS = tuple(name for name in METRICS if not name.startswith("memory."))
"""The metrics that are no part of the memory."""

_UNITS: dict[str, tuple[str, float]] = {
    "FLOP/s": ("TFLOP/s", 1e-12),
    "B": ("GB", 1e-9),
    "B/s": ("TB/s", 1e-12),
    "s": ("us", 1e6),
    "W": ("W", 1.0),
    "USD/s": ("USD/h", 3600.0),
}
"""What people call the units of hardware, and the factors to them."""

_LINK = ("GB/s", 1e-9)
"""The same of links, which are slower than memory."""


def shown(name: str, question: Question, plain: Container[str] = ()) -> tuple[str, float]:
    """The label and the factor of a column of a sweep.

    Arguments:
        name: of a metric, or of a number of the scenario; anything else is shown as it is.
        question: the scenario or mix that the number is in.
        plain: names of quantities, which are shown as they are even where a number is called so.
    """
    if name in plain:
        return name, 1.0
    metric, bracket, part = name.partition("[")  # "tpot[1]" is that of one part of a mix
    if metric in EVERY_METRIC:
        about = EVERY_METRIC[metric]
        label = ", ".join(about.label.rsplit(" ", 1))
        return f"{label} [{part}" if bracket else label, about.factor
    try:
        path = paths_named(question, name)[0]
    except InputError:
        return name, 1.0
    number = number_at(question, path)
    if number is None or number.unit not in _UNITS:
        return name, 1.0
    is_link = number.unit == "B/s" and isinstance(leaf_at(question, path[:-1]), Level)
    unit, factor = _LINK if is_link else _UNITS[number.unit]
    return f"{name}, {unit}", factor


def shown_in(findings: Findings, name: str) -> tuple[str, float]:
    """The label and the factor of a column of what a sweep found."""
    return shown(name, findings.space.scenario, findings.space.quantities)
