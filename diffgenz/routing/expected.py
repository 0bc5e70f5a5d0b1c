"""What a trace and a placement say to a cost model: a few numbers per layer instead of all tokens.

How full the fullest rank is follows from the shares of the ranks and from how much their rows vary
(`fullest_rank`, `dispersion`); how many experts have work from how unequally popular they are
(`variation`); how far tokens travel is told in multiples of what they do when all experts are
equally likely (`travel`).
"""

import dataclasses
from math import comb

import numpy as np
from scipy.special import gammaincc

from diffgenz.core.checks import check
from diffgenz.core.errors import InputError
from diffgenz.routing import measures
from diffgenz.routing.placement import Placement
from diffgenz.routing.replicas import Rule, routed
from diffgenz.routing.trace import Trace
from diffgenz.routing.traffic import Traffic

_POINTS = 400
"""Numbers at which a distribution is summed, about: more change `fullest_rank` by less than its
error against multinomial draws, which stands there."""

_TOKENS = 65536
"""Tokens that `dispersion` is computed from, about: the requests until so many are reached."""


def fullest_rank(shares: np.ndarray, rows: float, dispersion: float = 1.0) -> np.ndarray:
    """The expected rows of the fullest rank in an iteration, over the mean rows of a rank: [...].

    Rows of a rank are taken to be `dispersion` times a Poisson number, and ranks independent: the
    expected maximum is the integral of 1 - prod_r F_r(x), F_r their distribution functions. Rows
    of all ranks are as many in every iteration, which independent ranks do not know: against
    multinomial draws of 8 to 64 ranks it is within 1.4 % in the mean for 16 rows (5 % at worst),
    and within .5 % from 256 rows on.

    Arguments:
        shares: [..., ranks]; the part of all rows that each rank gets in the long run.
        rows: pairs of a token and an expert, of all ranks in an iteration, above 0.
        dispersion: variance of a rank's rows over iterations / their mean, above 0; 1 for tokens
            that choose independently.
    """
    check("rows", rows, exclusive=True)
    check("dispersion", dispersion, exclusive=True)
    ranks = shares.shape[-1]
    if ranks == 1:
        return np.ones(shares.shape[:-1])
    means = rows / dispersion * shares / shares.sum(-1, keepdims=True)
    flat = means.reshape(-1, ranks)
    found = np.array([_largest_poisson(each) for each in flat]).reshape(shares.shape[:-1])
    return found * dispersion * ranks / rows


