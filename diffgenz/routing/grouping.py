"""Which node's requests a request joins: groups of requests that use the same experts.

Groups are learned from what past requests used while decoding, by k-means with groups of equal
size, and of about equally many tokens where lengths are known. Once experts are placed, a new
request is sent where its prompt's experts are: a node scores the part of the prompt's choices,
layer by layer, that its experts serve, weighted as ridge regression learned from past requests.
What prompts cannot tell is the regret against an oracle that knows the decode.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from diffgenz.core.errors import InputError
from diffgenz.routing.placement import Placement

_BLOCK = 1024
"""Requests that are assigned at once: exact assignment takes time by the cube of their number."""

_BAND = 1.05
"""Tokens of a group over the mean of groups, at most, where lengths of requests allow it."""


def signatures(counts: np.ndarray) -> np.ndarray:
    """What each request uses, as a direction: [requests, layers x experts].

    The request's share of each expert within a layer, minus the mean over requests, to length 1. A
    request without tokens gets zeros.

    Arguments:
        counts: [requests, layers, experts]; choices.
    """
    flat = usage(counts).reshape(len(counts), -1)
    flat = np.where(counts.sum((1, 2))[:, None] > 0, flat - flat.mean(0), 0)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(length > 0, length, 1)


def usage(counts: np.ndarray) -> np.ndarray:
    """The share of each expert in a request's choices of each layer: [requests, layers, experts].

    Arguments:
        counts: [requests, layers, experts]; choices.
    """
    total = counts.sum(2, keepdims=True)
    return counts / np.where(total > 0, total, 1)


def balanced_kmeans(
    points: np.ndarray,
    groups: int,
    tokens: np.ndarray | None = None,
    *,
    starts: int = 4,
    rounds: int = 50,
    seed: int = 0,
) -> np.ndarray:
    """The group of each point, [points], where sizes of groups differ by at most one.

    Of several starts that is kept whose points lie closest to their centres. Each round assigns all
    points at once, exactly, every centre having its number of places.

    Arguments:
        points: [points, dimensions]; each of length 1, or 0.
        groups: how many, from 1 to the number of points.
        tokens: [points]; of each, as of `equal_groups`. Default: all alike.
        starts: how many, at least 1.
        rounds: at most so many in each start.
        seed: of the random numbers.
    """
    _check_groups(len(points), groups)
    random = np.random.default_rng(seed)
    best, value = np.zeros(len(points), np.intp), -np.inf
    for _ in range(starts):
        centres = points[_spread(points, groups, random)]
        group = np.full(len(points), -1)
        closeness = -np.inf
        for _ in range(rounds):
            score = points @ centres.T
            before, group = group, equal_groups(score, tokens)
            closeness = score[np.arange(len(points)), group].sum()
            if (group == before).all():
                break
            centres = np.stack([points[group == each].mean(0) for each in range(groups)])
        if closeness > value:
            best, value = group, closeness
    return best


def equal_groups(score: np.ndarray, tokens: np.ndarray | None = None) -> np.ndarray:
    """The group of each request, [requests], of the largest sum of scores; sizes are equal.

    They differ by one where groups do not divide the requests. Of many requests each block in turn
    is assigned exactly. Where a group would get over 5 % more tokens than the mean, requests of
    about one length are dealt out together, in blocks that halve until it does not, or until each
    group gets two requests of a block.

    Arguments:
        score: [requests, groups]; how well each request suits each group.
        tokens: [requests]; of each request, at least 0. Default: all alike.
    """
    requests, groups = score.shape
    _check_groups(requests, groups)
    block = min(max(_BLOCK // groups, 1), -(-requests // groups))
    if tokens is None or not tokens.sum():
        return _in_blocks(score, np.arange(requests), block * groups)
    longest_first = np.argsort(-tokens, kind="stable")
    while True:
        group = _in_blocks(score, longest_first, block * groups)
        load = np.bincount(group, tokens, groups)
        if block <= 2 or load.max() <= _BAND * load.mean():
            return group
        block = -(-block // 2)


def _in_blocks(score: np.ndarray, order: np.ndarray, block: int) -> np.ndarray:
    """The groups of requests, [requests], in blocks of an order, each block in equal groups."""
    group = np.empty(len(order), np.intp)
    for at in range(0, len(order), block):
        some = order[at : at + block]
        group[some] = _equal_groups(score[some])
    return group


def _equal_groups(score: np.ndarray) -> np.ndarray:
    """The groups of requests, [requests], by exact assignment of all of them at once."""
    requests, groups = score.shape
    size = -(-requests // groups)
    places = np.repeat(score, size, axis=1)
    if requests % groups:  # so many places stay empty, each the last of its group
        last = np.arange(places.shape[1]) % size == size - 1
        empty = np.tile(np.where(last, 0.0, -1e6), (places.shape[1] - requests, 1))
        places = np.concatenate([places, empty])
    _, column = linear_sum_assignment(places, maximize=True)
    return column[:requests] // size


@dataclasses.dataclass(frozen=True, eq=False)
class Router:
    """Sends requests to nodes by their prompts.

    Arguments:
        placement: where the experts are.
        weights: [layers]; how much the prompt's choices in each layer tell of the decode.
    """

    placement: Placement
    weights: np.ndarray

    def scores(self, prefill: np.ndarray) -> np.ndarray:
        """The part of a request's decode that each node is expected to serve: [requests, nodes].

        Up to a constant of the request. All nodes score 0 where there is no prompt.

        Arguments:
            prefill: [requests, layers, experts]; choices of each request's prompt.
        """
        return np.einsum("rnl,l->rn", affinities(prefill, self.placement), self.weights)

    def assigned(self, prefill: np.ndarray, tokens: np.ndarray | None = None) -> np.ndarray:
        """The node of each request, [requests], when all are known; nodes get equally many.

        Arguments:
            prefill: [requests, layers, experts]; choices of each request's prompt.
            tokens: [requests]; what each is expected to decode, so that nodes get equally many of
                them, too. Default: all alike.
        """
        return equal_groups(self.scores(prefill), tokens)

    def online(self, prefill: np.ndarray, band: float = 0.1) -> np.ndarray:
        """The node of each request, [requests], decided in the order in which they come.

        Each goes to the node that scores best among those that have at most
        (1 + band) x mean + 2 requests with it.

        Arguments:
            prefill: [requests, layers, experts]; choices of each request's prompt.
            band: how much more than the mean a node may have, at least 0.
        """
        nodes = self.placement.nodes
        load = np.zeros(nodes)
        node = np.empty(len(prefill), np.intp)
        for request, score in enumerate(self.scores(prefill)):
            full = load + 1 > (1 + band) * (request + 1) / nodes + 2
            node[request] = np.where(full, -np.inf, score).argmax()
            load[node[request]] += 1
        return node


def affinities(counts: np.ndarray, placement: Placement) -> np.ndarray:
    """The part of a request's choices that its tokens find on each node: [requests, nodes, layers].

    Minus the mean over nodes.

    Arguments:
        counts: [requests, layers, experts]; choices.
        placement: where the experts are.
    """
    if counts.shape[1:] != (placement.layers, placement.experts):
        raise InputError(
            f"placement: has {placement.layers} layers of {placement.experts} experts, the counts "
            f"{counts.shape[1]} of {counts.shape[2]}; give the placement of this model"
        )
    served = np.einsum("rle,lne->rnl", usage(counts), (placement.copies > 0))
    return served - served.mean(1, keepdims=True)


def fit_router(prefill: np.ndarray, decode: np.ndarray, placement: Placement) -> Router:
    """A router that learned from past requests which layers' prompts tell of the decode.

    Ridge regression of the part of the decode that a node serves (mean over layers) on the parts of
    the prompt that it serves, layer by layer; the penalty is the mean of their variances times the
    number of samples.

    Arguments:
        prefill: [requests, layers, experts]; choices of each past request's prompt.
        decode: [requests, layers, experts]; choices of its decode.
        placement: where the experts are.
    """
    told = affinities(prefill, placement).reshape(-1, placement.layers)
    wanted = affinities(decode, placement).mean(2).reshape(-1)
    gram = told.T @ told
    penalty = np.trace(gram) / placement.layers
    weights = np.full(placement.layers, 1 / placement.layers)
    if penalty > 0:
        weights = np.linalg.solve(gram + penalty * np.eye(placement.layers), told.T @ wanted)
    return Router(placement, weights)


def oracle(decode: np.ndarray, placement: Placement) -> np.ndarray:
    """The node of each request, [requests], when its decode is known; nodes get equally many.

    They get about equally many tokens, too.

    Arguments:
        decode: [requests, layers, experts]; choices of each request's decode.
        placement: where the experts are.
    """
    return equal_groups(affinities(decode, placement).mean(2), decode.sum((1, 2)))


def kept(decode: np.ndarray, node: np.ndarray, placement: Placement) -> np.ndarray:
    """The part of each request's decode that its own node serves: [requests].

    Arguments:
        decode: [requests, layers, experts]; choices of each request's decode.
        node: [requests]; the node of each request.
        placement: where the experts are.
    """
    served = np.einsum("rle,rle->rl", usage(decode), (placement.copies > 0)[:, node].swapaxes(0, 1))
    return served.mean(1)


class Drift(NamedTuple):
    """Whether requests still use experts as those did for which they were placed.

    Arguments:
        expected: the part of a decode that its own node served, of requests held out in training.
        seen: the same of new requests.
        low: seen, at the 2.5th percentile over resampled requests.
        high: seen, at the 97.5th.
        refit: whether less than half of the gain over 1 / nodes is left, with this confidence:
            group and place anew on a trace of these requests.
    """

    expected: float
    seen: float
    low: float
    high: float
    refit: bool


def drift(
    held_out: np.ndarray, new: np.ndarray, placement: Placement, *, draws: int = 400, seed: int = 0
) -> Drift:
    """Whether the structure that was learned holds for new requests.

    Arguments:
        held_out: [requests]; `kept` of requests like those of training, not among them.
        new: [requests]; `kept` of the new requests.
        placement: where the experts are: what it keeps by itself is no gain.
        draws: how often requests are drawn again.
        seed: of the random numbers.
    """
    if not len(held_out) or not len(new):
        raise InputError("drift: there are no requests to compare; give some of each")
    index = np.random.default_rng(seed).integers(len(new), size=(draws, len(new)))
    low, high = np.percentile(new[index].mean(1), [2.5, 97.5])
    expected, chance = float(held_out.mean()), 1 / placement.nodes
    refit = bool(high < chance + (expected - chance) / 2)
    return Drift(expected, float(new.mean()), float(low), float(high), refit)


def _check_groups(requests: int, groups: int) -> None:
    if not 1 <= groups <= requests:
        raise InputError(
            f"groups: {groups} of {requests} requests; give 1 to {requests} groups, or more "
            "requests"
        )


def _spread(points: np.ndarray, groups: int, random: np.random.Generator) -> np.ndarray:
    """Points to begin with: each drawn by its squared distance to the nearest before it."""
    chosen = [int(random.integers(len(points)))]
    distance = np.full(len(points), np.inf)
    for _ in range(groups - 1):
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
        total = distance.sum()
        weights = distance / total if total > 0 else None
        chosen.append(int(random.choice(len(points), p=weights)))
    return np.array(chosen)
