"""Which deployment serves a workload best: all plans x batch sizes x formats x chunk sizes, estimated in one call."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.checks import check, check_whole
from diffgenz.core.errors import InputError, NoSolution
from diffgenz.core.formats import FORMATS
from diffgenz.core.smooth import SHARPNESS, Scalar, check_sharpness
from diffgenz.hardware.platform import Accelerator, Platform
from diffgenz.inference.estimate import Estimate, estimate
from diffgenz.models.model import Model
from diffgenz.operators.gear import Gear
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism, Workload
from diffgenz.scenario.serving_options import Draft, Serving
from diffgenz.studies.search.plans import plans
from diffgenz.studies.search.smallest_layout import smallest_layout

BATCHES = tuple(float(2**power) for power in range(13))
"""Requests in flight over all replicas that a search tries: 1 to 4096."""


class Deployment(NamedTuple):
    """One way to serve, and what it takes. Times in s, memory in B, cost in USD; see `Estimate`.

    `chunk`: prompt tokens of an iteration, None for whole prompts, which have no `mixed_tpot`.
    """

    tensor: int
    context: int
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
    chunk: int | None = None
    mixed_tpot: float | None = None

    @property
    def layout(self) -> tuple[int | str, ...]:
        """Plan and formats, batch and chunk apart."""
        return (*self[:6], *self[7:10])


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
        """The best `count` layouts, each at its best batch and chunk size."""
        firsts: dict[tuple[int | str, ...], Deployment] = {}
        for deployment in self.deployments:
            firsts.setdefault(deployment.layout, deployment)
        return list(firsts.values())[:count]

    def pareto(self) -> list[Deployment]:
        """Deployments that no other beats in both tokens/s per user and tokens/s per accelerator, fastest for the user first."""
        front: list[Deployment] = []
        ordered = sorted(
            self.deployments,
            key=lambda d: (-d.tokens_per_second_per_user, -d.tokens_per_second_per_accelerator),
        )
        for deployment in ordered:
            if (
                not front
                or deployment.tokens_per_second_per_accelerator
                > front[-1].tokens_per_second_per_accelerator
            ):
                front.append(deployment)
        return front


def formats_for(
    accelerator: Accelerator,
    kv_caches: Sequence[str | Gear] | None = None,
    messages: str | None = None,
) -> tuple[Precision, ...]:
    """Formats that engines commonly offer: bf16 (fp16 where the accelerator has none), 4-bit weights, and fp8 and 4 bit where it multiplies them.

    Of the 4-bit formats NVIDIA's own comes first: accelerators that multiply both have kernels and checkpoints for it.

    Arguments:
        kv_caches: formats of the KV cache to combine them with; default: dtype, and fp8 but with 4-bit weights alone. messages: as in `Precision`.
    """
    dtype = "bf16" if "bf16" in accelerator.peak_flops else "fp16"
    narrow = [name for name in ("nvfp4", "mxfp4") if name in accelerator.peak_flops][:1]
    multiplied = [name for name in ("fp8", *narrow) if name in accelerator.peak_flops]
    layers = [(dtype, dtype), ("int4", dtype), *((name, name) for name in multiplied)]
    caches = {
        weights: kv_caches or ((dtype,) if weights == "int4" else (dtype, "fp8"))
        for weights, _ in layers
    }
    return tuple(
        Precision(dtype, weights, activations, cache, messages)
        for weights, activations in layers
        for cache in caches[weights]
    )


def search(
    model: Model,
    platform: Platform,
    workload: Workload,
    *,
    ttft: float | None = None,
    tpot: float | None = None,
    batches: Sequence[float] = BATCHES,
    precisions: Sequence[Precision] | None = None,
    chunks: Sequence[float | None] = (None,),
    serving: Serving | None = None,
    sharpness: float = SHARPNESS,
) -> Search:
    """Every plan that uses all accelerators, at every batch size, in every combination of formats and every chunk size.

    With chunked prefill, prompts that arrive are computed along with running requests: there the target `tpot` holds for `mixed_tpot`, the
    time between tokens while each iteration carries a chunk. Whole prompts are computed before their requests decode. Kernels are timed by the
    roofline, fitted or not: deployments are ranked by bounds.

    Arguments:
        workload: its token counts; its batch is one of those tried.
        ttft, tpot: s, at most; None for any.
        batches: requests in flight over all replicas. precisions: default `formats_for` the accelerator.
        chunks: prompt tokens of one iteration of an attention group; None for whole prompts, which next to chunks are one of any length
            (memory then has room for the decodes beside it).
        serving: as in `estimate`, chunks apart; a draft model keeps its own ranks, and plans with fewer are left out.

    Raises:
        InputError: a target, batch or chunk that is not positive, and whatever `estimate` refuses.
        NoSolution: nothing fits, or what fits misses the targets; it says what comes closest.
    """
    check_sharpness(sharpness)
    for name, value in (("ttft", ttft), ("tpot", tpot)):
        if value is not None and not value > 0:
            raise InputError(
                f"{name}: {value!r} is not allowed; it must be above 0 seconds, or left out"
            )
    if not len(batches):
        raise InputError("batches: none to try; give at least one")
    check("batches", batches, minimum=1)
    check_whole("batches", batches, "requests")
    if not len(chunks):
        raise InputError("chunks: none to try; give at least one, or None for whole prompts")
    if serving is not None and serving.chunk is not None:
        raise InputError(
            f"serving: a chunk of {float(serving.chunk):g} is not allowed here; give it in chunks"
        )
    sizes = [chunk for chunk in chunks if chunk is not None]
    check("chunks", sizes, minimum=1, remedy="use None for whole prompts")
    check_whole("chunks", sizes, "tokens")
    platform = platform.replace(
        accelerator=platform.accelerator.replace(kernels=None)
    )  # one program stands for all formats, fitted kernels for one
    choices = tuple(precisions) if precisions is not None else formats_for(platform.accelerator)
    every = jax.tree.map(np.asarray, plans(model, platform))
    if serving is not None and isinstance(serving.draft, Draft) and serving.draft.platform is None:
        ranks = every.tensor * every.pipeline * (1 if every.context is None else every.context)
        every = jax.tree.map(lambda leaf, enough=ranks >= serving.draft.tensor: leaf[enough], every)
    shape = (every.tensor.size, len(batches), len(choices), len(chunks))
    plan_index, batch_index, format_index, chunk_index = (
        index.ravel() for index in np.indices(shape)
    )
    tokens = np.asarray([np.inf if chunk is None else chunk for chunk in chunks], dtype=float)
    figures = [_Formats.of(platform.accelerator, choice) for choice in choices]
    parts, rows = [], []
    for members in _alike(figures):  # one program for each structure: most searches have one
        mine = np.flatnonzero(np.isin(format_index, members))
        each = jax.tree.map(lambda leaf, at=plan_index[mine]: leaf[at], every)
        requests = jnp.asarray(np.asarray(batches, dtype=float)[batch_index[mine]])
        which = np.searchsorted(members, format_index[mine])
        formats = jax.tree.map(
            lambda *leaves, at=which: jnp.stack(leaves)[at],
            *(figures[member] for member in members),
        )
        sized = jnp.asarray(tokens[chunk_index[mine]]) if sizes else None
        parts.append(
            _estimates(
                model, platform, workload, each, requests, formats, sized, serving, sharpness
            )
        )
        rows.append(mine)
    back = np.argsort(np.concatenate(rows))
    results = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[back], *parts)
    fits = np.asarray(results.memory.fits & jnp.isfinite(results.end_to_end))
    results = jax.tree.map(np.asarray, results)
    if not fits.any():
        raise NoSolution(
            _what_would_fit(model, platform, workload.replace(batch=min(batches)), choices, serving)
        )
    chunked = np.array([chunk is not None for chunk in chunks])[chunk_index]
    times = {
        "ttft": results.ttft,
        "tpot": np.where(chunked, results.mixed_tpot, results.tpot) if sizes else results.tpot,
    }
    meets = (
        fits
        & (times["ttft"] <= (np.inf if ttft is None else ttft))
        & (times["tpot"] <= (np.inf if tpot is None else tpot))
    )
    if not meets.any():
        raise NoSolution(_closest(times, fits, ttft, tpot))
    order = np.flatnonzero(meets)
    order = order[np.argsort(-results.tokens_per_second_per_accelerator[order], kind="stable")]
    ranks = {name: getattr(every, name) for name in Deployment._fields[:6]}
    if every.context is None:
        ranks["context"] = np.ones(shape[0])
    columns: dict[str, list[Any]] = {
        name: np.asarray(column[plan_index[order]], int).tolist() for name, column in ranks.items()
    }
    columns["batch"] = [int(batches[index]) for index in batch_index[order]]
    for name in ("weights", "activations", "kv_cache"):
        columns[name] = [choices[index].names[name] for index in format_index[order]]
    for name in (
        "ttft",
        "tpot",
        "throughput",
        "tokens_per_second_per_user",
        "tokens_per_second_per_accelerator",
    ):
        columns[name] = getattr(results, name)[order].tolist()
    columns["memory"] = results.memory.total[order].tolist()
    costs = results.cost_per_million_output_tokens
    columns["cost_per_million_output_tokens"] = (
        [None] * len(order) if costs is None else costs[order].tolist()
    )
    columns["chunk"] = [
        None if chunks[index] is None else int(chunks[index]) for index in chunk_index[order]
    ]
    columns["mixed_tpot"] = [
        time if here else None
        for time, here in zip(times["tpot"][order].tolist(), chunked[order], strict=True)
    ]
    found = [Deployment(*row) for row in zip(*columns.values(), strict=True)]
    return Search(len(plan_index), int(fits.sum()), found)


class _Formats(eqx.Module):
    """What a choice of formats changes, as numbers: so that one program serves all of them.

    Arguments:
        sizes: B per element: dtype, weights, activations, KV cache, messages. gear: what the KV cache is compressed with, if it is.
        experts_only: as in `Precision`. peaks, energies: FLOP/s and J/FLOP of linear layers and of the rest.
    """

    sizes: tuple[Scalar, ...]
    gear: Gear | None
    experts_only: bool = eqx.field(static=True)
    peaks: tuple[Scalar, Scalar]
    energies: tuple[Scalar, Scalar]

    @classmethod
    def of(cls, accelerator: Accelerator, precision: Precision) -> "_Formats":
        sizes = (
            precision.dtype_size,
            precision.weight_size,
            precision.activation_size,
            precision.kv_cache_size,
            precision.message_size,
        )
        gear = (
            None if precision.gear is None else precision.gear.replace(core="bf16")
        )  # its size is among the others
        names = (precision.linear_peak, precision.attention_peak)
        energies = [jnp.asarray(accelerator.flop_energy(name), float) for name in names]
        return cls(
            sizes,
            gear,
            precision.experts_only,
            (accelerator.peak(names[0]), accelerator.peak(names[1])),
            (energies[0], energies[1]),
        )

    def applied_to(self, accelerator: Accelerator) -> tuple[Accelerator, Precision]:
        """The accelerator and the precision that stand for them: two formats, with these figures."""
        precision = Precision(
            "bf16", "fp8", "fp8", self.gear, experts_only=self.experts_only
        ).with_sizes(*self.sizes)
        names = (FORMATS["fp8"].peak, FORMATS["bf16"].peak)
        peaks, energies = (
            dict(zip(names, pair, strict=True)) for pair in (self.peaks, self.energies)
        )
        return accelerator.replace(peak_flops=peaks, energy_per_flop=energies), precision


def _alike(figures: Sequence[_Formats]) -> list[list[int]]:
    """The indices of the choices of each structure: with GEAR or without, experts alone or all layers."""
    groups: dict[Any, list[int]] = {}
    for index, choice in enumerate(figures):
        groups.setdefault(jax.tree.structure(choice), []).append(index)
    return list(groups.values())


@eqx.filter_jit
def _estimates(
    model: Model,
    platform: Platform,
    workload: Workload,
    each: Parallelism,
    batch: jax.Array,
    formats: _Formats,
    chunks: jax.Array | None,
    serving: Serving | None,
    sharpness: float,
) -> Estimate:
    def one(
        plan: Parallelism, requests: Scalar, choice: _Formats, chunk: Scalar | None
    ) -> Estimate:
        accelerator, precision = choice.applied_to(platform.accelerator)
        machine = platform.replace(accelerator=accelerator)
        options = serving if chunk is None else (serving or Serving()).replace(chunk=chunk)
        return estimate(
            model,
            machine,
            workload.replace(batch=requests),
            plan,
            precision,
            serving=options,
            sharpness=sharpness,
        )

    return jax.vmap(one)(each, batch, formats, chunks)


def _what_would_fit(
    model: Model,
    platform: Platform,
    workload: Workload,
    choices: Sequence[Precision],
    serving: Serving | None,
) -> str:
    narrowest = min(choices, key=lambda choice: float(choice.weight_size + choice.kv_cache_size))
    formats = narrowest.summary
    start = f"nothing fits: {model.name} on {int(platform.accelerators)} x {platform.accelerator.name}, in any plan, batch and format tried"
    layout = smallest_layout(model, platform, workload, 1, narrowest, serving)
    if layout is None:
        return f"{start}; nor on more of them: use shorter sequences or a larger accelerator"
    context = f", cp {layout.context}" if layout.context > 1 else ""
    return f"{start}; {layout.accelerators} would hold it ({formats}; tp {layout.tensor}{context}, pp {layout.pipeline})"


def _closest(
    times: dict[str, np.ndarray], fits: np.ndarray, ttft: float | None, tpot: float | None
) -> str:
    parts = []
    for name, target, other, limit in (("ttft", ttft, "tpot", tpot), ("tpot", tpot, "ttft", ttft)):
        if target is None:
            continue
        within = fits if limit is None else fits & (times[other] <= limit)
        if within.any():
            best = times[name][within].min()
            given = "" if limit is None else f" at a {other} of {limit * 1e3:g} ms"
            parts.append(
                f"the lowest {name} is {best * 1e3:.3g} ms{given}, {target * 1e3:g} was asked for"
            )
        else:
            best = times[other][fits].min()
            parts.append(
                f"the lowest {other} at all is {best * 1e3:.3g} ms, {1e3 * (limit or 0):g} was asked for"
            )
    return f"{int(fits.sum()):,} deployments fit, none meets the targets: {'; '.join(dict.fromkeys(parts))}"