def _largest_poisson(means: np.ndarray) -> float:
    """The expected largest of independent Poisson numbers: the sum of P(largest > x), x from 0.

    Where the sum is long, steps are several wide; P(X <= x) is smooth in x as an incomplete gamma
    function. It is summed over 9 standard deviations to both sides of the largest mean, and a
    little more for the tails of small means and of many ranks: what is beyond counts nothing.
    """
    top = means.max()
    reach = 9 * np.sqrt(top) + 6 * np.log(len(means)) + 9
    low, high = np.floor(max(top - reach, 0)), np.ceil(top + reach)
    step = max((high - low) // _POINTS, 1)
    x = np.arange(low, high + step, step)
    beyond = 1 - np.prod(gammaincc(x[:, None] + 1 + (step - 1) / 2, means), axis=1)
    return float(low + step * beyond.sum())


def variation(counts: np.ndarray) -> np.ndarray:
    """The squared coefficient of variation of the experts' popularity: [layers].

    The noise of counts, which adds their number over the square of their sum, is taken off; it is
    at least 0.

    Arguments:
        counts: [layers, experts]; choices, not all 0.
    """
    experts = counts.shape[-1]
    total = counts.sum(-1)
    found = experts * ((counts**2).sum(-1) - total) / (total * np.maximum(total - 1, 1)) - 1
    return np.maximum(found, 0)  # (a few counts may be more even than chance)


def dispersion(
    trace: Trace,
    placement: Placement,
    tokens_per_request: float = 1.0,
    *,
    rule: Rule = Rule.LOCAL_FIRST,
) -> np.ndarray:
    """The variance of a rank's rows over iterations, over their mean: [layers].

    An iteration has tokens of requests drawn at random. The tokens of one request resemble each
    other: with m of each, variance over mean is that of single tokens plus m - 1 times the
    covariance of two tokens of one request. All are means over pairs of tokens, summed over ranks;
    of many tokens, some requests are used. A token's experts on one rank count together, and nodes
    take requests in turn.

    Arguments:
        trace: of two requests or more, one of them with two tokens or more.
        placement: where the experts are.
        tokens_per_request: m, tokens of one request in an iteration: 1 in decoding; at least 1.
        rule: how a token chooses among copies.

    Raises:
        InputError: `tokens_per_request` is below 1, or the trace has too few requests or tokens.
    """
    check("tokens_per_request", tokens_per_request, minimum=1)
    _, request = np.unique(trace.request, return_inverse=True)
    sizes = np.bincount(request)
    last = max(int(np.searchsorted(np.cumsum(sizes), _TOKENS)), 1)
    kept = request <= last
    request, chosen = request[kept], trace.chosen[kept]
    sizes = np.bincount(request).astype(float)
    total = sizes.sum()
    pairs_same, pairs_other = sizes @ (sizes - 1), total**2 - sizes @ sizes
    if not pairs_same or not pairs_other:
        raise InputError(
            f"trace: has {len(sizes)} requests of {total:g} tokens; give two requests or more, "
            "with two tokens or more"
        )
    node = request % placement.nodes
    ranks = placement.ranks
    found = np.empty(placement.layers)
    for layer in range(placement.layers):
        slot = routed(chosen[:, layer], node, placement, layer, rule)
        flat = np.arange(len(chosen))[:, None] * ranks + placement.rank_of_slot[slot]
        own = np.bincount(flat.ravel(), minlength=len(chosen) * ranks).reshape(-1, ranks)
        flat = request[:, None] * ranks + placement.rank_of_slot[slot]
        sums = np.bincount(flat.ravel(), minlength=len(sizes) * ranks).reshape(-1, ranks)
        squares, of_requests, of_all = (
            float((each.astype(float) ** 2).sum()) for each in (own, sums, sums.sum(0))
        )
        same = (of_requests - squares) / pairs_same
        other = (of_all - of_requests) / pairs_other
        variance = squares / total - other + (tokens_per_request - 1) * (same - other)
        found[layer] = variance / (sums.sum() / total)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Travel:
    """How tokens travel, in each layer, in multiples of uniform routing.

    Arguments:
        rows: [layers]; rows of the fullest rank in the long run / mean rows of a rank.
        far: [layers]; copies of a token to other nodes, sent once to each node.
        near: [layers]; copies of a token that reach a rank, sent once to each rank.
        remote: [layers]; choices of experts on other nodes, each sent.
        pair: [layers]; the largest message between two nodes / the mean of those messages.
        wire: [layers]; what the busiest node sends or receives / the mean over nodes.
    """

    rows: np.ndarray
    far: np.ndarray
    near: np.ndarray
    remote: np.ndarray
    pair: np.ndarray
    wire: np.ndarray


def travel(
    once: Traffic, each: Traffic, k: int, groups: int = 1, used_groups: int | None = None
) -> Travel:
    """How tokens travel in a trace, in multiples of uniform routing with linear placement.

    Arguments:
        once: traffic of the trace with tokens sent once to each node (`tally_of_tokens`).
        each: traffic of the trace with tokens sent for each choice (`tally_of_counts`).
        k: experts that a token chooses.
        groups: groups of neighbouring experts of a group-limited router; 1: not limited.
        used_groups: groups that a token's experts are in; None: all.

    Where there is one node, far, remote, pair and wire are 1.
    """
    placement = once.placement
    nodes, ranks, experts = placement.nodes, placement.ranks, placement.experts
    used = groups if used_groups is None else used_groups
    near = once.near / visited(ranks, experts, k, groups, used)
    straggler = once.rank_straggler
    if nodes == 1:
        one = np.ones(placement.layers)
        return Travel(straggler, one, near, one, one, one)
    away = 1 - 1 / nodes
    return Travel(
        rows=straggler,
        far=once.far / (visited(nodes, experts, k, groups, used) * away),
        near=near,
        remote=each.inter / away,
        pair=measures.pair_imbalance(once.to_nodes),
        wire=measures.wire_imbalance(once.to_nodes),
    )


def visited(parts: int, experts: int, k: int, groups: int = 1, used_groups: int = 1) -> float:
    """The expected number of nodes or ranks that hold an expert of a token, uniformly routed.

    Without a limit the k experts are any different ones of E: N (1 - C(E - E/N, k) / C(E, k)),
    or the sum over parts where these have unequal numbers of experts.
    With one, `used_groups` of the groups are any, the same number of the k experts is one of each
    of these, and the others are any of theirs. It is exact where a part has whole groups, or no
    group has an expert more than its first.

    Arguments:
        parts: nodes or ranks N; experts are laid over them in order.
        experts: routed experts E.
        k: experts that a token chooses.
        groups: groups of neighbouring experts; 1: not limited.
        used_groups: groups that a token's experts are in.

    Raises:
        InputError: neither of the numbers of groups and of parts divides the other.
    """
    if used_groups == groups:
        sizes = [(at + 1) * experts // parts - at * experts // parts for at in range(parts)]
        return sum(1 - comb(experts - size, k) / comb(experts, k) for size in sizes)
    if max(groups, parts) % min(groups, parts):
        raise InputError(
            f"groups: {groups} groups of experts do not lie evenly over {parts} nodes or ranks; "
            "choose a number that divides them, or that they divide"
        )
    if groups >= parts:
        held = groups // parts
        return parts * (1 - comb(groups - held, used_groups) / comb(groups, used_groups))
    split = parts / groups
    missed = (1 - 1 / split) * (1 - 1 / (used_groups * split)) ** (k - used_groups)
    return used_groups * split * (1 - missed)
