"""The metrics of a scenario, or of a mix of several that take turns on one platform."""

from diffgenz.core import xp
from diffgenz.core.checks import all_hold
from diffgenz.core.record import conditions_within
from diffgenz.core.smooth import Flag, Scalar
from diffgenz.inference.estimate import estimate
from diffgenz.inference.metrics import METRICS, metrics_of
from diffgenz.scenario.mix import Mix, parts_of
from diffgenz.scenario.scenario import Scenario


def is_legal(question: Scenario | Mix) -> Flag:
    """Whether all conditions of a scenario with traced numbers hold.

    They say that its plan has the accelerators, heads, layers and experts that it needs, and so on.
    """
    return all_hold(conditions_within(question))


def metrics_with_flags(question: Scenario | Mix) -> dict[str, Scalar]:
    """Every metric by name (`METRICS`), whether it `fits` in memory, and whether it is `legal`.

    The parts of a mix take turns, and each metric says how they combine (`Metric.mix`). The metrics
    of part i are there too, as "tpot[i]".
    """
    estimates = [estimate(part) for part in parts_of(question)]
    each = [metrics_of(result) for result in estimates]
    fits = xp.asarray(True)
    for result in estimates:
        fits = fits & result.memory.fits
    flags = {"fits": fits, "legal": is_legal(question)}
    if not isinstance(question, Mix):
        return each[0] | flags
    total = sum(question.shares, start=xp.zeros(()))
    weights = [share / total for share in question.shares]
    common = [name for name in METRICS if all(name in part for part in each)]
    mixed = {name: METRICS[name].mix([part[name] for part in each], weights) for name in common}
    for index, part in enumerate(each):
        mixed |= {f"{name}[{index}]": value for name, value in part.items()}
    return mixed | flags
