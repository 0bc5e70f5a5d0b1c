"""What a metric depends on: elasticities with respect to every hardware number, in one call."""

from operator import attrgetter

import equinox as eqx
import jax
import jax.numpy as jnp

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.smooth import SHARPNESS, Scalar, check_sharpness
from diffgenz.hardware.platform import Platform
from diffgenz.inference.encoding import check_images
from diffgenz.inference.estimate import Estimate, check_layout, estimate
from diffgenz.models.model import Model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism, Workload
from diffgenz.scenario.serving_options import Serving, check_serving

METRICS = (
    *(name for name in Estimate.__dataclass_fields__ if name not in ("memory", "deviation")),
    *(f"memory.{name}" for name in ("weights", "kv_cache", "activations", "total")),
)
"""Names of the numbers of an `Estimate`."""

STRUCTURE = (".accelerators", ".size")
"""Hardware numbers that are structure: estimates' derivatives with respect to them are zero by definition."""


def metric_named(result: Estimate, metric: str) -> Scalar:
    """The number called `metric` ("tpot", "memory.total", ...) of an estimate.

    Raises:
        InputError: there is none, the accelerator has no price to make a cost of, or prompts are not chunked.
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    value = attrgetter(metric)(result)
    if value is None and metric == "mixed_tpot":
        raise InputError(
            "metric: mixed_tpot needs chunked prefill; set Serving.chunk (--chunk), or ask for tpot"
        )
    if value is None:
        raise InputError(
            f"metric: {metric} needs a price, which the accelerator does not state; add [price] to its file, or set Accelerator.price"
        )
    return value


def elasticities(
    model: Model,
    platform: Platform,
    workload: Workload,
    plan: Parallelism | None = None,
    metric: str = "tpot",
    precision: Precision | None = None,
    *,
    serving: Serving | None = None,
    sharpness: float = SHARPNESS,
) -> dict[str, Scalar]:
    """d ln metric / d ln x for every hardware number x: by how many percent the metric moves when x grows by one.

    Arguments:
        metric: one of `METRICS`. The others are those of `estimate`.

    Returns:
        elasticity by name of the number, such as "accelerator.memory_bandwidth" or "network[0].latency".

    For a time, elasticities to latencies minus those to peaks and bandwidths sum to 1: twice as fast in all of them is twice as fast.
    A number that is zero has elasticity 0.

    Raises:
        InputError: an unknown metric, and whatever `estimate` refuses.
    """
    plan, precision = plan or Parallelism(), precision or Precision()
    check_layout(model, platform, plan)
    check_images(model, workload)
    check_serving(serving, model, platform.accelerator, plan)
    check_sharpness(sharpness)
    named, _ = jax.tree_util.tree_flatten_with_path(
        _scaled(model, platform, workload, plan, metric, precision, serving, sharpness)
    )
    values = {
        jax.tree_util.keystr(path).replace("['", "[").replace("']", "]").lstrip("."): value
        for path, value in named
    }
    return {
        name: jnp.asarray(value)
        for name, value in values.items()
        if not name.endswith(STRUCTURE) and name != "accelerators"
    }


@eqx.filter_jit
def _scaled(
    model: Model,
    platform: Platform,
    workload: Workload,
    plan: Parallelism,
    metric: str,
    precision: Precision,
    serving: Serving | None,
    sharpness: float,
) -> Platform:
    def of(hardware: Platform) -> Scalar:
        return metric_named(
            estimate(
                model, hardware, workload, plan, precision, serving=serving, sharpness=sharpness
            ),
            metric,
        )

    value, gradient = jax.value_and_grad(of)(platform)
    return jax.tree.map(lambda slope, x: slope * x / value, gradient, platform)
