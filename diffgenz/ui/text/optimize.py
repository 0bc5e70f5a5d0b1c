"""An optimum as text for people: what was found, what it costs, what else there is."""

from diffgenz.core.units import show
from diffgenz.inference.metrics import METRICS
from diffgenz.scenario.mix import parts_of
from diffgenz.studies.optimize.optimum import Exact, Optimum, PlanOptimum
from diffgenz.studies.optimize.prices import Price
from diffgenz.studies.optimize.study_file import Study
from diffgenz.ui.tables import number, table
from diffgenz.ui.text.robust import robust_text

_PLANS = 8
"""Plans of the table, at most."""
_HARDWARE = 6
"""Hardware numbers whose elasticity is shown."""
_UNITS = {
    "FLOP/s": ("TFLOP/s", 1e12),
    "B": ("GB", 1e9),
    "B/s": ("TB/s", 1e12),
    "s": ("ms", 1e-3),
    "W": ("W", 1.0),
    "USD/s": ("USD/h", 1 / 3600),
    "1/s": ("token/s", 1.0),
}
"""The units of limits for people, and how large each is in SI."""


def optimum_text(study: Study, found: Optimum) -> str:
    """The result of a study."""
    best = found.best
    assert best is not None
    lines = [_title(study), ""]
    goal = "most" if found.maximise else "least"
    where = "with smooth batches and maxima"
    what = found.objective if found.robustness is None else found.robustness.objective
    lines += [
        f"{goal} {what}: {_value(best.value, found)}, {best.label} ({where})",
        best.certificate,
        *_exact_lines(found, found.exact),
        *_robust_lines(study, found),
        "",
        _numbers(study, found, best),
        "",
        "What limits and bounds cost, one percent more of each:",
        _prices(best.prices, found) if best.prices else "none is active",
        *_checked(best.prices),
    ]
    if found.elasticities:
        lines += ["", _hardware(found)]
    lines += ["", _plans(found)]
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines)


def _title(study: Study) -> str:
    parts = parts_of(study.case)
    names = " + ".join(dict.fromkeys(part.model.name for part in parts))
    platform = parts[0].platform
    count = int(platform.accelerators)
    free = len(study.over)
    return f"{names} on {count} accelerators like {platform.accelerator.name}; {free} numbers free"


def _exact_lines(found: Optimum, exact: Exact | None) -> list[str]:
    if exact is None:
        return []
    return [
        f"exactly (whole requests, hard maxima): {_value(exact.value, found)}, {exact.label}; "
        f"whole requests make it {_change(exact.rounding)}, hard maxima {_change(exact.hardness)}"
    ]


def _robust_lines(study: Study, found: Optimum) -> list[str]:
    if found.robustness is None or study.uncertain is None:
        return []
    shown = robust_text(found.robustness, study.uncertain, lambda value: _value(value, found))
    return ["", shown]


def _change(percent: float) -> str:
    return f"{abs(percent):.2f} % {'worse' if percent >= 0 else 'better'}"


def _value(value: float, found: Optimum) -> str:
    if found.objective in METRICS:
        metric = METRICS[found.objective]
        return f"{number(value * metric.factor, 4)} {metric.label.rsplit(' ', 1)[-1]}"
    return _shown(value, found.unit, 4)


def _shown(value: float | None, unit: str, digits: int = 3) -> str:
    """A number for people, with its unit where it is known."""
    if value is None:
        return "-"
    if unit == "USD/s":
        return f"{number(value * 3600, digits)} USD/h"
    if unit in ("", "1", "USD", "1/s") or value == 0:
        return f"{number(value, digits)} {unit if unit in ('USD', '1/s') else ''}".rstrip()
    return show(value, unit, digits)


