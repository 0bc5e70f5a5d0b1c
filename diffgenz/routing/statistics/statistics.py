"""All statistics of a trace, or of counts."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.source import Source
from diffgenz.routing.statistics.coactivation import across, within
from diffgenz.routing.statistics.imbalance import batches, imbalance
from diffgenz.routing.statistics.measured import Measured, mean_of
from diffgenz.routing.statistics.phases import by_request, pooled
from diffgenz.routing.statistics.similarity import plain, similarity
from diffgenz.routing.statistics.tally import GROUPS, WINDOWS, Tally, tally_of
from diffgenz.routing.trace import DECODE, PHASES, PREFILL, Counts, Trace


@dataclasses.dataclass(frozen=True, eq=False)
class RoutingStatistics:
    """What a trace says of its experts.

    Arguments:
        model: the model's name; None: not known.
        experts: routed experts per layer.
        k: how many experts a token chooses; None: not known.
        layers: the model's indices of the layers.
        tokens: by phase, of those that there are; None in it: not known, only choices are.
        requests: how many; None: not known.
        domains: the names of the domains, where there are several.
        counts: by phase, [layers, experts]: how often each expert was chosen.
        load: by phase, the measures of `imbalance.py` by name.
        batches: by tokens of a batch, the measures of random batches (of decode, if there is any).
        windows: the measure max/mean of each window of time, and "successive" and "ends": the
            cosine of successive windows (their mean), and of the first and the last.
        similarity: by pair of domains, "cosine" and "JS".
        phases: "pooled" and "request": the correlations of prefill and decode.
        lengths: mean tokens of a request's prefill and decode that "request" was computed at.
        coactivation: "within" and "next": the lifts of pairs of experts.
        sampled: how many tokens batches and co-activation were computed from.
    """

    model: str | None
    experts: int
    k: int | None
    layers: tuple[int, ...]
    tokens: dict[str, int | None]
    requests: int | None
    domains: tuple[str, ...]
    counts: dict[str, np.ndarray]
    load: dict[str, dict[str, Measured]]
    batches: dict[int, dict[str, Measured]]
    windows: dict[str, Measured]
    similarity: dict[tuple[str, str], dict[str, Measured]]
    phases: dict[str, Measured]
    lengths: tuple[float, float] | None
    coactivation: dict[str, Measured]
    sampled: int

    def data(self) -> dict[str, Any]:
        """It as JSON."""

        def all_of(found: dict[Any, Measured]) -> dict[str, Any]:
            return {str(name): each.data() for name, each in found.items()}

        return {
            "model": self.model,
            "experts": self.experts,
            "k": self.k,
            "layers": list(self.layers),
            "tokens": self.tokens,
            "requests": self.requests,
            "domains": list(self.domains),
            "counts": {phase: counts.tolist() for phase, counts in self.counts.items()},
            "load": {phase: all_of(found) for phase, found in self.load.items()},
            "batches": {str(size): all_of(found) for size, found in self.batches.items()},
            "windows": all_of(self.windows),
            "similarity": [
                {"domains": list(pair), **all_of(found)} for pair, found in self.similarity.items()
            ],
            "phases": all_of(self.phases),
            "lengths": None if self.lengths is None else list(self.lengths),
            "coactivation": all_of(self.coactivation),
            "sampled": self.sampled,
        }


def routing_statistics(
    trace: Trace | Source | Counts,
    *,
    seed: int = 0,
    told: Callable[[str], None] | None = None,
) -> RoutingStatistics:
    """Statistics of expert activations, each with a 95 % interval and a null.

    Intervals come from drawing requests again; a statistic has none, or is left out, where requests
    are too few or were not recorded. Definitions and nulls stand in docs/routing.md.

    Arguments:
        trace: tokens in memory, files opened by `open_trace` (which may be larger than memory), or
            counts.
        seed: of the random numbers; the same seed gives the same statistics.
        told: called with how far it is, now and then.

    Raises:
        InputError: a file is damaged, there are no tokens, or a domain has none.
    """
    rng = np.random.default_rng(seed)
    if isinstance(trace, Counts):
        return _of_counts(trace, rng)
    if isinstance(trace, Trace):
        together = trace.together()
        numbers = np.unique(together.request, return_inverse=True)[1]
        dense = dataclasses.replace(together, request=numbers)
        chunks: Iterable[Trace] = _parts(dense)
    else:
        chunks = trace.chunks()
    if told is not None:
        chunks = _telling(chunks, told)
    tally = tally_of(chunks, trace.experts, len(trace.layers), trace.k, len(trace.domains), seed)
    return _of_tally(tally, trace, rng)


def _parts(trace: Trace) -> Iterator[Trace]:
    """A trace in memory, some tokens at a time."""
    rows = max((1 << 22) // (len(trace.layers) * trace.k), 1)
    for first in range(0, trace.tokens, rows):
        yield trace.select(slice(first, first + rows))


def _telling(chunks: Iterable[Trace], told: Callable[[str], None]) -> Iterator[Trace]:
    """The chunks, and how many tokens were read so far."""
    tokens, requests = 0, 0
    for chunk in chunks:
        yield chunk
        tokens += chunk.tokens
        requests = int(chunk.request.max(initial=0)) + 1
        told(f"{tokens:,} tokens of {requests:,} requests read")


def _of_tally(tally: Tally, trace: Trace | Source, rng: np.random.Generator) -> RoutingStatistics:
    """The statistics of what was tallied."""
    if not tally.tokens.sum():
        raise InputError("trace: has no tokens; record while requests are served")
    empty = [n for n, t in zip(trace.domains, tally.tokens.sum(axis=0), strict=True) if not t]
    if empty:
        raise InputError(f"domain: {empty[0]!r} has no tokens; leave out empty domains")
    there = [phase for phase in (PREFILL, DECODE) if tally.tokens[phase].any()]
    by_phase = tally.counts.sum(axis=1)
    chosen, group, request, phase = tally.sample()
    rows = phase == there[-1]
    k = tally.k
    pairs = [(a, b) for b in range(len(trace.domains)) for a in range(b)]
    alike = similarity(tally.counts.sum(axis=0), pairs, rng) if pairs else []
    phases = {"pooled": pooled(by_phase, rng), "request": by_request(tally.phases, rng)}
    lengths = None
    if phases["request"] is not None:
        prompt, made = tally.phases.lengths.sum(axis=0) / tally.phases.count.sum()
        lengths = (float(prompt), float(made))
    lifts = {
        "within": within(chosen, group, GROUPS, tally.experts, rng),
        "next": across(chosen, group, GROUPS, tally.experts, rng),
    }
    return RoutingStatistics(
        model=trace.model,
        experts=tally.experts,
        k=k,
        layers=trace.layers,
        tokens={PHASES[p]: int(tally.tokens[p].sum()) for p in there},
        requests=tally.requests,
        domains=trace.domains if len(trace.domains) > 1 else (),
        counts={PHASES[p]: by_phase[p].sum(axis=0) for p in there},
        load={PHASES[p]: imbalance(by_phase[p], k, rng) for p in there},
        batches=batches(chosen[rows], request[rows], group[rows], tally.experts, rng),
        windows=_stability(tally.windows, k, rng),
        similarity={
            (trace.domains[a], trace.domains[b]): found
            for (a, b), found in zip(pairs, alike, strict=True)
        },
        phases={name: each for name, each in phases.items() if each is not None},
        lengths=lengths,
        coactivation={name: each for name, each in lifts.items() if each is not None},
        sampled=len(chosen),
    )


def _stability(windows: np.ndarray, k: int | None, rng: np.random.Generator) -> dict[str, Measured]:
    """Load of windows of time, and how alike they are.

    Arguments:
        windows: [windows, groups, layers, experts]; counts. Empty ones are at the end.
        k: how many experts a token chooses.
        rng: of the draws.
    """
    used = np.flatnonzero(windows.any(axis=(1, 2, 3)))
    if len(used) < 2:
        return {}
    windows = windows[used]
    if len(windows) >= 8:  # halves of 8 to 16: 4 to 8 windows have tokens enough each
        even = len(windows) // 2 * 2
        windows = np.concatenate(
            [windows[0 : even - 2 : 2] + windows[1 : even - 2 : 2], [windows[even - 2 :].sum(0)]]
        )
    pairs = [(i, i + 1) for i in range(len(windows) - 1)]
    found = similarity(windows, [*pairs, (0, len(windows) - 1)], rng)
    loads = [imbalance(window, k, rng)["max/mean"] for window in windows]
    mean = [each["cosine"] for each in found[:-1]]
    return {
        "successive": mean_of(mean),
        "ends": found[-1]["cosine"],
        "max/mean": mean_of(loads),
    }


def _of_counts(counts: Counts, rng: np.random.Generator) -> RoutingStatistics:
    """The statistics of counts: those that need no tokens."""
    name = "all" if counts.phase is None else PHASES[counts.phase]
    number, layers, experts = counts.counts.shape
    units = np.zeros((GROUPS, layers, experts))
    windows = np.zeros((WINDOWS, GROUPS, layers, experts))
    drawn_again = counts.by in ("request", "step") and number > 1
    place = rng.permutation(number) % GROUPS if drawn_again else np.zeros(number, np.int64)
    np.add.at(units, place, counts.counts)
    if counts.by == "step" and number >= 2 * WINDOWS:
        np.add.at(windows, (np.arange(number) * WINDOWS // number, place), counts.counts)
    pairs = [(a, b) for b in range(number) for a in range(b)] if counts.by == "domain" else []
    both = counts.by == "phase" and number == 2
    phases = pooled(counts.counts[:, None], rng) if both else None
    alike = [plain(counts.counts[a], counts.counts[b], rng) for a, b in pairs]
    return RoutingStatistics(
        model=counts.model,
        experts=experts,
        k=counts.k,
        layers=counts.layers,
        tokens={name: None if counts.k is None else int(units.sum() / layers / counts.k)},
        requests=number if counts.by == "request" else None,
        domains=counts.groups if counts.by == "domain" else (),
        counts={name: units.sum(axis=0)},
        load={name: imbalance(units, counts.k, rng)},
        batches={},
        windows=_stability(windows, counts.k, rng),
        similarity={
            (counts.groups[a], counts.groups[b]): found
            for (a, b), found in zip(pairs, alike, strict=True)
        },
        phases={} if phases is None else {"pooled": phases},
        lengths=None,
        coactivation={},
        sampled=0,
    )
