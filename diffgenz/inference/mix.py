"""The metrics of a scenario, or of a mix of several that take turns on one platform."""

from collections.abc import Sequence

from diffgenz.core import xp
from diffgenz.core.checks import all_hold
from diffgenz.core.record import conditions_within
from diffgenz.core.smooth import Flag, Scalar
from diffgenz.inference.estimate import Estimate, estimate
from diffgenz.inference.metrics import METRICS, metrics_of
from diffgenz.scenario.mix import Mix, Question, parts_of


def is_legal(question: Question) -> Flag:
    """Whether all conditions of a scenario with traced numbers hold.

    They say that its plan has the accelerators, heads, layers and experts that it needs, and so on.
    """
    return all_hold(conditions_within(question))


def metrics_with_flags(question: Question) -> dict[str, Scalar]:
    """Every metric by name (`METRICS`), whether it `fits` in memory, and whether it is `legal`.

    The parts of a mix take turns, and each metric says how they combine (`Metric.mix`). The metrics
    of part i are there too, as "tpot[i]".
    """
    estimates = [estimate(part) for part in parts_of(question)]
    fits = xp.asarray(True)
    for result in estimates:
        fits = fits & result.memory.fits
    return mixed_metrics(question, estimates) | {"fits": fits, "legal": is_legal(question)}


def mixed_metrics(question: Question, estimates: Sequence[Estimate]) -> dict[str, Scalar]:
    """Every metric by name, of the parts too.

    Arguments:
        question: the scenario or mix.
        estimates: of its parts.
    """
    each = [metrics_of(result) for result in estimates]
    if not isinstance(question, Mix):
        return each[0]
    total = sum(question.shares, start=xp.zeros(()))
    weights = [share / total for share in question.shares]
    common = [name for name in METRICS if all(name in part for part in each)]
    mixed = {name: METRICS[name].mix([part[name] for part in each], weights) for name in common}
    for index, part in enumerate(each):
        mixed |= {f"{name}[{index}]": value for name, value in part.items()}
    return mixed
