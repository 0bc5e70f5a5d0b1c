"""How a robust design and the one that is best at medians do at fresh draws, as text."""

from collections.abc import Callable

from diffgenz.studies.optimize.draws import Uncertainty
from diffgenz.studies.optimize.outcomes import Met, Outcome, Robustness
from diffgenz.ui.tables import number, table


def robust_text(found: Robustness, uncertain: Uncertainty, value: Callable[[float], str]) -> str:
    """A table of both designs, and what robustness costs.

    Arguments:
        found: both at fresh draws.
        uncertain: what was drawn.
        value: shows an objective.
    """
    what = [*uncertain.numbers]
    what += ["calibration"] if uncertain.calibration else []
    what += ["technology"] if uncertain.technology else []
    designs = [found.robust, *([] if found.nominal is None else [found.nominal])]
    rows = [[found.objective, "", *(value(each.value) for each in designs)]]
    for said, name in (("10 %", "low"), ("50 %", "middle"), ("90 %", "high")):
        rows.append([f"{said} of draws below", "", *(value(getattr(d, name)) for d in designs)])
    for place, limit in enumerate(found.robust.limits):
        shares = [_met(each.limits[place]) for each in designs]
        rows.append([limit.limit, _asked(limit, found), *shares])
    rows.append(["all limits at once", "", *(_share(each.all_met) for each in designs)])
    heads = ["", "asked", "robust", "best at medians"][: 2 + len(designs)]
    lines = [
        f"With {found.draws} draws of {', '.join(what)}; judged at {found.fresh:,} others:",
        table(heads, rows, "l" + "r" * (len(heads) - 1)),
    ]
    if any("% of draws" in limit.limit for limit in found.robust.limits):
        lines.append(
            "a share of draws is made sure of by the mean of the worst ones (CVaR), which is "
            "stricter than asked"
        )
    lines.append(_price(found))
    return "\n".join(lines)


def _share(share: float) -> str:
    return f"{number(100 * share)} %"


def _met(limit: Met) -> str:
    if limit.asked is None:
        return "met" if limit.held else "missed"
    return _share(limit.share)


def _asked(limit: Met, found: Robustness) -> str:
    if limit.asked is None:
        return "-"
    return f"all {found.draws}" if limit.asked == 1 else f"{100 * limit.asked:g} %"


def _price(found: Robustness) -> str:
    """What robustness costs, and what the other design would miss."""
    other: Outcome | None = found.nominal
    if other is None or found.premium is None:
        return "at medians no plan meets the limits"
    worse = "worse" if found.premium >= 0 else "better"
    return (
        f"robust is {abs(found.premium):.1f} % {worse} than best at medians ({other.plan}), which "
        f"meets all limits in {_share(other.all_met)} of draws"
    )
