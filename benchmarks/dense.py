"""Random dense configurations, in which every number varies, and how wrong their estimates are.

What times their kernels is the roofline, or the shipped fits of H100.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import diffgenz as dgz
from diffgenz.core.leaves import leaf_names, number_at
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.hardware.network import Level
from diffgenz.hardware.platform import Platform
from diffgenz.hardware.topology import Fabric, Switch
from diffgenz.inference.prefill_decode import QUADRATURE
from diffgenz.kernels.forms.attention_decode import TILE
from diffgenz.kernels.library import Library
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.model import Model, Repeated

SYSTEM = "h100_sxm"
"""Whose fitted kernels are taken."""

FAMILIES = ("gemm", "prefill", "decode", "elementwise", "all_reduce")
"""The families of kernels that dense models execute."""

WHOLE = dgz.Serving(chunk=None, memory_utilization=1)
"""Whole prompts on all of the memory, which is what the baseline calculates."""

COLUMNS: dict[str, Any] = {
    "layers": lambda r, n: r.integers(16, 130, n),
    "hidden": lambda r, n: 128 * r.integers(8, 130, n),
    "vocabulary": lambda r, n: r.integers(30_000, 260_000, n),
    "heads": lambda r, n: r.integers(8, 130, n),
    "kv_heads": lambda r, n: r.integers(1, 17, n),
    "head_dim": lambda r, n: r.choice([64, 96, 128, 192, 256], n),
    "intermediate": lambda r, n: 128 * r.integers(16, 400, n),
    "peak": lambda r, n: 10 ** r.uniform(13.5, 16, n),
    "bandwidth": lambda r, n: 10 ** r.uniform(11.5, 13.5, n),
    "capacity": lambda r, n: r.uniform(16e9, 300e9, n),
    "reserve": lambda r, n: r.uniform(0, 5e9, n),
    "launch": lambda r, n: r.uniform(0.5e-6, 6e-6, n),
    "idle_power": lambda r, n: r.uniform(50, 400, n),
    "compute_power": lambda r, n: r.uniform(50, 1000, n),
    "memory_power": lambda r, n: r.uniform(20, 400, n),
    "price": lambda r, n: r.uniform(1, 10, n) / 3600,
    "compute_efficiency": lambda r, n: r.uniform(0.4, 1, n),
    "memory_efficiency": lambda r, n: r.uniform(0.4, 1, n),
    "node": lambda r, n: r.choice([4, 8, 16, 72], n),
    "link": lambda r, n: 10 ** r.uniform(10.3, 12.3, n),
    "link_latency": lambda r, n: r.uniform(0.2e-6, 3e-6, n),
    "link_efficiency": lambda r, n: r.uniform(0.5, 1, n),
    "link_power": lambda r, n: r.uniform(5, 100, n),
    "nic": lambda r, n: 10 ** r.uniform(9.5, 11.3, n),
    "nic_latency": lambda r, n: r.uniform(1e-6, 10e-6, n),
    "nic_efficiency": lambda r, n: r.uniform(0.5, 1, n),
    "nic_power": lambda r, n: r.uniform(1, 30, n),
    "batch": lambda r, n: r.integers(1, 513, n),
    "input_tokens": lambda r, n: r.integers(1, 16_385, n),
    "output_tokens": lambda r, n: r.integers(1, 2_049, n),
    "tp": lambda r, n: r.choice([1, 2, 3, 4, 6, 8], n),
    "pp": lambda r, n: r.choice([1, 2, 3, 4, 8], n),
    "dp": lambda r, n: r.choice([1, 2, 4], n),
    "overlap": lambda r, n: r.uniform(0, 1, n),
    "dtype_size": lambda r, n: r.choice([2, 4], n),
    "weight_size": lambda r, n: r.choice([0.5, 1, 2], n),
    "activation_size": lambda r, n: r.choice([1, 2], n),
    "kv_cache_size": lambda r, n: r.choice([0.5, 1, 2], n),
}
"""Draws of each number: a function of the random generator and the number of configurations.

