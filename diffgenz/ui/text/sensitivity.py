"""Elasticities as text for people: tornados of the numbers of hardware and routing that matter."""

from diffgenz.core.leaves import leaf_at, leaf_names, number_at
from diffgenz.core.units import show
from diffgenz.hardware.platform import Platform
from diffgenz.inference.metrics import Metric
from diffgenz.operators.routing import Routing
from diffgenz.scenario.scenario import Scenario
from diffgenz.ui.tables import table

ROUTING = "routing."
"""What names of the numbers of a routing begin with."""

_LEAST = 1e-4
_LEAST_OF_KERNELS = 1e-2
"""Elasticities that are shown, at least: of fitted parameters only those that matter."""


def is_hardware(name: str) -> bool:
    """Whether a number of a platform is the hardware's, not a fit's or an efficiency."""
    return ".kernels." not in name and not name.endswith("efficiency")


def elasticities_tables(
    elasticities: dict[str, float], more: dict[str, float], metric: Metric, case: Scenario
) -> str:
    """What a metric depends on most: the hardware's numbers, and those of a routing below.

    Arguments:
        elasticities: by the name of the number, as `inference.elasticities` has them.
        more: by how much the metric changes with 10 % more of each, in SI.
        metric: the metric.
        case: what they are now.
    """
    told = {name: e for name, e in elasticities.items() if name.startswith(ROUTING)}
    hardware = {name: e for name, e in elasticities.items() if name not in told}
    found = [elasticities_table(hardware, more, metric, case.platform)]
    if told:
        own, its = (
            {name.removeprefix(ROUTING): value for name, value in each.items() if name in told}
            for each in (told, more)
        )
        found.append(elasticities_table(own, its, metric, case.routing, "routing number"))
    return "\n\n".join(found)


def elasticities_table(
    elasticities: dict[str, float],
    more: dict[str, float],
    metric: Metric,
    record: Platform | Routing,
    what: str = "hardware number",
) -> str:
    """The numbers of a record that a metric depends on most, what they are now, a bar for each.

    Arguments:
        elasticities: by the name of the number in `record`.
        more: by how much the metric changes with 10 % more of each, in SI.
        metric: the metric.
        record: what they are now.
        what: what they are called.
    """
    matter = {name: e for name, e in elasticities.items() if abs(e) >= _least(name)}
    ordered = sorted(matter.items(), key=lambda item: -round(abs(item[1]), 6))  # ties: as in files
    largest = max((abs(e) for e in matter.values()), default=1.0)
    now = _values(record)
    rows = [
        (
            _label(name, record),
            now[name],
            f"{e:+.4f} %",
            f"{metric.factor * more[name]:+.3g}",
        )
        for name, e in ordered
    ]
    header = (what, "now", "1 %", f"10 %, {metric.label}")
    return table(header, rows, "l", bars=[(abs(e) / largest, "") for _, e in ordered])


def _least(name: str) -> float:
    return _LEAST_OF_KERNELS if ".kernels." in name else _LEAST


def _label(name: str, record: Platform | Routing) -> str:
    """What people call a number: "NVLink 4 latency" for "network[0].latency"."""
    if isinstance(record, Platform) and name.startswith("network["):
        level = record.network[int(name[len("network[") : name.index("]")])]
        return f"{level.name} {name.split('.')[1]}"
    return name.removeprefix("accelerator.")


def _values(record: Platform | Routing) -> dict[str, str]:
    """Every number of a record with its unit, by its name."""
    values = {}
    for name, path in leaf_names(record).items():
        about, value = number_at(record, path), float(leaf_at(record, path))
        unit = "1" if about is None else about.unit
        if unit == "USD/s":
            values[name] = f"{value * 3600:.3g} USD/h"
        else:
            values[name] = f"{value:g}" if unit == "1" else show(value, unit)
    return values
