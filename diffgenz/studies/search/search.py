"""`search`: which deployment serves a workload best.

All plans x batch sizes x formats x chunk sizes are estimated in one call.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from diffgenz.core.checks import check, check_whole
from diffgenz.core.errors import InputError, NoSolution, unknown
from diffgenz.inference.metrics import METRICS, metrics_of
from diffgenz.inference.timed_by import Run, run_by, sources_of
from diffgenz.operators.message import Axis
from diffgenz.operators.precision import Precision
from diffgenz.operators.routing import Uniform
from diffgenz.routing.placement import Placement
from diffgenz.routing.trace import Counts, Trace
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario, demand_scenario
from diffgenz.scenario.serving_options import Draft
from diffgenz.studies.expressions import Expression
from diffgenz.studies.search.acceptance import accepted_by_engines
from diffgenz.studies.search.deployment import RANKS, Deployment
from diffgenz.studies.search.formats import formats_of, slower_formats, timed_alike
from diffgenz.studies.search.grid import Grid
from diffgenz.studies.search.limits import Limits
from diffgenz.studies.search.plans import plans
from diffgenz.studies.search.routings import routings_of
from diffgenz.studies.search.smallest_layout import smallest_layout

SORT = "tokens_per_second_per_accelerator"
"""The metric that says which deployment is best, unless another is asked for."""

BATCHES = tuple(float(2**power) for power in range(13))
"""Requests in flight over all replicas that a search tries: 1 to 4096."""


@dataclasses.dataclass(frozen=True)
class Search:
    """What a search found.

    Arguments:
        tried: configurations evaluated.
        fitting: those that fit in memory.
        deployments: those that also meet the targets, the best first.
        apart: those that do, in formats of which the roofline times kernels that are measured in
            other formats; they are not ranked with the others.
        next_batch: what becomes of the best deployment at the next larger batch, for people.
        kernels: what times the kernels of each format of linear layers that was tried (`timed_by`),
            collectives of all plans included.
        notes: what to know of the formats: why these were tried, and which of them are of no use.
    """

    tried: int
    fitting: int
    deployments: list[Deployment]
    apart: list[Deployment] = dataclasses.field(default_factory=list)
    next_batch: str = ""
    kernels: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

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
        front: list[Deployment] = []
        for deployment in sorted(self.deployments, key=lambda d: _speeds(d)[::-1], reverse=True):
            if not front or _speeds(deployment)[0] > _speeds(front[-1])[0]:
                front.append(deployment)
        return front


def _speeds(deployment: Deployment) -> tuple[float, float]:
    """Tokens/s per accelerator and per user."""
    metrics = deployment.metrics
    accelerator, user = (
        metrics[f"tokens_per_second_per_{who}"] or 0.0 for who in ("accelerator", "user")
    )
    return accelerator, user


def knee(front: Sequence[Deployment]) -> Deployment | None:
    """The deployment of a front beyond which more of one speed costs much of the other.

    It is the one farthest above the straight line between both ends, each speed being taken as a
    share of its range (Satopaa et al., "Finding a 'Kneedle' in a Haystack", 2011). None where no
    deployment lies above that line.

    Arguments:
        front: as `Search.pareto` returns it.
    """
    if len(front) < 3:
        return None
    speeds = np.array([_speeds(deployment) for deployment in front])
    shares = (speeds - speeds.min(axis=0)) / np.ptp(speeds, axis=0)
    above = shares.sum(axis=1) - 1
    return front[int(above.argmax())] if above.max() > 0 else None


def search(
    case: Scenario,
    *,
    ttft: float | None = None,
    tpot: float | None = None,
    batches: Sequence[float] = BATCHES,
    precisions: Sequence[Precision] | None = None,
    chunks: Sequence[float | None] | None = None,
    sort: str = SORT,
    where: Sequence[str] = (),
    any_layout: bool = False,
    trace: Trace | Counts | None = None,
    placement: Placement | None = None,
    note: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Search:
    """Every plan that uses all accelerators, at every batch, in all formats and chunk sizes.

    They are plans that vLLM or SGLang accept, in formats that the model's checkpoint or a known
    variant of it is in (`scenario.engines`).

    Each row is the estimate of its scenario: kernels are timed as `estimate` times them, by the
    fits of the platform where it has some. Where the scenario asks for mixed iterations
    (`Serving.mixed`), prompts that arrive are computed along with running requests: there the
    target `tpot` holds for `mixed_tpot`, the time between tokens while each iteration carries a
    chunk. Whole prompts are computed before their requests decode.

    Arguments:
        case: the question; its batch, plan and formats are what is searched. A draft model
            keeps its own ranks, and plans with fewer are left out.
        ttft: s until the first token, at most; None for any.
        tpot: s between tokens, at most; None for any.
        batches: requests in flight over all replicas.
        precisions: formats. Default: those of the model's checkpoint where it is quantised, else
            those that accelerator and engines serve it in (`formats_of`).
        chunks: prompt tokens of one iteration of an attention group, of which None stands for
            whole prompts. Default: the scenario's own.
        sort: the metric that says which is best; tokens/s per accelerator by default.
        where: further conditions, formulas of metrics in SI, ranks, batch and chunk, such as
            "memory.total <= 70e9" or "tensor <= 8".
        any_layout: whether to try plans, too, that no engine accepts.
        trace: which experts tokens chose, of which each plan has the numbers of its own ranks
            (`routing.routed`). Default: the scenario's routing.
        placement: where the experts are in plans with its nodes and ranks; in others they are in
            order.
        note: where the trace is from, for people.
        progress: called with the configurations done and their number, again and again.

    Raises:
        InputError: a target, batch or chunk that is not positive, a name that is not known, what
            `Scenario` refuses, and a trace or placement of another model.
        NoSolution: no engine accepts any plan, nothing fits, or what fits misses the targets; it
            says what comes closest.
    """
    demand_scenario(case)
    own = case.serving.chunk
    chunks = (own if own is None else float(own),) if chunks is None else chunks
    _check(ttft, tpot, batches, chunks)
    conditions = [_condition(text) for text in where]
    if sort not in METRICS:
        raise unknown("sort", sort, METRICS)
    notes: tuple[str, ...] = ()
    if precisions is None:
        choices, notes = formats_of(case.model, case.platform.accelerator)
    else:
        choices = tuple(precisions)
    every = _plans(case)
    accepted = np.ones((every.tensor.size, len(choices)), bool)
    if not any_layout:
        accepted = accepted_by_engines(case, every, choices)
        kept = accepted.any(axis=1)
        every = jax.tree.map(lambda leaf: leaf[kept], every)
        accepted = accepted[kept]
    routings = None
    if trace is not None:
        _check_routing(case)
        routings = routings_of(case, every, chunks, trace, placement, note, progress)
        accepted = accepted & (routings.index[:, :1] >= 0)
        notes = (*notes, routings.note) if routings.note else notes
    elif placement is not None:
        raise InputError("placement: says nothing without a trace; give one, or leave it out")
    grid = Grid(every, tuple(batches), choices, tuple(chunks), accepted, routings)
    results = grid.estimates(case, progress)
    columns = {name: np.asarray(column) for name, column in metrics_of(results).items()}
    fits = np.asarray(results.memory.fits) & np.isfinite(results.end_to_end)
    if not fits.any():
        raise NoSolution(_what_would_fit(case, min(batches), choices))
    between = columns["tpot"]
    if results.mixed_tpot is not None:
        between = np.where(grid.chunked, results.mixed_tpot, between)
    targets = {"ttft": ttft, "tpot": tpot}
    limits = Limits({"ttft": columns["ttft"], "tpot": between}, fits, targets)
    meets = limits.met
    if not meets.any():
        raise NoSolution(limits.closest())
    for condition in conditions:
        meets = meets & np.asarray(condition(lambda name: (columns | grid.columns)[name]), bool)
    if not meets.any():
        raise NoSolution(
            f"{int(limits.met.sum()):,} deployments fit and meet the targets, none where "
            f"{' and '.join(where)}; loosen a condition"
        )
    kernels = _kernels(case, grid)
    ranked = grid.in_formats(timed_alike(kernels))
    order, apart = (
        _ordered(np.flatnonzero(meets & which), columns, sort) for which in (ranked, ~ranked)
    )
    if not len(order):
        raise NoSolution(
            "only deployments in formats without measured kernels meet the targets; ask for these "
            'formats alone (precisions), or for bounds of all (load_platform(..., fit="none"))'
        )
    deployments = grid.deployments(order, results, case, kernels)
    return Search(
        len(fits),
        int(fits.sum()),
        deployments,
        grid.deployments(apart, results, case, kernels),
        limits.at(grid.at_next_batch(int(order[0])), grid.columns["batch"], columns, sort),
        _by_format(choices, kernels),
        (*notes, *slower_formats(deployments, sort)),
    )


def _by_format(
    choices: Sequence[Precision], kernels: Sequence[dict[str, str]]
) -> dict[str, dict[str, str]]:
    """What times the kernels, by the format of linear layers, and of the cache where that matters.

    Arguments:
        choices: the formats.
        kernels: what times the kernels of each.
    """
    found: dict[str, dict[str, str]] = {}
    for precision, own in zip(choices, kernels, strict=True):
        name = precision.linear_format
        if found.setdefault(name, own) != own:
            found[f"{name}, KV cache {precision.names['kv_cache']}"] = own
    return found


def _condition(text: str) -> Expression:
    """The formula of a condition on deployments."""
    condition = Expression(text)
    known = {*METRICS, *RANKS, "batch", "chunk"}
    for name in condition.names:
        if name not in known:
            raise unknown("where", name, known)
    if not condition.conditional:
        raise InputError(f'where: {text!r} is a number; write a condition such as "{text} <= 8"')
    return condition


def _ordered(numbers: np.ndarray, columns: dict[str, np.ndarray], sort: str) -> np.ndarray:
    """Some combinations, the best first."""
    if sort not in columns:
        raise InputError(f"sort: {sort} needs {METRICS[sort].needs}")
    values = columns[sort][numbers]
    return numbers[np.argsort(-values if METRICS[sort].more else values, kind="stable")]


def _kernels(case: Scenario, grid: Grid) -> list[dict[str, str]]:
    """What times the kernels of each format of a search, and the collectives of all its plans."""
    last = jax.tree.map(lambda leaf: leaf[-1], grid.plans)
    ranks = grid.plans
    several = {
        axis
        for axis, count in (
            (Axis.TENSOR, ranks.tensor),
            (Axis.CONTEXT, 1.0 if ranks.context is None else ranks.context),
            (Axis.EXPERT, ranks.groups),
            (Axis.PIPELINE, ranks.pipeline),
        )
        if np.max(count) > 1
    }
    runs: dict[bool, Run] = {}
    found = []
    for precision in grid.precisions:
        its = case.replace(precision=precision, plan=last)
        compressed = precision.gear is not None
        if compressed not in runs:
            runs[compressed] = run_by(its)
        found.append(sources_of(its, runs[compressed], several))
    return found


def _check(
    ttft: float | None,
    tpot: float | None,
    batches: Sequence[float],
    chunks: Sequence[float | None],
) -> None:
    for name, value in (("ttft", ttft), ("tpot", tpot)):
        if value is not None and (isinstance(value, str) or not value > 0):
            raise InputError(
                f"{name}: {value!r} is not allowed; it must be seconds above 0, or left out"
            )
    if not len(batches):
        raise InputError("batches: none to try; give at least one")
    check("batches", batches, minimum=1)
    check_whole("batches", batches, "requests")
    if not len(chunks):
        raise InputError("chunks: none to try; give at least one, or None for whole prompts")
    sizes = [chunk for chunk in chunks if chunk is not None]
    check("chunks", sizes, minimum=1, remedy="use None for whole prompts")
    check_whole("chunks", sizes, "tokens")


def _check_routing(case: Scenario) -> None:
    """Raise `InputError` if a scenario that is searched with a trace has a routing already."""
    if not isinstance(case.routing, Uniform):
        raise InputError(
            "routing: the scenario has one, and a trace gives each plan its own; leave one out"
        )


def _plans(case: Scenario) -> Parallelism:
    """All plans of the scenario that have room for its draft model."""
    every, draft = plans(case.model, case.platform), case.serving.draft
    if not isinstance(draft, Draft) or draft.platform is not None:
        return every
    enough = np.asarray(every.replica_group * every.pipeline >= draft.tensor)
    return jax.tree.map(lambda leaf: leaf[enough], every)


def _what_would_fit(case: Scenario, batch: float, choices: Sequence[Precision]) -> str:
    """That nothing fits, and how few accelerators would hold it in the narrowest formats."""
    narrowest = min(choices, key=lambda choice: float(choice.weight_size + choice.kv_cache_size))
    count, name = int(case.platform.accelerators), case.platform.accelerator.name
    start = (
        f"nothing fits: {case.model.name} on {count} x {name}, in any plan, batch and format tried"
    )
    layout = smallest_layout(
        case.replace(workload=case.workload.replace(batch=batch), precision=narrowest)
    )
    if layout is None:
        return f"{start}; nor on more of them: use shorter sequences or a larger accelerator"
    plan = layout.plan
    context = "" if plan.context is None else f", cp {int(plan.context)}"
    return (
        f"{start}; {int(plan.ranks)} would hold it "
        f"({narrowest.summary}; tp {int(plan.tensor)}{context}, pp {int(plan.pipeline)})"
    )
