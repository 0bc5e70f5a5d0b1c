"""Waiting for a slot, or for room in the cache: a closed form, exact for Erlang's queue.

A cache is as many places as it holds mean requests; that these are unlike makes its use vary as
if it had fewer places of larger requests (Hayward's approximation: Fredericks, Bell System
Technical Journal 59, 1980). Slots are a real number. The probability that all are taken is
Jagerman's form of Erlang B, turned into Erlang C; Cosmetatos' factor makes service times less
random than exponential ones.
"""

import math

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.serving.demand import Demand
from diffgenz.serving.iteration_table import IterationTable
from diffgenz.serving.saturation import FILLED, Saturation
from diffgenz.serving.smoothing import LIMITS, smaller, smooth_smaller
from diffgenz.serving.special import normal_cdf


def slot_wait(
    table: IterationTable,
    demand: Demand,
    most: Saturation,
    slots: Scalar,
    load: Scalar,
    burstiness: Scalar,
) -> tuple[Scalar, Scalar]:
    """The probability that a request waits for a slot, and its mean wait in s, of all requests.

    Arguments:
        table: how long iterations take.
        demand: the requests.
        most: the engine at its limit.
        slots: requests that may run at once.
        load: the rate of requests over that of saturation, below 1. As long as the cache is not
            full nobody is put back, and the engine can do more than it does at saturation.
        burstiness: the squared coefficient of variation of the time between arrivals.
    """
    places = smooth_smaller(slots, most.cache / FILLED, LIMITS)
    elasticity = smaller(table.elasticity(most.running), 0.95)
    full = xp.exp(LIMITS * xp.log(places * FILLED / most.cache))
    lumps = 1 + full * _context_variation(demand)
    servers = places / lumps / (1 - elasticity)
    share = most.rate / most.calm
    slower = share + (1 - share) * _waiting(servers, load)
    rate, load = most.rate / slower, load * slower
    waits = _waiting(servers, load) * most.queues
    steady = smaller(demand.output_variation, 1.0)
    root = xp.sqrt(4 + 5 * places)
    constant = 0.5 * (1 + (1 - load) * (places - 1) * (root - 2) / (16 * load * places))
    spread = (burstiness - 1) / 2 + steady + (1 - steady) * constant
    spread = xp.where(spread > 0.1, spread, 0.1)
    return waits, waits / (rate * (1 - load)) * spread * lumps


def _context_variation(demand: Demand) -> Scalar:
    """The squared coefficient of variation of the cache of a running request.

    Long answers run for longer, and have any part of their tokens as likely.
    """
    rounds, tokens = demand.rounds, demand.outputs.tokens
    total = demand.outputs.mean(rounds)
    made = demand.outputs.mean(rounds * tokens) / (2 * total)
    square = demand.outputs.mean(rounds * tokens * tokens) / (3 * total)
    prompt = demand.context - made
    variance = square - made * made + demand.prompt_variation * prompt * prompt
    return variance / (demand.context * demand.context)


def _waiting(servers: Scalar, load: Scalar) -> Scalar:
    """Erlang C of a real number of servers: the probability that all of them are busy."""
    busy = _all_busy(servers, load)
    return busy / (load * busy + 1 - load)


def _all_busy(servers: Scalar, load: Scalar) -> Scalar:
    """Erlang B of a real number of servers."""
    short = 1 - load
    near = short < 0.02
    small = xp.where(near, short, 0.01)
    series = 1 + small * (2 / 3 + small * (1 / 2 + small * (2 / 5)))
    far = xp.where(near, 0.5, load)
    exact = 2 * (far - 1 - xp.log(far)) / ((1 - far) * (1 - far))
    at = short * xp.sqrt(servers * xp.where(near, series, exact))
    density = xp.exp(-at * at / 2) / math.sqrt(2 * math.pi)
    return density / (xp.sqrt(servers) * normal_cdf(at) + 2 / 3 * density)
