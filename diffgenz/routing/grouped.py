"""Requests in groups, one for each node: learned from some requests, kept for others.

Requests of a training half are grouped by what they use while decoding; experts are placed for
these groups; and a new request goes to the node that suits its prompt (`grouping.py`).
"""

import dataclasses

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.grouping import (
    Drift,
    balanced_kmeans,
    drift,
    fit_router,
    kept,
    oracle,
    signatures,
)
from diffgenz.routing.placement import Placement
from diffgenz.routing.trace import DECODE, PREFILL, Trace


def with_both_phases(trace: Trace) -> Trace:
    """The requests that have a prompt and an answer.

    Arguments:
        trace: what was recorded.

    Raises:
        InputError: fewer than two requests do.
    """
    has = [set(trace.request[trace.phase == phase].tolist()) for phase in (PREFILL, DECODE)]
    both = sorted(has[0] & has[1])
    if len(both) < 2:
        raise InputError(
            f"trace: {len(both)} of its {len(trace.requests)} requests have both prompt and "
            "generated tokens, by which requests are grouped; record both phases"
        )
    return trace if len(both) == len(trace.requests) else trace.select(requests=both)


def group_requests(train: Trace, nodes: int, seed: int = 0) -> np.ndarray:
    """The group of each request, [requests], in groups of equally many requests and tokens.

    Requests are grouped by what they use while decoding.

    Arguments:
        train: requests with both phases.
        nodes: how many groups.
        seed: of the random numbers.
    """
    counts = train.counts(phase=DECODE)
    tokens = counts.sum((1, 2))
    return balanced_kmeans(signatures(counts), nodes, tokens, seed=seed)


def sent(train: Trace, test: Trace, placement: Placement) -> np.ndarray:
    """The node of each request of a test, [requests], by its prompt; nodes get equally many.

    Arguments:
        train: the requests that experts were placed for, with both phases.
        test: others, with both phases.
        placement: where the experts are.
    """
    prefill, decode = (train.counts(phase=phase) for phase in (PREFILL, DECODE))
    return fit_router(prefill, decode, placement).assigned(test.counts(phase=PREFILL))


@dataclasses.dataclass(frozen=True, eq=False)
class Grouping:
    """How well requests are grouped: the parts of decodes that their own node serves.

    Arguments:
        chance: with requests spread at random.
        prompts: when all prompts are known, in equal groups.
        online: when requests are sent one by one as they come.
        known: when decodes are known: the oracle.
        drift: of the later half of the tested requests against the earlier.
        domains: the part that prompts keep, by domain.
    """

    chance: float
    prompts: float
    online: float
    known: float
    drift: Drift
    domains: dict[str, float]


def grouping_of(
    train: Trace, test: Trace, placement: Placement, *, band: float = 0.1, seed: int = 0
) -> Grouping:
    """How well requests are grouped on a placement.

    Arguments:
        train: the requests that experts were placed for, with both phases.
        test: others, with both phases.
        placement: where the experts are.
        band: how many more requests than the mean a node may have when they are sent one by one.
        seed: of the random numbers.
    """
    prefill, decode = (train.counts(phase=phase) for phase in (PREFILL, DECODE))
    router = fit_router(prefill, decode, placement)
    prompts, answers = (test.counts(phase=phase) for phase in (PREFILL, DECODE))
    node = router.assigned(prompts)
    own = kept(answers, node, placement)
    half = max(len(own) // 2, 1)
    spread = np.random.default_rng(seed).permutation(np.arange(len(own)) % placement.nodes)
    return Grouping(
        float(kept(answers, spread, placement).mean()),
        float(own.mean()),
        float(kept(answers, router.online(prompts, band), placement).mean()),
        float(kept(answers, oracle(answers, placement), placement).mean()),
        drift(own[:half], own[half:] if len(own) > 1 else own, placement, seed=seed),
        _by_domain(test, own),
    )


def _by_domain(test: Trace, own: np.ndarray) -> dict[str, float]:
    """What is kept of each domain's requests."""
    first = np.unique(test.request, return_index=True)[1]
    domain = test.domain[first]
    return {
        name: float(own[domain == index].mean())
        for index, name in enumerate(test.domains)
        if (domain == index).any()
    }
