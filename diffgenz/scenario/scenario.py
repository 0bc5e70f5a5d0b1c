"""What a sweep varies: a platform and what is served on it, with the metrics of both together."""

from operator import attrgetter
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from diffgenz.core.checks import check, noting
from diffgenz.core.record import Record
from diffgenz.core.smooth import SHARPNESS, Leaf, Scalar, as_leaf
from diffgenz.hardware.platform import Platform
from diffgenz.inference.elasticities import METRICS
from diffgenz.inference.encoding import check_images
from diffgenz.inference.estimate import Estimate, check_layout, estimate
from diffgenz.models.model import Model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism, Workload
from diffgenz.scenario.serving_options import Serving, check_serving

WORST = (
    "ttft",
    "tpot",
    "end_to_end",
    "mixed_tpot",
    "memory.weights",
    "memory.kv_cache",
    "memory.activations",
    "memory.total",
)
"""Metrics of which a mix has the largest of its parts'; slowest: its `tokens_per_second_per_user`."""


class Served(Record):
    """A model and how it is served, `share` being its part of all output tokens in a mix."""

    model: Model
    workload: Workload = eqx.field(default_factory=Workload)
    plan: Parallelism = eqx.field(default_factory=Parallelism)
    precision: Precision = eqx.field(default_factory=Precision)
    serving: Serving | None = None
    share: Leaf = eqx.field(converter=as_leaf, default=1.0)

    def __check_init__(self):
        check("share", self.share, exclusive=True)


class Scenario(Record):
    """A platform and what it serves: one model, or a mix of several that take turns on it.

    Arguments:
        platform: where all are served. served: at least one.
    """

    platform: Platform
    served: tuple[Served, ...]

    def __check_init__(self):
        check("models served", float(len(self.served)), minimum=1)

    @classmethod
    def of(
        cls,
        model: Model,
        platform: Platform,
        workload: Workload | None = None,
        plan: Parallelism | None = None,
        precision: Precision | None = None,
        serving: Serving | None = None,
    ) -> "Scenario":
        """The scenario of one model; arguments as of `estimate`."""
        return cls(
            platform,
            (
                Served(
                    model,
                    workload or Workload(),
                    plan or Parallelism(),
                    precision or Precision(),
                    serving,
                ),
            ),
        )


def is_legal(scenario: Scenario) -> Bool[Array, ""]:
    """Whether `estimate` would take what is served, its numbers being traced: plans have the accelerators, heads, layers and experts they need."""
    with noting(alone=True) as conditions:
        for part in scenario.served:
            check_layout(part.model, scenario.platform, part.plan)
            check_images(part.model, part.workload)
            check_serving(part.serving, part.model, scenario.platform.accelerator, part.plan)
    return all_of(conditions)


def all_of(conditions: list[Any]) -> Bool[Array, ""]:
    """Whether all conditions hold."""
    total = jnp.asarray(True)
    for condition in conditions:
        total = total & condition
    return total


def scenario_metrics(scenario: Scenario, sharpness: float = SHARPNESS) -> dict[str, Any]:
    """Every metric by name (`METRICS`), and two booleans: whether it `fits` in memory, and whether it is `legal`.

    A mix takes turns: of times and memory it has the worst; of throughputs the harmonic mean and of energy and cost the mean, weighted by the
    shares of the output tokens. Those of part i are there too, as "tpot[i]".
    """
    estimates = [
        estimate(
            s.model,
            scenario.platform,
            s.workload,
            s.plan,
            s.precision,
            serving=s.serving,
            sharpness=sharpness,
        )
        for s in scenario.served
    ]
    each = [_named(result) for result in estimates]
    fits = jnp.asarray(True)
    for result in estimates:
        fits = fits & result.memory.fits
    flags = {"fits": fits, "legal": is_legal(scenario)}
    if len(each) == 1:
        return each[0] | flags
    total = sum((part.share for part in scenario.served), start=jnp.zeros(()))
    weights = [part.share / total for part in scenario.served]
    mixed: dict[str, Any] = {}
    for name in set.intersection(*(set(part) for part in each)):
        mixed[name] = _combined(name, [part[name] for part in each], weights)
    return (
        mixed
        | {
            f"{name}[{index}]": value
            for index, part in enumerate(each)
            for name, value in part.items()
        }
        | flags
    )


def _combined(name: str, values: list[Scalar], weights: list[Scalar]) -> Scalar:
    total = values[0] * 0
    if name in WORST or name == "tokens_per_second_per_user":
        pick = jnp.minimum if name == "tokens_per_second_per_user" else jnp.maximum
        total = values[0]
        for value in values[1:]:
            total = pick(total, value)
    elif name.startswith(("throughput", "tokens_per_second")):
        total = 1 / sum(
            (weight / value for weight, value in zip(weights, values, strict=True)), start=total
        )
    else:
        total = sum(
            (weight * value for weight, value in zip(weights, values, strict=True)), start=total
        )
    return total


def _named(result: Estimate) -> dict[str, Scalar]:
    return {
        metric: value for metric in METRICS if (value := attrgetter(metric)(result)) is not None
    }
