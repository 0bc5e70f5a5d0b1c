"""`search`: which deployment serves a workload best.

All plans x batch sizes x formats x chunk sizes are estimated in one call.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.checks import check, check_whole
from diffgenz.core.errors import InputError, NoSolution
from diffgenz.core.formats import FORMATS
from diffgenz.core.record import unnamed
from diffgenz.core.smooth import Scalar
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.inference.estimate import Estimate, estimate
from diffgenz.inference.metrics import METRICS, metrics_of
from diffgenz.operators.gear import Gear
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.scenario.serving_options import Draft
from diffgenz.studies.search.plans import plans
from diffgenz.studies.search.smallest_layout import smallest_layout

RANKS = ("tensor", "context", "attention_data", "pipeline", "data", "expert")
"""The fields of a plan that a search varies."""

BATCHES = tuple(float(2**power) for power in range(13))
"""Requests in flight over all replicas that a search tries: 1 to 4096."""


@dataclasses.dataclass(frozen=True)
class Deployment:
    """One way to serve, and what it takes.

    Arguments:
        plan: ranks by field of `Parallelism`; all layouts of one search have the same fields.
        batch: requests in flight over all replicas.
        precision: the formats.
        chunk: prompt tokens of an iteration; None for whole prompts.
        metrics: of its estimate, by name (`METRICS`), in SI; those that it does not have are None.
        question: the scenario that was searched.
    """

    plan: dict[str, int]
    batch: int
    precision: Precision
    chunk: int | None
    metrics: dict[str, float | None]
    question: Scenario = dataclasses.field(repr=False)

    @functools.cached_property
    def scenario(self) -> Scenario:
        """The deployment as a scenario: it goes straight back into `estimate`."""
        case = self.question
        serving = case.serving if self.chunk is None else case.serving.replace(chunk=self.chunk)
        return case.replace(
            workload=case.workload.replace(batch=self.batch),
            plan=Parallelism(**self.plan),
            precision=self.precision,
            serving=serving,
        )

    @property
    def layout(self) -> tuple[int | str, ...]:
        """What tells layouts apart: ranks and formats, not batch and chunk."""
        return (*self.plan.values(), *self.precision.names.values())

    def as_dict(self) -> dict[str, Any]:
        """One flat row: ranks, batch, formats, chunk and metrics, for tables and files."""
        names = ("weights", "activations", "kv_cache")
        formats = {name: self.precision.names[name] for name in names}
        rest = {"batch": self.batch, **formats, "chunk": self.chunk}
        return {**self.plan, **rest, **self.metrics}


class Search(NamedTuple):
    """What a search found.

    Arguments:
        tried: configurations evaluated.
        fitting: those that fit in memory.
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
        """Deployments that no other beats in tokens/s per user and tokens/s per accelerator.

        The fastest for the user comes first.
        """

        def speeds(deployment: Deployment) -> tuple[float, float]:
            metrics = deployment.metrics
            user, accelerator = (
                metrics[f"tokens_per_second_per_{who}"] for who in ("user", "accelerator")
            )
            return -(user or 0.0), -(accelerator or 0.0)

        front: list[Deployment] = []
        for deployment in sorted(self.deployments, key=speeds):
            if not front or speeds(deployment)[1] < speeds(front[-1])[1]:
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
    case: Scenario,
    *,
    ttft: float | None = None,
    tpot: float | None = None,
    batches: Sequence[float] = BATCHES,
    precisions: Sequence[Precision] | None = None,
    chunks: Sequence[float | None] = (None,),
) -> Search:
    """Every plan that uses all accelerators, at every batch, in all formats and chunk sizes.

    With chunked prefill, prompts that arrive are computed along with running requests: there the
    target `tpot` holds for `mixed_tpot`, the time between tokens while each iteration carries a
    chunk. Whole prompts are computed before their requests decode. Kernels are timed by the
    roofline, fitted or not: deployments are ranked by bounds.

    Arguments:
        case: the question; its batch, plan, formats and chunk are what is searched. A draft model
            keeps its own ranks, and plans with fewer are left out.
        ttft: s until the first token, at most; None for any.
        tpot: s between tokens, at most; None for any.
        batches: requests in flight over all replicas.
        precisions: formats. Default: `formats_for` the accelerator.
        chunks: prompt tokens of one iteration of an attention group; None for whole prompts, which
            next to chunks are one of any length (memory then has room for the decodes beside it).

    Raises:
        InputError: a target, batch or chunk that is not positive, and what `Scenario` refuses.
        NoSolution: nothing fits, or what fits misses the targets; it says what comes closest.
    """
    _check(case, ttft, tpot, batches, chunks)
    accelerator = case.platform.accelerator.replace(kernels=None)
    case = case.replace(platform=case.platform.replace(accelerator=accelerator))
    choices = tuple(precisions) if precisions is not None else formats_for(accelerator)
    every = _plans(case)
    grid = _Grid(every, tuple(batches), choices, tuple(chunks))
    results = jax.tree.map(np.asarray, grid.estimates(case))
    fits = results.memory.fits & np.isfinite(results.end_to_end)
    if not fits.any():
        raise NoSolution(_what_would_fit(case, min(batches), choices))
    chunked = grid.chunked
    between = results.tpot
    if grid.has_chunks:
        between = np.where(chunked, results.mixed_tpot, results.tpot)
    times = {"ttft": results.ttft, "tpot": between}
    meets = fits.copy()
    for name, target in (("ttft", ttft), ("tpot", tpot)):
        if target is not None:
            meets &= times[name] <= target
    if not meets.any():
        raise NoSolution(_closest(times, fits, ttft, tpot))
    order = np.flatnonzero(meets)
    speed = results.tokens_per_second_per_accelerator[order]
    order = order[np.argsort(-speed, kind="stable")]
    return Search(len(fits), int(fits.sum()), grid.rows(order, results, case))