Units are SI: FLOP/s, B/s, B, s, W, USD/s; efficiencies and the overlap are shares, and sizes of
formats are B per element.
"""


def columns(count: int, seed: int) -> dict[str, np.ndarray]:
    """Random configurations, as one array per number in float32, the library's own precision.

    Arguments:
        count: configurations.
        seed: of the random generator.
    """
    rng = np.random.default_rng(seed)
    drawn = {name: np.asarray(draw(rng, count), np.float32) for name, draw in COLUMNS.items()}
    drawn["kv_heads"] = np.minimum(drawn["kv_heads"], drawn["heads"])
    return drawn | {"mlps": drawn["layers"].copy()}


def configuration(c: dict[str, Any]) -> dgz.Scenario:
    """The scenario of one configuration, given its numbers by name (`columns`)."""
    attention = Attention(heads=c["heads"], kv_heads=c["kv_heads"], head_dim=c["head_dim"])
    mlp = MLP(intermediate=c["intermediate"])
    blocks = (Repeated(attention, c["layers"]), Repeated(mlp, c["mlps"]))
    model = Model("random", c["hidden"], c["vocabulary"], blocks)
    accelerator = Accelerator(
        name="random",
        peak_flops={"bf16": c["peak"]},
        memory_bandwidth=c["bandwidth"],
        memory_capacity=c["capacity"],
        memory_reserve=c["reserve"],
        launch_latency=c["launch"],
        idle_power=c["idle_power"],
        compute_power=c["compute_power"],
        memory_power=c["memory_power"],
        price=c["price"],
        compute_efficiency=c["compute_efficiency"],
        memory_efficiency=c["memory_efficiency"],
    )
    link = (c[name] for name in ("link", "link_latency", "link_efficiency", "link_power"))
    node = Level("node", Switch(), c["node"], *link)
    nic = (c[name] for name in ("nic", "nic_latency", "nic_efficiency", "nic_power"))
    fabric = Level("fabric", Fabric(), 65536.0, *nic)
    precision = dgz.Precision().with_sizes(
        c["dtype_size"], c["weight_size"], c["activation_size"], c["kv_cache_size"]
    )
    platform = Platform(accelerator, (node, fabric), 65536.0)
    plan = dgz.Parallelism(c["tp"], c["pp"], c["dp"], c["overlap"])
    workload = dgz.Workload(c["batch"], c["input_tokens"], c["output_tokens"])
    return dgz.Scenario(model, platform, workload, plan, precision, WHOLE)


def metrics(c: dict[str, Any]) -> dict[str, Any]:
    """Every metric of the estimate of one configuration."""
    return metrics_of(dgz.estimate(configuration(c)))


METRICS = (
    "ttft",
    "tpot",
    "end_to_end",
    "throughput",
    "tokens_per_second_per_user",
    "tokens_per_second_per_accelerator",
    "energy_per_output_token",
    "cost_per_million_output_tokens",
)
MEMORY = ("weights", "kv_cache", "activations", "total")
"""The metrics of an estimate, and those of its memory."""


def metrics_of(e: dgz.Estimate) -> dict[str, Any]:
    """The metrics of an estimate, by name."""
    own = {name: getattr(e, name) for name in METRICS}
    return own | {name: getattr(e.memory, name) for name in MEMORY}


def objective(platform: Platform, case: dgz.Scenario) -> Any:
    """log TTFT + log TPOT of a scenario whose platform is replaced.

    Arguments:
        platform: the platform, with respect to which gradients are taken.
        case: the rest of the scenario.
    """
    e = dgz.estimate(case.replace(platform=platform))
    return jnp.log(e.ttft) + jnp.log(e.tpot)


def gradient(c: dict[str, Any]) -> Platform:
    """The derivatives of the objective with respect to every hardware number of a configuration."""
    case = configuration(c)
    return jax.grad(objective)(case.platform, case)


Fitted = tuple[dict[str, Any], Library]
"""The numbers of a configuration by name, and the kernels that time it."""


def fitted_kernels() -> Library:
    """The fitted kernels of `SYSTEM` that dense models in bf16 execute."""
    shipped = dgz.load_platform(SYSTEM, 8).accelerator.kernels
    assert shipped is not None
    return Library({family: {"bf16": shipped.forms[family]["bf16"]} for family in FAMILIES})


def fitted_columns(count: int, seed: int) -> dict[str, np.ndarray]:
    """`columns`, and the compute units that fitted kernels need."""
    units = np.random.default_rng(seed + 1000).integers(16, 257, count)
    return columns(count, seed) | {"units": units.astype(np.float32)}


def fitted_configuration(numbers: Fitted) -> dgz.Scenario:
    """The scenario of one configuration, with fitted kernels."""
    case = configuration(numbers[0])
    chip = case.platform.accelerator.replace(kernels=numbers[1], compute_units=numbers[0]["units"])
    return case.replace(platform=case.platform.replace(accelerator=chip))


def fitted_metrics(numbers: Fitted) -> dict[str, Any]:
    """Every metric of the estimate of one configuration, with fitted kernels."""
    return metrics_of(dgz.estimate(fitted_configuration(numbers)))


def with_kernels(platform: Platform, kernels: Library | None) -> Platform:
    """The platform, whose kernels are timed by others."""
    return platform.replace(accelerator=platform.accelerator.replace(kernels=kernels))


def hardware_objective(hardware: Platform, case: dgz.Scenario) -> Any:
    """`objective` as a function of all numbers of the hardware but those of its kernels.

    Arguments:
        hardware: the platform without kernels.
        case: the rest of the scenario, whose platform has them.
    """
    return objective(with_kernels(hardware, case.platform.accelerator.kernels), case)


def hardware_gradient(numbers: Fitted) -> Platform:
    """The derivatives of the objective with respect to hardware, of which kernels are no part."""
    case = fitted_configuration(numbers)
    return jax.grad(hardware_objective)(with_kernels(case.platform, None), case)


def cast(tree: Any, dtype: Any) -> Any:
    """The same numbers on the device, in `dtype`."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), tree)


