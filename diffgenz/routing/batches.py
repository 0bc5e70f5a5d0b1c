"""What single iterations ask of ranks, drawn from a trace: they are less even than the long run."""

from typing import NamedTuple

import numpy as np

from diffgenz.core.checks import check
from diffgenz.routing.placement import Placement
from diffgenz.routing.replicas import Rule, routed
from diffgenz.routing.trace import Trace


class Batches(NamedTuple):
    """Iterations of random tokens.

    Arguments:
        tokens: of each iteration.
        straggler: [draws, layers]; rows of the fullest rank / mean rows of a rank.
        active: [draws, layers]; slots with any row on the rank that has most of them.
    """

    tokens: int
    straggler: np.ndarray
    active: np.ndarray


def batches_of(
    trace: Trace,
    placement: Placement,
    tokens: int,
    *,
    draws: int = 32,
    rule: Rule = Rule.LOCAL_FIRST,
    seed: int = 0,
) -> Batches:
    """Iterations whose tokens are drawn from a trace, with replacement, on nodes in turn.

    Arguments:
        trace: of one phase.
        placement: where the experts are, in the layers of the trace.
        tokens: of each iteration, at least 1.
        draws: iterations.
        rule: how a token chooses among replicas.
        seed: of the random numbers.
    """
    check("tokens", tokens, minimum=1)
    random = np.random.default_rng(seed)
    slots = placement.slots.shape[1]
    straggler = np.empty((draws, placement.layers))
    active = np.empty((draws, placement.layers))
    node = np.arange(tokens) % placement.nodes
    for draw in range(draws):
        chosen = trace.chosen[random.integers(trace.tokens, size=tokens)]
        for layer in range(placement.layers):
            slot = routed(chosen[:, layer], node, placement, layer, rule)
            rows = np.bincount(slot.ravel(), minlength=slots)
            of_rank = placement.by_rank(rows)
            straggler[draw, layer] = of_rank.max() / of_rank.mean()
            active[draw, layer] = placement.by_rank((rows > 0).astype(int)).max()
    return Batches(tokens, straggler, active)
