"""Every metric of an estimate: its name and unit, how people see it, and how mixes combine it.

Tables, searches, sweeps, elasticities and plots read these rows. A new metric is a field of
`Estimate` and a row here.
"""

import dataclasses
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import jax.numpy as jnp

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.smooth import Leaf, Scalar

Combining = Callable[[Sequence[Scalar], Sequence[Scalar]], Scalar]
"""The value of a mix, from the values of its parts and their shares of the output tokens."""


def largest(values: Sequence[Scalar], weights: Sequence[Scalar]) -> Scalar:
    """The largest value of the parts: of times and memory the worst counts."""
    total = values[0]
    for value in values[1:]:
        total = jnp.maximum(total, value)
    return total


def smallest(values: Sequence[Scalar], weights: Sequence[Scalar]) -> Scalar:
    """The smallest value of the parts: of speeds for a user the worst counts."""
    total = values[0]
    for value in values[1:]:
        total = jnp.minimum(total, value)
    return total


def harmonic_mean(values: Sequence[Scalar], weights: Sequence[Scalar]) -> Scalar:
    """The weighted harmonic mean: the throughput of parts that take turns."""
    turns = (weight / value for weight, value in zip(weights, values, strict=True))
    return 1 / sum(turns, start=values[0] * 0)


def mean(values: Sequence[Scalar], weights: Sequence[Scalar]) -> Scalar:
    """The weighted mean: the energy or cost of a token, averaged over all tokens."""
    parts = (weight * value for weight, value in zip(weights, values, strict=True))
    return sum(parts, start=values[0] * 0)


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number of an estimate.

    Arguments:
        name: the field of `Estimate`, with a dot where it is in a record inside it.
        unit: the SI unit.
        label: the head of its column in tables, with the unit that people use.
        factor: from the SI unit to that unit.
        mix: how the values of the parts of a mix combine.
        larger_is_better: whether people want more of it.
        needs: what a scenario lacks where the value is None, and the remedy.
    """

    name: str
    unit: str
    label: str
    factor: float
    mix: Combining
    larger_is_better: bool = False
    needs: str = ""


_CHUNKS = "chunked prefill; set Serving.chunk (--chunk), or ask for tpot"
_PRICE = (
    "a price, which the accelerator does not state; add [price] to its file, or set "
    "Accelerator.price"
)

METRICS = {
    metric.name: metric
    for metric in (
        Metric("ttft", "s", "TTFT ms", 1e3, largest),
        Metric("tpot", "s", "TPOT ms", 1e3, largest),
        Metric("mixed_tpot", "s", "mixed ms", 1e3, largest, needs=_CHUNKS),
        Metric("end_to_end", "s", "E2E s", 1.0, largest),
        Metric("throughput", "1/s", "tok/s", 1.0, harmonic_mean, True),
        Metric("tokens_per_second_per_user", "1/s", "tok/s/user", 1.0, smallest, True),
        Metric("tokens_per_second_per_accelerator", "1/s", "tok/s/GPU", 1.0, harmonic_mean, True),
        Metric("memory.weights", "B", "weights GB", 1e-9, largest),
        Metric("memory.kv_cache", "B", "KV cache GB", 1e-9, largest),
        Metric("memory.activations", "B", "activations GB", 1e-9, largest),
        Metric("memory.total", "B", "memory GB", 1e-9, largest),
        Metric("energy_per_output_token", "J", "J/token", 1.0, mean),
        Metric("cost_per_million_output_tokens", "USD", "USD/Mtok", 1.0, mean, needs=_PRICE),
    )
}
"""The metrics by name, in the order of tables."""


def metric_named(result: Any, name: str) -> Scalar:
    """The metric called `name` of an estimate.

    Arguments:
        result: an `Estimate`, or a record with the same fields.
        name: "tpot", "memory.total" or another key of `METRICS`.

    Raises:
        InputError: no metric is called that, or the scenario lacks what it needs.
    """
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    value = attrgetter(name)(result)
    if value is None:
        raise InputError(f"metric: {name} needs {METRICS[name].needs}")
    return value


def metrics_of(result: Any) -> dict[str, Leaf]:
    """All metrics that an estimate has, by name; those that are None are left out."""
    values = {name: attrgetter(name)(result) for name in METRICS}
    return {name: value for name, value in values.items() if value is not None}