def _check(
    case: Scenario,
    ttft: float | None,
    tpot: float | None,
    batches: Sequence[float],
    chunks: Sequence[float | None],
) -> None:
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
    if case.serving.chunk is not None:
        raise InputError(
            f"serving: a chunk of {float(case.serving.chunk):g} is not allowed here; "
            "give it in chunks"
        )
    sizes = [chunk for chunk in chunks if chunk is not None]
    check("chunks", sizes, minimum=1, remedy="use None for whole prompts")
    check_whole("chunks", sizes, "tokens")


def _plans(case: Scenario) -> Parallelism:
    """All plans of the scenario, without those that have no room for its draft model."""
    every = jax.tree.map(np.asarray, plans(case.model, case.platform))
    draft = case.serving.draft
    if isinstance(draft, Draft) and draft.platform is None:
        enough = every.replica_group * every.pipeline >= np.asarray(draft.tensor)
        every = jax.tree.map(lambda leaf: leaf[enough], every)
    return every


class _Grid:
    """All combinations of plans, batches, formats and chunks, numbered."""

    def __init__(
        self,
        every: Parallelism,
        batches: tuple[float, ...],
        choices: tuple[Precision, ...],
        chunks: tuple[float | None, ...],
    ):
        self.every, self.batches, self.choices, self.chunks = every, batches, choices, chunks
        shape = (every.tensor.size, len(batches), len(choices), len(chunks))
        self.plan, self.batch, self.format, self.chunk = (x.ravel() for x in np.indices(shape))

    @property
    def has_chunks(self) -> bool:
        """Whether any prompts are chunked."""
        return any(chunk is not None for chunk in self.chunks)

    @property
    def chunked(self) -> np.ndarray:
        """Whether each combination chunks its prompts."""
        return np.array([chunk is not None for chunk in self.chunks])[self.chunk]

    def estimates(self, case: Scenario) -> Estimate:
        """The estimate of every combination: one program for each structure of formats."""
        figures = [_Formats.of(case.platform.accelerator, choice) for choice in self.choices]
        sizes = np.asarray([np.inf if chunk is None else chunk for chunk in self.chunks], float)
        parts, rows = [], []
        for members in _alike(figures):
            mine = np.flatnonzero(np.isin(self.format, members))
            each = jax.tree.map(lambda leaf, at=self.plan[mine]: leaf[at], self.every)
            requests = jnp.asarray(np.asarray(self.batches, dtype=float)[self.batch[mine]])
            which = np.searchsorted(members, self.format[mine])
            formats = jax.tree.map(
                lambda *leaves, at=which: jnp.stack(leaves)[at],
                *(figures[member] for member in members),
            )
            chunks = jnp.asarray(sizes[self.chunk[mine]]) if self.has_chunks else None
            parts.append(_estimates(unnamed(case), each, requests, formats, chunks))
            rows.append(mine)
        back = np.argsort(np.concatenate(rows))
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[back], *parts)

    def rows(self, order: np.ndarray, results: Estimate, case: Scenario) -> list[Deployment]:
        """The combinations numbered `order` as deployments."""
        fields = {field: getattr(self.every, field) for field in RANKS}
        ranks = {
            field: np.asarray(leaf, int)[self.plan[order]].tolist()
            for field, leaf in fields.items()
            if leaf is not None
        }
        columns = {name: column[order].tolist() for name, column in metrics_of(results).items()}
        columns |= {name: [None] * len(order) for name in METRICS if name not in columns}
        found = []
        for place, index in enumerate(order):
            chunk = self.chunks[self.chunk[index]]
            metrics = {name: columns[name][place] for name in METRICS}
            if chunk is None:
                metrics["mixed_tpot"] = None
            found.append(
                Deployment(
                    {name: ranks[name][place] if name in ranks else 1 for name in RANKS},
                    int(self.batches[self.batch[index]]),
                    self.choices[self.format[index]],
                    None if chunk is None else int(chunk),
                    metrics,
                    case,
                )
            )
        return found


