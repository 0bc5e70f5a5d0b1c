"""Every metric of an estimate, once: its name, its unit, how people see it, how mixes combine it.

Tables, searches, sweeps, elasticities and plots read these rows. A new metric is a field of
`Estimate`, and a row here.
"""

import dataclasses
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from diffgenz.core import xp
from diffgenz.core.errors import InputError, unknown
from diffgenz.core.smooth import Leaf, Scalar

Combining = Callable[[Sequence[Scalar], Sequence[Scalar]], Scalar]
"""From the values of the parts of a mix, and their shares of the output tokens, to that of all."""


def largest(values: Sequence[Scalar], weights: Sequence[Scalar]) -> Scalar:
    """The largest of the parts: of times and memory the worst counts."""
    total = values[0]
    for value in values[1:]:
        total = xp.maximum(total, value)
    return total


def smallest(values: Sequence[Scalar], weights: Sequence[Scalar]) -> Scalar:
    """The smallest of the parts: of speeds for a user the worst counts."""
    total = values[0]
    for value in values[1:]:
        total = xp.minimum(total, value)
    return total


def harmonic_mean(values: Sequence[Scalar], weights: Sequence[Scalar]) -> Scalar:
    """The weighted harmonic mean: of throughputs of parts that take turns."""
    turns = (weight / value for weight, value in zip(weights, values, strict=True))
    return 1 / sum(turns, start=values[0] * 0)


def mean(values: Sequence[Scalar], weights: Sequence[Scalar]) -> Scalar:
    """The weighted mean: of what each token takes."""
    parts = (weight * value for weight, value in zip(weights, values, strict=True))
    return sum(parts, start=values[0] * 0)


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number of an estimate.

    Arguments:
        name: the field of `Estimate`, with a dot where it is in a record of it.
        unit: SI.
        label: what heads its column for people, with their unit.
        factor: from SI to that unit.
        mix: how the parts of a mix combine.
        more: whether more of it is better.
        needs: what a scenario lacks where its value is None, and the remedy.
    """

    name: str
    unit: str
    label: str
    factor: float
    mix: Combining
    more: bool = False
    needs: str = ""


_MIXED = "mixed iterations; set Serving(mixed=True) (--mixed), or ask for tpot"
_PRICE = (
    "a price, which the accelerator does not state; add [price] to its file, or set "
    "Accelerator.price"
)

METRICS = {
    metric.name: metric
    for metric in (
        Metric("ttft", "s", "TTFT ms", 1e3, largest),
        Metric("tpot", "s", "TPOT ms", 1e3, largest),
        Metric("mixed_tpot", "s", "mixed ms", 1e3, largest, needs=_MIXED),
        Metric("end_to_end", "s", "E2E s", 1.0, largest),
        Metric("throughput", "1/s", "tok/s", 1.0, harmonic_mean, more=True),
        Metric("tokens_per_second_per_user", "1/s", "tok/s/user", 1.0, smallest, more=True),
        Metric(
            "tokens_per_second_per_accelerator",
            "1/s",
            "tok/s/GPU",
            1.0,
            harmonic_mean,
            more=True,
        ),
        Metric("memory.weights", "B", "weights GB", 1e-9, largest),
        Metric("memory.kv_cache", "B", "KV cache GB", 1e-9, largest),
        Metric("memory.activations", "B", "activations GB", 1e-9, largest),
        Metric("memory.total", "B", "memory GB", 1e-9, largest),
        Metric("energy_per_output_token", "J", "J/token", 1.0, mean),
        Metric("power", "W", "W/GPU", 1.0, largest),
        Metric("cost_per_million_output_tokens", "USD", "USD/Mtok", 1.0, mean, needs=_PRICE),
    )
}
"""The metrics by name, in the order of tables."""


def metric_named(result: Any, name: str) -> Scalar:
    """The number called `name` ("tpot", "memory.total", ...) of an estimate.

    Raises:
        InputError: there is none, or the scenario lacks what it needs.
    """
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    value = attrgetter(name)(result)
    if value is None:
        raise InputError(f"metric: {name} needs {METRICS[name].needs}")
    return value


def metrics_of(result: Any) -> dict[str, Leaf]:
    """All metrics that an estimate has, by name."""
    values = {name: attrgetter(name)(result) for name in METRICS}
    return {name: value for name, value in values.items() if value is not None}
