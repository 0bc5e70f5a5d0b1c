"""Which deployment serves a workload best: all plans x batch sizes x formats, estimated in one call."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.checks import check, check_whole
from diffgenz.errors import InputError, NoSolution
from diffgenz.hardware import Accelerator, Platform
from diffgenz.inference import Estimate, estimate
from diffgenz.layouts import plans
from diffgenz.models.model import Model
from diffgenz.precision import FORMATS, Precision
from diffgenz.serving_options import Draft, Serving
from diffgenz.smallest import smallest_layout
from diffgenz.smooth import SHARPNESS, Scalar, check_sharpness
from diffgenz.workload import Parallelism, Workload

BATCHES = tuple(float(2**power) for power in range(13))
"""Requests in flight over all replicas that a search tries: 1 to 4096."""


class Deployment(NamedTuple):
    """One way to serve, and what it takes. Times in s, memory in B, cost in USD; see `Estimate`."""

    tensor: int
    attention_data: int
    pipeline: int
    data: int
    expert: int
    batch: int
    weights: str
    activations: str
    kv_cache: str
    ttft: float
    tpot: float
    throughput: float
    tokens_per_second_per_user: float
    tokens_per_second_per_accelerator: float
    memory: float
    cost_per_million_output_tokens: float | None

    @property
    def layout(self) -> tuple[int | str, ...]:
        """Plan and formats, the batch apart."""
        return (*self[:5], *self[6:9])


class Search(NamedTuple):
    """What a search found.

    Arguments:
        tried: configurations evaluated. fitting: those that fit in memory.
        deployments: those that also meet the targets, most tokens/s per accelerator first.
    """

    tried: int
    fitting: int
    deployments: list[Deployment]

    def best(self, count: int) -> list[Deployment]:
        """The best `count` layouts, each at its best batch size."""
        firsts: dict[tuple[int | str, ...], Deployment] = {}
        for deployment in self.deployments:
            firsts.setdefault(deployment.layout, deployment)
        return list(firsts.values())[:count]

    def pareto(self) -> list[Deployment]:
        """Deployments that no other beats in both tokens/s per user and tokens/s per accelerator, fastest for the user first."""
        front: list[Deployment] = []
        ordered = sorted(self.deployments, key=lambda d: (-d.tokens_per_second_per_user, -d.tokens_per_second_per_accelerator))
        for deployment in ordered:
            if not front or deployment.tokens_per_second_per_accelerator > front[-1].tokens_per_second_per_accelerator:
                front.append(deployment)
        return front


def formats_for(accelerator: Accelerator) -> tuple[Precision, ...]:
    """Formats that engines commonly offer: bf16 (fp16 where the accelerator has none), 4-bit weights, and fp8 and 4 bit where it multiplies them."""
    dtype = "bf16" if "bf16" in accelerator.peak_flops else "fp16"
    choices = [Precision(dtype), Precision(dtype, kv_cache="fp8"), Precision(dtype, weights="int4")]
    if "fp8" in accelerator.peak_flops:
        choices += [Precision(dtype, "fp8", "fp8", kv_cache) for kv_cache in (dtype, "fp8")]
    if "fp4" in accelerator.peak_flops:
        choices += [Precision(dtype, "nvfp4", "nvfp4", kv_cache) for kv_cache in (dtype, "fp8")]
    return tuple(choices)


def search(
    model: Model,
    platform: Platform,
    workload: Workload,
    *,
    ttft: float | None = None,
    tpot: float | None = None,
    batches: Sequence[float] = BATCHES,
    precisions: Sequence[Precision] | None = None,
    serving: Serving | None = None,
    sharpness: float = SHARPNESS,
) -> Search:
    """Every plan that uses all accelerators, at every batch size and in every combination of formats.

    Arguments:
        workload: its token counts; its batch is one of those tried.
        ttft, tpot: s, at most; None for any.
        batches: requests in flight over all replicas. precisions: default `formats_for` the accelerator.
        serving: as in `estimate`; a draft model keeps its own ranks, and plans with fewer are left out.

    Raises:
        InputError: a target or batch that is not positive, and whatever `estimate` refuses.
        NoSolution: nothing fits, or what fits misses the targets; it says what comes closest.
    """
    check_sharpness(sharpness)
    for name, value in (("ttft", ttft), ("tpot", tpot)):
        if value is not None and not value > 0:
            raise InputError(f"{name}: {value!r} is not allowed; it must be above 0 seconds, or left out")
    if not len(batches):
        raise InputError("batches: none to try; give at least one")
    check("batches", batches, minimum=1)
    check_whole("batches", batches, "requests")
    choices = tuple(precisions) if precisions is not None else formats_for(platform.accelerator)
    every = jax.tree.map(np.asarray, plans(model, platform))
    if serving is not None and isinstance(serving.draft, Draft):
        every = jax.tree.map(lambda leaf, enough=every.tensor * every.pipeline >= serving.draft.tensor: leaf[enough], every)
    shape = (every.tensor.size, len(batches), len(choices))
    plan_index, batch_index, format_index = (index.ravel() for index in np.indices(shape))
    results = _estimates(
        model,
        platform,
        workload,
        jax.tree.map(lambda leaf: leaf[plan_index], every),
        jnp.asarray(np.asarray(batches, dtype=float)[batch_index]),
        jax.tree.map(lambda *leaves: jnp.stack(leaves)[format_index], *(_Formats.of(platform.accelerator, choice) for choice in choices)),
        serving,
        sharpness,
    )
    fits = np.asarray(results.memory.fits & jnp.isfinite(results.end_to_end))
    results = jax.tree.map(np.asarray, results)
    if not fits.any():
        raise NoSolution(_what_would_fit(model, platform, workload.replace(batch=min(batches)), choices, serving))
    meets = fits & (results.ttft <= (np.inf if ttft is None else ttft)) & (results.tpot <= (np.inf if tpot is None else tpot))
    if not meets.any():
        raise NoSolution(_closest(results, fits, ttft, tpot))
    order = np.flatnonzero(meets)
    order = order[np.argsort(-results.tokens_per_second_per_accelerator[order], kind="stable")]
    columns: dict[str, list[Any]] = {name: np.asarray(getattr(every, name)[plan_index[order]], int).tolist() for name in Deployment._fields[:5]}
    columns["batch"] = [int(batches[index]) for index in batch_index[order]]
    for name in ("weights", "activations", "kv_cache"):
        columns[name] = [getattr(choices[index], name) for index in format_index[order]]
    for name in ("ttft", "tpot", "throughput", "tokens_per_second_per_user", "tokens_per_second_per_accelerator"):
        columns[name] = getattr(results, name)[order].tolist()
    columns["memory"] = results.memory.total[order].tolist()
    costs = results.cost_per_million_output_tokens
    columns["cost_per_million_output_tokens"] = [None] * len(order) if costs is None else costs[order].tolist()
    found = [Deployment(*row) for row in zip(*columns.values(), strict=True)]
    return Search(len(plan_index), int(fits.sum()), found)


class _Formats(eqx.Module):
    """What a choice of formats changes, as numbers: so that one program serves all of them.

    Arguments:
        sizes: B per element: dtype, weights, activations, KV cache. peaks, energies: FLOP/s and J/FLOP of linear layers and of the rest.
    """

    sizes: tuple[Scalar, ...]
    peaks: tuple[Scalar, Scalar]
    energies: tuple[Scalar, Scalar]

    @classmethod
    def of(cls, accelerator: Accelerator, precision: Precision) -> "_Formats":
        sizes = (precision.dtype_size, precision.weight_size, precision.activation_size, precision.kv_cache_size)
        names = (precision.linear_peak, precision.attention_peak)
        energies = [jnp.asarray(accelerator.flop_energy(name), float) for name in names]
        return cls(sizes, (accelerator.peak(names[0]), accelerator.peak(names[1])), (energies[0], energies[1]))

    def applied_to(self, accelerator: Accelerator) -> tuple[Accelerator, Precision]:
        """The accelerator and the precision that stand for them: two formats, with these figures."""
        precision = Precision("bf16", "fp8", "fp8", "bf16").with_sizes(*self.sizes)
        names = (FORMATS["fp8"].peak, FORMATS["bf16"].peak)
        peaks, energies = (dict(zip(names, pair, strict=True)) for pair in (self.peaks, self.energies))
        return accelerator.replace(peak_flops=peaks, energy_per_flop=energies), precision


@eqx.filter_jit
def _estimates(
    model: Model,
    platform: Platform,
    workload: Workload,
    each: Parallelism,
    batch: jax.Array,
    formats: _Formats,
    serving: Serving | None,
    sharpness: float,
) -> Estimate:
    def one(plan: Parallelism, requests: Scalar, choice: _Formats) -> Estimate:
        accelerator, precision = choice.applied_to(platform.accelerator)
        machine = platform.replace(accelerator=accelerator)
        return estimate(model, machine, workload.replace(batch=requests), plan, precision, serving=serving, sharpness=sharpness)

    return jax.vmap(one)(each, batch, formats)


def _what_would_fit(model: Model, platform: Platform, workload: Workload, choices: Sequence[Precision], serving: Serving | None) -> str:
    narrowest = min(choices, key=lambda choice: float(choice.weight_size + choice.kv_cache_size))
    formats = f"weights {narrowest.weights}, activations {narrowest.activations}, KV cache {narrowest.kv_cache}"
    start = f"nothing fits: {model.name} on {int(platform.accelerators)} x {platform.accelerator.name}, in any plan, batch and format tried"
    layout = smallest_layout(model, platform, workload, 1, narrowest, serving)
    if layout is None:
        return f"{start}; nor on more of them: use shorter sequences or a larger accelerator"
    return f"{start}; {layout.accelerators} would hold it ({formats}; tp {layout.tensor}, pp {layout.pipeline})"


def _closest(results: Any, fits: np.ndarray, ttft: float | None, tpot: float | None) -> str:
    parts = []
    for name, target, other, limit in (("ttft", ttft, "tpot", tpot), ("tpot", tpot, "ttft", ttft)):
        if target is None:
            continue
        within = fits if limit is None else fits & (getattr(results, other) <= limit)
        if within.any():
            best = getattr(results, name)[within].min()
            given = "" if limit is None else f" at a {other} of {limit * 1e3:g} ms"
            parts.append(f"the lowest {name} is {best * 1e3:.3g} ms{given}, {target * 1e3:g} was asked for")
        else:
            best = getattr(results, other)[fits].min()
            parts.append(f"the lowest {other} at all is {best * 1e3:.3g} ms, {1e3 * (limit or 0):g} was asked for")
    return f"{int(fits.sum()):,} deployments fit, none meets the targets: {'; '.join(dict.fromkeys(parts))}"