def _numbers(study: Study, found: Optimum, best: PlanOptimum) -> str:
    bounds = {price.name: price.bound for price in best.prices if price.bound}
    rows = []
    for name, value in best.numbers.items():
        unit = found.units[name]
        note = f"at its {bounds[name]} bound" if name in bounds else ""
        if name in best.uninfluential:
            note = "no influence"
        ends = [x if isinstance(x, str) else _shown(x, unit) for x in study.over[name]]
        exact = "-" if found.exact is None else _shown(found.exact.numbers[name], unit, 4)
        rows.append([name, _shown(value, unit, 4), exact, " to ".join(ends), note])
    return table(["number", "smooth", "exact", "bounds", ""], rows, "lrrll")


def _prices(prices: tuple[Price, ...], found: Optimum) -> str:
    rows = []
    for price in prices:
        limit = f"{price.name}, {price.bound} bound" if price.bound else price.name
        slope = f"{price.elasticity:+.3f} %"
        rows.append([limit, slope, _per_unit(price, found), _range(price), _at_ends(price)])
    heads = ["limit", "objective", "for each unit", "holds for", "and is at its ends"]
    return table(heads, rows, "lrlll")


def _at_ends(price: Price) -> str:
    """The elasticities at both ends of the range; "-" where there is no such end."""
    ends = (price.low_elasticity, price.high_elasticity)
    if ends == (None, None):
        return "-"
    said = ["-" if end is None else f"{end:+.3f} %" for end in ends]
    return f"{said[0]} to {said[1]}"


def _checked(prices: tuple[Price, ...]) -> list[str]:
    """What solving again said of the prices."""
    off = [
        abs(price.resolved / price.elasticity - 1) for price in prices if price.resolved is not None
    ]
    if not off:
        return []
    return [
        "solved again with each limit moved: optima differ as the prices say, to "
        f"{100 * max(off):.2g} %, and where a price holds the same limits stay active"
    ]


def _per_unit(price: Price, found: Optimum) -> str:
    """A price in the units of people: "-0.0716 USD/Mtok per s"."""
    if price.price is None:
        return "-"
    factor, of = 1.0, found.unit if found.unit != "1" else ""
    if found.objective in METRICS:
        metric = METRICS[found.objective]
        factor, of = metric.factor, metric.label.rsplit(" ", 1)[-1]
    unit, size = _UNITS.get(price.unit, ("", 1.0))
    each = f"{number(price.price * factor * size)} {of}".rstrip()
    return f"{each} per {unit}" if unit else each


def _range(price: Price) -> str:
    """Where a price holds: from and to, in the unit of the limit, or in percent."""
    ends = []
    for factor in (price.low, price.high):
        if factor in (0.0, float("inf")):
            ends.append("any")
        elif price.value is None:
            ends.append(f"{100 * (factor - 1):+.3g} %")
        else:
            ends.append(_shown(factor * price.value, price.unit))
    return f"{ends[0]} to {ends[1]}"


def _hardware(found: Optimum) -> str:
    order = sorted(found.elasticities.items(), key=lambda item: -abs(item[1]))[:_HARDWARE]
    said = ", ".join(f"{name} {slope:+.3f} %" for name, slope in order)
    return f"one percent more of what is not free: {said}"


def _plans(found: Optimum) -> str:
    """The best plans, and those that meet the limits least badly."""
    assert found.best is not None
    rows = []
    for each in found.plans[:_PLANS]:
        behind = 100 * abs(each.value / found.best.value - 1)
        state = "global" if each.certified else "local"
        rows.append(
            [
                each.label,
                number(each.value, 4),
                f"{behind:.1f}",
                f"{each.kkt:.0e}",
                f"{each.meeting} of {each.starts}",
                state,
            ]
        )
    text = table(["plan", "objective", "behind, %", "KKT", "starts", "optimum"], rows, "lrrrrl")
    more = len(found.plans) - _PLANS
    if more > 0:
        text += f"\nand {more} more plans"
    if found.infeasible:
        text += f"\n{len(found.infeasible)} plans meet the limits nowhere in the bounds"
    return text