def on_edge(numbers: dict[str, np.ndarray]) -> np.ndarray:
    """Which configurations decode over keys that all but fill, or just overflow, a tile of 128.

    There float32 and float64 may round up to different numbers of tiles: the fitted form has a step
    of up to a per mille, and no precision is wrong. (Tiles that are exactly full are no matter.)

    Arguments:
        numbers: of the configurations, by name.
    """
    counts = (numbers[name].astype(np.float64) for name in ("input_tokens", "output_tokens"))
    prompt, output = counts
    tiles = np.stack([(prompt + output * node + 1) / TILE for node, _ in QUADRATURE])
    distance = np.abs(tiles / np.maximum(np.round(tiles), 1.0) - 1)
    near = (distance > 0) & (distance < 1e-6)
    return np.any(near, axis=0)


def double_error(
    function: Callable[[Any], dict[str, Any]], numbers: Any, but: np.ndarray | bool = False
) -> float:
    """The largest relative difference of any metric from the same in float64.

    Arguments:
        function: the metrics of one configuration.
        numbers: configurations in float32, stacked along the first axis of every leaf.
        but: the configurations that do not count.
    """
    ours = jax.jit(jax.vmap(function))(cast(numbers, jnp.float32))
    with jax.enable_x64(True):
        exact = jax.jit(jax.vmap(function))(cast(numbers, jnp.float64))
    errors = (np.asarray(ours[name], np.float64) / np.asarray(exact[name]) - 1 for name in exact)
    return max(float(np.max(np.where(but, 0.0, np.abs(error)))) for error in errors)


def direction_error(
    function: Callable[[Any, Any], Any], at: Any, rest: Any, directions: int = 8
) -> float:
    """The largest difference of an elasticity from central differences in float64.

    It is taken along random directions, and relative where the elasticity is above 0.01.

    Arguments:
        function: of one `at` and one `rest`; its derivative with respect to `at` is tested.
        at: records in float32, stacked along the first axis of every leaf.
        rest: the same of what is not derived.
        directions: how many there are.
    """
    random, step, worst = np.random.default_rng(3), 1e-5, 0.0
    slopes = jax.jit(jax.vmap(jax.grad(function)))(cast(at, jnp.float32), cast(rest, jnp.float32))
    with jax.enable_x64(True):
        leaves, structure = jax.tree.flatten(cast(at, jnp.float64))
        rest = cast(rest, jnp.float64)
        abouts = [number_at(at, place) for place in leaf_names(at).values()]
        moving = [about is None or not about.structure for about in abouts]
        value = jax.jit(jax.vmap(function))
        for _ in range(directions):
            direction = [
                random.normal(size=len(leaf)) * move
                for leaf, move in zip(leaves, moving, strict=True)
            ]

            def along(sign: int, direction: list[Any] = direction) -> Any:
                pairs = zip(leaves, direction, strict=True)
                moved = [leaf * np.exp(sign * step * d) for leaf, d in pairs]
                return value(jax.tree.unflatten(structure, moved), rest)

            exact = np.asarray(along(1) - along(-1)) / (2 * step)
            parts = zip(jax.tree.leaves(slopes), leaves, direction, strict=True)
            ours = sum(np.asarray(slope, np.float64) * np.asarray(x) * d for slope, x, d in parts)
            error = np.abs(ours - exact) / np.maximum(np.abs(exact), 0.01)
            worst = max(worst, float(np.max(error)))
    return worst
