"""`best_pools`: how many workers shall prefill, and how many decode, of so many accelerators.

Counts are whole, so that all of them are tried, those first that the slowest stage alone lets
expect most of, until none of the rest can be better.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import check, demand
from diffgenz.core.differences import as_double, in_double
from diffgenz.core.errors import InputError, NoSolution
from diffgenz.core.smooth import Leaf
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.resolved import resolved
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.bisection import last_where
from diffgenz.serving.disaggregated_load import (
    Link,
    figures_of,
    means_of_pools,
    pools_of,
    refuse_in_pools,
)
from diffgenz.serving.disaggregation import Pool
from diffgenz.serving.figures import added_by
from diffgenz.serving.limits import LOWEST, checked_kind, max_rate
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.objectives import Objectives
from diffgenz.serving.open_loop import NEAR
from diffgenz.serving.pools import Pools
from diffgenz.serving.serve import checked

PER = ("accelerator", "cost", "total")
"""What the highest rate is divided by, for the best split to have most of it; "total": by 1."""

_STEPS = 20
"""Bisections: they leave a ratio of 1 + 1e-5."""


class Split(NamedTuple):
    """Workers of either pool, and what they serve.

    Arguments:
        prefill: how many prefill.
        decode: how many decode.
        accelerators: of all of them.
        rate: requests/s at most, within the objectives.
        aggregated: requests/s at most where each of the same workers does both, within the same
            objectives; 0 where it cannot.
        cost: USD/s of all accelerators; None where one has no price.
    """

    prefill: int
    decode: int
    accelerators: int
    rate: float
    aggregated: float
    cost: float | None

    def per(self, what: str) -> float:
        """Requests/s for each accelerator, for each USD/s, or of all."""
        if what == "total":
            return self.rate
        return self.rate / (self.accelerators if what == "accelerator" else self.cost or np.inf)


def best_pools(
    case: Scenario,
    objectives: Objectives,
    prefill: Pool,
    decode: Pool,
    *,
    accelerators: int,
    link_bandwidth: Leaf | float,
    link_latency: Leaf | float = 0.0,
    load: Load | None = None,
    engine: Engine | None = None,
    of: str = "mean",
    per: str = "accelerator",
) -> tuple[Split, ...]:
    """Splits of some accelerators into a prefill and a decode pool, the best first.

    Of what is left out it is known that the best is better.

    Arguments:
        case: the question, as of `serve_disaggregated`.
        objectives: limits of latencies.
        prefill: a prefill worker; how many there are does not count.
        decode: a decode worker.
        accelerators: how many there are for all workers together, at most.
        link_bandwidth, link_latency, engine: as of `serve_disaggregated`.
        load: how requests come; its rate does not count. Default: Poisson arrivals, all alike.
        of: what the limits are for: the "mean", "p50", "p90" or "p99".
        per: whether the highest rate counts for each "accelerator", for each USD ("cost"), or of
            all together ("total").

    Raises:
        InputError: fewer accelerators than one worker of each kind needs, accelerators without a
            price, and what `serve_disaggregated` refuses but for a rate.
        NoSolution: no split meets the objectives, even where it is all but idle.
    """
    checked_kind(of)
    if per not in PER:
        raise InputError(f"per: {per!r} is not known; use one of {', '.join(PER)}")
    demand("objectives", objectives, Objectives, "Objectives(ttft=0.5, tpot=0.05)")
    check("link_bandwidth", link_bandwidth, exclusive=True, finite=False)
    check("link_latency", link_latency)
    load = Load(rate=1.0) if load is None else load
    if load.rate is None:
        raise InputError("concurrency: pools are modelled at a rate; give Load(rate=...)")
    pair = prefill, decode
    cases = [case.replace(platform=each.platform, plan=each.plan) for each in pair]
    engines = [checked(each, load, engine, objectives) for each in cases]
    refuse_in_pools(case, engines[0])
    sizes = [int(each.plan.ranks) for each in pair]
    if accelerators < sum(sizes):
        raise InputError(
            f"accelerators: {accelerators} are too few; a worker of each pool takes "
            f"{sizes[0]} + {sizes[1]}"
        )
    prices = [each.platform.accelerator.price for each in pair]
    known = [float(price) for price in prices if price is not None]
    known = known if len(known) == len(prices) else []
    if per == "cost" and not known:
        raise InputError("per: an accelerator has no price; set Accelerator.price")
    with in_double(), as_if_traced():
        link = Link(xp.asarray(link_bandwidth, float), xp.asarray(link_latency, float))
        asked = as_double(([resolved(each) for each in cases], load, engines[0]))
        (first, second), doubled, settings = asked
        pools, fit = pools_of((first, second), (xp.ones(()), xp.ones(())), link, doubled, settings)
    if not fit >= 1:
        raise InputError("memory: a pool has no room for the KV cache of one request")
    alone = [_aggregated(each, objectives, load, engine, of) for each in cases]

    def of_counts(p: int, d: int, rate: float) -> Split:
        cost = None
        if known:
            cost = sum(n * s * c for n, s, c in zip((p, d), sizes, known, strict=True))
        total = p * sizes[0] + d * sizes[1]
        return Split(p, d, total, rate, p * alone[0] + d * alone[1], cost)

    counts = [
        (p, d)
        for p in range(1, (accelerators - sizes[1]) // sizes[0] + 1)
        for d in range(1, (accelerators - p * sizes[0]) // sizes[1] + 1)
    ]
    promise = doubled, as_double(objectives)
    return _ranked(pools, counts, of_counts, promise, of, per)


def _ranked(
    pools: Pools,
    counts: Sequence[tuple[int, int]],
    split: Callable[[int, int, float], Split],
    promise: tuple[Load, Objectives],
    of: str,
    per: str,
) -> tuple[Split, ...]:
    """The splits that may be the best, the best first; arguments as in `best_pools`.

    Arguments:
        pools: of one worker each.
        counts: workers of each split.
        split: from workers and a rate to the split.
        promise: the load and the objectives.
        of, per: as there.
    """
    with as_if_traced():
        each = np.asarray(pools.sustained, np.float64)
        bounds = [
            split(p, d, float(min(each[0] * p, each[1], each[2] * d))).per(per) for p, d in counts
        ]
        found: list[Split] = []
        for place in np.argsort(-np.asarray(bounds), kind="stable"):
            if found and bounds[place] <= max(one.per(per) for one in found):
                break
            p, d = counts[place]
            rate = _highest(_of_workers(pools, p, d), *promise, of)
            if rate > 0:
                found.append(split(p, d, rate))
    if not found:
        raise NoSolution(
            "objectives: no split meets them, even where it is all but idle; loosen them, or take "
            "faster workers or a faster link"
        )
    return tuple(sorted(found, key=lambda one: -one.per(per)))


def _of_workers(pools: Pools, prefill: int, decode: int) -> Pools:
    """The pools with so many times their engines."""
    return eqx.tree_at(
        lambda p: (p.prefills, p.decodes),
        pools,
        (pools.prefills * prefill, pools.decodes * decode),
    )


def _highest(pools: Pools, load: Load, objectives: Objectives, of: str) -> float:
    """The highest rate within the objectives; 0 where there is none."""
    most = float(np.min(pools.sustained))

    def holds(rate: Any) -> bool:
        asked, limits = load.replace(rate=rate), objectives.limits.items()
        if of == "mean":
            _, means = means_of_pools(pools, asked)
            means = added_by(pools.host, means, pools.demand.steps).to(means)
            return all(bool(getattr(means, name) <= limit) for name, limit in limits)
        result = figures_of(pools, asked, None).result
        return all(bool(getattr(getattr(result, name), of) <= limit) for name, limit in limits)

    low, high = np.float64(LOWEST * most), np.float64(NEAR * most)
    if not holds(low):
        return 0.0
    return float(high if holds(high) else last_where(holds, low, high, _STEPS))


def _aggregated(
    case: Scenario, objectives: Objectives, load: Load, engine: Engine | None, of: str
) -> float:
    """The highest rate of a worker that does both; 0 where it cannot."""
    try:
        return float(max_rate(xp.of_numpy(case), objectives, load, engine, of))
    except InputError:
        return 0.0
