"""`search`: which deployment serves a workload best.

All plans x batch sizes x formats x chunk sizes are estimated in one call.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.checks import check, check_whole
from diffgenz.core.errors import InputError, NoSolution
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.scenario.serving_options import Draft
from diffgenz.studies.search.deployment import Deployment
from diffgenz.studies.search.formats import formats_for
from diffgenz.studies.search.grid import Grid
from diffgenz.studies.search.plans import plans
from diffgenz.studies.search.smallest_layout import smallest_layout

BATCHES = tuple(float(2**power) for power in range(13))
"""Requests in flight over all replicas that a search tries: 1 to 4096."""


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

        def slowness(deployment: Deployment) -> tuple[float, float]:
            metrics = deployment.metrics
            user, accelerator = (
                metrics[f"tokens_per_second_per_{who}"] for who in ("user", "accelerator")
            )
            return -(user or 0.0), -(accelerator or 0.0)

        front: list[Deployment] = []
        for deployment in sorted(self.deployments, key=slowness):
            if not front or slowness(deployment)[1] < slowness(front[-1])[1]:
                front.append(deployment)
        return front


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
        chunks: prompt tokens of one iteration of an attention group; None for whole prompts. Beside
            chunks, a whole prompt is a chunk of any length (memory then has room for the decodes
            that run with it).

    Raises:
        InputError: a target, batch or chunk that is not positive, and what `Scenario` refuses.
        NoSolution: nothing fits, or what fits misses the targets; it says what comes closest.
    """
    _check(case, ttft, tpot, batches, chunks)
    bounds = _without_kernels(case)
    accelerator = case.platform.accelerator
    choices = formats_for(accelerator) if precisions is None else tuple(precisions)
    grid = Grid(_plans(case), tuple(batches), choices, tuple(chunks))
    results = grid.estimates(bounds)
    fits = np.asarray(results.memory.fits & jnp.isfinite(results.end_to_end))
    if not fits.any():
        raise NoSolution(_what_would_fit(bounds, min(batches), choices))
    between = np.asarray(results.tpot)
    if results.mixed_tpot is not None:
        between = np.where(grid.chunked, results.mixed_tpot, between)
    times = {"ttft": np.asarray(results.ttft), "tpot": between}
    targets = {"ttft": ttft, "tpot": tpot}
    meets = fits.copy()
    for name, target in targets.items():
        if target is not None:
            meets &= times[name] <= target
    if not meets.any():
        raise NoSolution(_closest(times, fits, targets))
    order = np.flatnonzero(meets)
    speed = np.asarray(results.tokens_per_second_per_accelerator)[order]
    order = order[np.argsort(-speed, kind="stable")]
    return Search(len(fits), int(fits.sum()), grid.deployments(order, results, case))


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


def _without_kernels(case: Scenario) -> Scenario:
    """The scenario with all its kernels timed by the roofline, those of a draft model too."""
    case = eqx.tree_at(
        lambda c: c.platform.accelerator.kernels, case, None, is_leaf=lambda x: x is None
    )
    draft = case.serving.draft
    if not isinstance(draft, Draft) or draft.platform is None:
        return case
    return eqx.tree_at(
        lambda c: c.serving.draft.platform.accelerator.kernels,
        case,
        None,
        is_leaf=lambda x: x is None,
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


def _closest(
    times: dict[str, np.ndarray], fits: np.ndarray, targets: dict[str, float | None]
) -> str:
    """That nothing meets the targets, and what comes closest to each of them.

    For each target it is the lowest time of the deployments that meet the other; where none does,
    the lowest time of that other one.
    """
    parts = []
    for name, target in targets.items():
        if target is None:
            continue
        other = next(each for each in targets if each != name)
        limit = targets[other]
        within = fits if limit is None else fits & (times[other] <= limit)
        if within.any():
            best = times[name][within].min()
            given = "" if limit is None else f" at a {other} of {limit * 1e3:g} ms"
            parts.append(
                f"the lowest {name} is {best * 1e3:.3g} ms{given}, {target * 1e3:g} was asked for"
            )
        else:
            best, asked = times[other][fits].min(), 1e3 * (limit or 0)
            parts.append(
                f"the lowest {other} at all is {best * 1e3:.3g} ms, {asked:g} was asked for"
            )
    distinct = "; ".join(dict.fromkeys(parts))
    return f"{int(fits.sum()):,} deployments fit, none meets the targets: {distinct}"
