"""`search_under_load`: which deployment serves a load best, each row answered by `serve`."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from diffgenz.core.errors import InputError, NoSolution
from diffgenz.inference.timed_by import timed_by
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario, demand_scenario
from diffgenz.serving.load import Engine, Load
from diffgenz.serving.load_result import LoadResult
from diffgenz.serving.objectives import KINDS, Objectives
from diffgenz.serving.serve import serve
from diffgenz.studies.search.acceptance import accepted_by_engines
from diffgenz.studies.search.deployment import RANKS
from diffgenz.studies.search.formats import formats_of, timed_alike
from diffgenz.studies.search.plans import plans

_DIGITS = 3
"""Digits of goodput that tell deployments apart: those that are alike to so many, as all are whose
users are content, are told apart by the load that they could still take."""


@dataclasses.dataclass(frozen=True)
class ServedDeployment:
    """One way to serve a load, and what its users see.

    Arguments:
        scenario: the deployment; `serve` of it is `result`.
        result: its figures under the load.
    """

    scenario: Scenario
    result: LoadResult

    @functools.cached_property
    def kernels(self) -> dict[str, str]:
        """What times its kernels (`timed_by`)."""
        return timed_by(self.scenario)

    @property
    def served(self) -> float:
        """Requests/s that meet the objectives, or without objectives all that are served."""
        r = self.result
        return float(r.requests_per_second if r.goodput is None else r.goodput)


@dataclasses.dataclass(frozen=True)
class LoadSearch:
    """What a search under load found.

    Arguments:
        tried: deployments that engines accept.
        sustaining: those that sustain the load.
        deployments: those that also meet the objectives, the best first.
        apart: those that do, in formats of which the roofline times kernels that are measured in
            other formats; they are not ranked with the others.
        refused: why others do not sustain it, and how many there are of each reason.
        notes: what to know of the formats.
    """

    tried: int
    sustaining: int
    deployments: list[ServedDeployment]
    apart: list[ServedDeployment]
    refused: dict[str, int]
    notes: tuple[str, ...]


def search_under_load(
    case: Scenario,
    load: Load,
    objectives: Objectives | None = None,
    *,
    of: str = "p90",
    engine: Engine | None = None,
    precisions: Sequence[Precision] | None = None,
    chunks: Sequence[float] | None = None,
    any_layout: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> LoadSearch:
    """Every plan that uses all accelerators, in all formats and chunk sizes, under one load.

    The best has the highest goodput: requests/s that meet all objectives (without objectives, that
    are served). Of deployments whose goodput agrees to three digits, the one that saturates last is
    the better one. Those that saturate or preempt under the load are left out.

    Arguments:
        case: the question; its batch, plan and formats are what is searched.
        load: how requests come.
        objectives: the limits that goodput counts requests within. Default: there are none.
        of: which of the "mean", "p50", "p90" or "p99" of each latency has to be within its limit.
        engine: what the servers are set to. Default: `Engine()`.
        precisions: formats. Default: as of `search`.
        chunks: prompt tokens of one iteration. Default: the scenario's own.
        any_layout: whether to try plans, too, that no engine accepts.
        progress: called with the deployments done and their number, again and again.

    Raises:
        InputError: an unknown `of`, no chunk size, and what `serve` refuses of every deployment.
        NoSolution: no engine accepts any plan, none sustains the load, or those that do miss the
            objectives; it says what comes closest.
    """
    demand_scenario(case)
    if of not in KINDS:
        raise InputError(f"of: {of!r} is not known; use one of {', '.join(KINDS)}")
    sizes = [case.serving.chunk] if chunks is None else list(chunks)
    if not sizes:
        raise InputError("chunks: none to try; give at least one")
    notes: tuple[str, ...] = ()
    if precisions is None:
        precisions, notes = formats_of(case.model, case.platform.accelerator)
    cases = list(_deployments(case, precisions, sizes, any_layout))
    found: list[ServedDeployment] = []
    refused: Counter[str] = Counter()
    for done, each in enumerate(cases):
        if progress is not None:
            progress(done, len(cases))
        try:
            result = serve(each, load, engine, objectives)
        except InputError as error:
            refused[_reason(str(error))] += 1
            continue
        if bool(result.preempts):
            refused["the cache overflows, and requests would be preempted"] += 1
            continue
        found.append(ServedDeployment(each, result))
    if progress is not None:
        progress(len(cases), len(cases))
    if not found:
        raise NoSolution(f"no deployment sustains the load: {_told(refused)}; lower the load")
    meeting = [each for each in found if _misses(each.result, objectives, of) <= 0]
    if not meeting:
        assert objectives is not None  # without any, none is missed
        closest = min(found, key=lambda each: _misses(each.result, objectives, of))
        raise NoSolution(
            f"{len(found):,} deployments sustain the load, none meets the objectives: the closest "
            f"has {_latencies(closest.result, objectives, of)}; loosen one, or lower the load"
        )
    meeting.sort(key=_rank, reverse=True)
    ranked, apart = _timed_apart(meeting)
    return LoadSearch(len(cases), len(found), ranked, apart, dict(refused), notes)


def _deployments(
    case: Scenario,
    precisions: Sequence[Precision],
    chunks: Sequence[object],
    any_layout: bool,
) -> Iterator[Scenario]:
    """Every combination of a plan, formats and a chunk size that engines accept."""
    every = plans(case.model, case.platform)
    accepted = np.ones((every.tensor.size, len(precisions)), bool)
    if not any_layout:
        accepted = accepted_by_engines(case, every, precisions)
    for row, column in zip(*np.nonzero(accepted), strict=True):
        plan = jax.tree.map(lambda leaf, at=row: float(np.asarray(leaf)[at]), every)
        ranks = {name: getattr(plan, name) for name in RANKS if getattr(plan, name) is not None}
        for chunk in chunks:
            yield case.replace(
                plan=Parallelism(**ranks),
                precision=precisions[column],
                serving=case.serving.replace(chunk=chunk, mixed=False),
            )


def _timed_apart(
    meeting: Sequence[ServedDeployment],
) -> tuple[list[ServedDeployment], list[ServedDeployment]]:
    """Those in formats that can be ranked together (`timed_alike`), and the rest."""
    kernels: dict[str, dict[str, str]] = {}
    for each in meeting:
        kernels.setdefault(each.scenario.precision.summary, {}).update(each.kernels)
    alike = dict(zip(kernels, timed_alike(list(kernels.values())), strict=True))
    ranked = [each for each in meeting if alike[each.scenario.precision.summary]]
    return ranked, [each for each in meeting if not alike[each.scenario.precision.summary]]


def _reason(said: str) -> str:
    """Why `serve` refuses, without the numbers of one deployment."""
    if said.startswith("rate:"):
        return "the rate is beyond saturation"
    if said.startswith("memory:"):
        return "the weights leave no room for the KV cache of one request"
    return said


def _told(refused: Counter[str]) -> str:
    return "; ".join(f"of {count:,}, {why}" for why, count in refused.most_common())


def _misses(result: LoadResult, objectives: Objectives | None, of: str) -> float:
    """By how much the latency that misses its limit most, or is nearest to it, exceeds it."""
    limits = {} if objectives is None else objectives.limits
    found = [float(getattr(getattr(result, name), of)) / float(limits[name]) - 1 for name in limits]
    return max(found, default=0.0)


def _latencies(result: LoadResult, objectives: Objectives, of: str) -> str:
    """A deployment's latencies beside their limits, for people."""
    return " and ".join(
        f"a {of} {name} of {1e3 * float(getattr(getattr(result, name), of)):.3g} ms "
        f"({1e3 * float(limit):g} was asked for)"
        for name, limit in objectives.limits.items()
    )


def _rank(each: ServedDeployment) -> tuple[float, float]:
    return float(f"{each.served:.{_DIGITS}g}"), float(each.result.saturation_rate)