class _Formats(eqx.Module):
    """What a choice of formats changes, as numbers: so that one program serves all of them.

    Arguments:
        sizes: B per element: dtype, weights, activations, KV cache, messages. gear: what the KV cache is compressed with, if it is.
        experts_only: as in `Precision`.
        peaks: FLOP/s of linear layers, and of the rest.
    """

    sizes: tuple[Scalar, ...]
    gear: Gear | None
    experts_only: bool = eqx.field(static=True)
    peaks: tuple[Scalar, Scalar]

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
        peaks = (
            accelerator.peak(precision.linear_peak),
            accelerator.peak(precision.attention_peak),
        )
        return cls(sizes, gear, precision.experts_only, peaks)

    def applied_to(self, accelerator: Accelerator) -> tuple[Accelerator, Precision]:
        """The accelerator and the precision that stand for them: two formats, with these figures."""
        precision = Precision(
            "bf16", "fp8", "fp8", self.gear, experts_only=self.experts_only
        ).with_sizes(*self.sizes)
        names = (FORMATS["fp8"].peak, FORMATS["bf16"].peak)
        peaks = dict(zip(names, self.peaks, strict=True))
        return accelerator.replace(peak_flops=peaks), precision


def _alike(figures: Sequence[_Formats]) -> list[list[int]]:
    """The indices of the choices of each structure: with GEAR or without, experts alone or all layers."""
    groups: dict[Any, list[int]] = {}
    for index, choice in enumerate(figures):
        groups.setdefault(jax.tree.structure(choice), []).append(index)
    return list(groups.values())


@eqx.filter_jit
def _estimates(
    case: Scenario,
    each: Parallelism,
    batch: jax.Array,
    formats: _Formats,
    chunks: jax.Array | None,
) -> Estimate:
    def one(
        plan: Parallelism, requests: Scalar, choice: _Formats, chunk: Scalar | None
    ) -> Estimate:
        accelerator, precision = choice.applied_to(case.platform.accelerator)
        serving = case.serving if chunk is None else case.serving.replace(chunk=chunk)
        return estimate(
            case.replace(
                platform=case.platform.replace(accelerator=accelerator),
                workload=case.workload.replace(batch=requests),
                plan=plan,
                precision=precision,
                serving=serving,
            )
        )

    return jax.vmap(one)(each, batch, formats, chunks)


def _what_would_fit(case: Scenario, batch: float, choices: Sequence[Precision]) -> str:
    narrowest = min(choices, key=lambda choice: float(choice.weight_size + choice.kv_cache_size))
    count, name = int(case.platform.accelerators), case.platform.accelerator.name
    start = (
        f"nothing fits: {case.model.name} on {count} x {name}, in any plan, batch and format tried"
    )
    smallest = case.replace(
        workload=case.workload.replace(batch=batch), plan=Parallelism(), precision=narrowest
    )
    layout = smallest_layout(smallest)
    if layout is None:
        return f"{start}; nor on more of them: use shorter sequences or a larger accelerator"
    plan = layout.plan
    context = "" if plan.context is None else f", cp {int(plan.context)}"
    return (
        f"{start}; {int(plan.ranks)} would hold it "
        f"({narrowest.summary}; tp {int(plan.tensor)}{context}, pp {int(plan.pipeline)})"
    )


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
