"""The metrics of a scenario, or of a mix of several that take turns on one platform."""

from collections.abc import Mapping, Sequence

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
    found = together(question, each)
    for index, part in enumerate(each):
        found |= {f"{name}[{index}]": value for name, value in part.items()}
    return found


def together(mix: Mix, each: Sequence[Mapping[str, Scalar]]) -> dict[str, Scalar]:
    """The metrics of a mix that all parts have, by name.

    Arguments:
        mix: the mix.
        each: the metrics of each part.
    """
    total = sum(mix.shares, start=xp.zeros(()))
    weights = [share / total for share in mix.shares]
    common = [name for name in METRICS if all(name in part for part in each)]
    return {name: METRICS[name].mix([part[name] for part in each], weights) for name in common}
