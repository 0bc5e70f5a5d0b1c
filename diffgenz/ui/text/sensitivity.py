"""Elasticities as text for people: a tornado of the hardware numbers that matter."""

from diffgenz.core.leaves import leaf_at, leaf_names, number_at
from diffgenz.core.units import show
from diffgenz.hardware.platform import Platform
from diffgenz.inference.metrics import Metric
from diffgenz.ui.tables import table

_LEAST = 1e-4
_LEAST_OF_KERNELS = 1e-2
"""Elasticities that are shown, at least: of fitted parameters only those that matter."""


def is_hardware(name: str) -> bool:
    """Whether a number of a platform is the hardware's, not a fit's or an efficiency."""
    return ".kernels." not in name and not name.endswith("efficiency")


def elasticities_table(
    elasticities: dict[str, float], more: dict[str, float], metric: Metric, platform: Platform
) -> str:
    """The hardware numbers that a metric depends on most, what they are now, and a bar for each.

    Arguments:
        elasticities: by the name of the number in `platform`.
        more: by how much the metric changes with 10 % more of each, in SI.
        metric: the metric.
        platform: what it is now.
    """
    matter = {name: e for name, e in elasticities.items() if abs(e) >= _least(name)}
    ordered = sorted(matter.items(), key=lambda item: -round(abs(item[1]), 6))  # ties: as in files
    largest = max((abs(e) for e in matter.values()), default=1.0)
    now = _values(platform)
    rows = [
        (
            _label(name, platform),
            now[name],
            f"{e:+.4f} %",
            f"{metric.factor * more[name]:+.3g}",
        )
        for name, e in ordered
    ]
    header = ("hardware number", "now", "1 %", f"10 %, {metric.label}")
    return table(header, rows, "l", bars=[(abs(e) / largest, "") for _, e in ordered])


def _least(name: str) -> float:
    return _LEAST_OF_KERNELS if ".kernels." in name else _LEAST


def _label(name: str, platform: Platform) -> str:
    """What people call a hardware number: "NVLink 4 latency" for "network[0].latency"."""
    if name.startswith("network["):
        level = platform.network[int(name[len("network[") : name.index("]")])]
        return f"{level.name} {name.split('.')[1]}"
    return name.removeprefix("accelerator.")


def _values(platform: Platform) -> dict[str, str]:
    """Every number of a platform with its unit, by its name."""
    values = {}
    for name, path in leaf_names(platform).items():
        about, value = number_at(platform, path), float(leaf_at(platform, path))
        unit = "1" if about is None else about.unit
        if unit == "USD/s":
            values[name] = f"{value * 3600:.3g} USD/h"
        else:
            values[name] = f"{value:g}" if unit == "1" else show(value, unit)
    return values
