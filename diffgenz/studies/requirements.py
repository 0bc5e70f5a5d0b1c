"""What a platform must have to meet objectives: the least value of each number.

The values are roots of `estimate` itself. For a number x (a peak, a bandwidth, the reciprocal of a
latency), all others held, the time t of a phase falls as x grows. The requirement solves
ln t(x) = ln SLO for ln x by bisection, where SLO is the objective of the phase. Its derivatives are
exact by the implicit function theorem, d ln x = (d ln SLO - d ln t) / (d ln t / d ln x), which
optimistix applies; no grid is involved. The others are unlimited (`ideal_platform`), or those of a
given platform.

All numbers of both phases are one solve, vectorized over which number is sought.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float

from diffgenz.core.checks import check, demand
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.core.tree import Tree
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.hardware.network import Level
from diffgenz.hardware.platform import Platform
from diffgenz.hardware.topology import Switch
from diffgenz.inference.essential import essential
from diffgenz.inference.estimate import estimate
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario, demand_scenario

UNLIMITED = 1e30
"""FLOP/s, B and B/s of an ideal platform: finite, so that derivatives are too."""

SEARCHED = 69.0
"""Width of the search in ln x: rates from 1 to 1e30 in SI, latencies from 1e10 s to 1e-20 s."""

_WORST_LATENCY = 1e10
"""s: where the search of a latency begins; that of a rate begins at 1 FLOP/s or 1 B/s."""


class LinkNeeds(Tree):
    """What one phase needs of one network level, as one accelerator sees it.

    Arguments:
        level: its name.
        bandwidth: B/s per direction, at least.
        latency: s of a hop, at most.
    """

    level: str = eqx.field(static=True)
    bandwidth: Leaf
    latency: Leaf


class Needs(Tree):
    """What one phase needs to meet its objective.

    Each number stands on its own, the others being what they are. A rate is 0 where any will do,
    and infinite where none is enough. A latency is infinite where any will do, and -infinite where
    even none is too much. Derivatives are zero there.

    Arguments:
        compute: FLOP/s of the format that linear layers multiply, at least; other formats in the
            platform's proportion.
        memory_bandwidth: B/s, at least.
        links: of each network level.
    """

    compute: Leaf
    memory_bandwidth: Leaf
    links: tuple[LinkNeeds, ...]


class Requirements(Tree):
    """What each accelerator needs to meet the objectives.

    Arguments:
        prefill: for the TTFT objective.
        decode: for the TPOT objective.
        memory_capacity: B of the main memory, and with offloading of slower memory together, such
            that the share that the server may use holds the `Memory.total` of the fullest
            accelerator.
    """

    prefill: Needs
    decode: Needs
    memory_capacity: Leaf

    @property
    def compute(self) -> Leaf:
        """FLOP/s for both phases."""
        return jnp.maximum(self.prefill.compute, self.decode.compute)

    @property
    def memory_bandwidth(self) -> Leaf:
        """B/s for both phases."""
        return jnp.maximum(self.prefill.memory_bandwidth, self.decode.memory_bandwidth)

    def __repr__(self) -> str:
        return eqx.tree_pformat(self, short_arrays=False)


def ideal_platform(plan: Parallelism, precision: Precision) -> Platform:
    """Unlimited accelerators without latencies, as many as `plan` uses, behind one switch."""
    demand("plan", plan, Parallelism, "Parallelism(tensor=8)")
    demand("precision", precision, Precision, 'Precision(weights="fp8", activations="fp8")')
    peaks = dict.fromkeys(precision.peaks, UNLIMITED)
    accelerator = Accelerator(
        "an ideal accelerator", peaks, memory_bandwidth=UNLIMITED, memory_capacity=UNLIMITED
    )
    link = Level("link", Switch(), plan.ranks, bandwidth=UNLIMITED, latency=0.0)
    return Platform(accelerator, (link,), plan.ranks)


def requirements(
    case: Scenario, *, ttft: Leaf | float = jnp.inf, tpot: Leaf | float = jnp.inf
) -> Requirements:
    """The least compute, memory and network with which a scenario meets its objectives.

    An estimate on the platform with one number replaced by its requirement meets that phase's
    objective, to 1e-4 in float32. On an ideal platform (`ideal_platform`) the numbers do not trade
    off: all of them at their requirement at once take longer than the objective.

    Arguments:
        case: the question; its platform says what the numbers are that are not sought. A use case
            gives a workload, beams and the objectives.
        ttft: s until the first token, at most; infinite where there is no such objective.
        tpot: s between tokens, at most; infinite where there is no such objective.

    Raises:
        InputError: an objective that is zero, negative or NaN.
    """
    demand_scenario(case)
    for name, value in (("ttft", ttft), ("tpot", tpot)):
        check(name, value, exclusive=True, finite=False)
    objectives = (jnp.asarray(ttft, float), jnp.asarray(tpot, float))
    prefill, decode, memory = _requirements(essential(case), *objectives)
    names = [level.name for level in case.platform.network]
    return Requirements(_named(prefill, names), _named(decode, names), memory)


def _named(needs: Needs, names: list[str]) -> Needs:
    """The same needs, its levels called by `names`: compiled functions know no names."""
    links = (
        LinkNeeds(name, link.bandwidth, link.latency)
        for name, link in zip(names, needs.links, strict=True)
    )
    return Needs(needs.compute, needs.memory_bandwidth, tuple(links))


@eqx.filter_jit
def _requirements(case: Scenario, ttft: Scalar, tpot: Scalar) -> tuple[Needs, Needs, Scalar]:
    """The needs of prefill and decode, and the memory of the fullest accelerator, in B."""
    question = _Question(case, ttft, tpot)
    none = jnp.zeros(())
    links = tuple(LinkNeeds(level.name, none, none) for level in case.platform.network)
    leaves, structure = jax.tree.flatten(Needs(none, none, links))
    each = jax.tree.unflatten(structure, list(jnp.eye(len(leaves), dtype=bool)))
    over_numbers = jax.vmap(lambda decoding, sought: _least(question, decoding, sought), (None, 0))
    prefill, decode = jax.vmap(over_numbers, (0, None))(jnp.array([False, True]), each)
    needs = (jax.tree.unflatten(structure, list(values)) for values in (prefill, decode))
    return *needs, estimate(case).memory.total / case.serving.memory_utilization


Sought = Needs
"""Which number is sought: one field is true, all others are false."""


class _Question(Tree):
    """All that a phase's time over its objective depends on, except the number sought."""

    case: Scenario
    ttft: Scalar
    tpot: Scalar

    def lateness(
        self, improvement: Scalar, decoding: Bool[Array, ""], sought: Sought
    ) -> Float[Array, ""]:
        """ln (t / SLO) of a phase, one number being e**improvement times the worst searched.

        Arguments:
            improvement: of that number.
            decoding: whether the phase is decode; else it is prefill.
            sought: which number it is.
        """
        platform = _improved(self.case.platform, self.case.precision, sought, improvement)
        now = estimate(eqx.tree_at(lambda c: c.platform, self.case, platform))
        time = jnp.where(decoding, now.tpot, now.ttft)
        return jnp.log(time) - jnp.log(jnp.where(decoding, self.tpot, self.ttft))


def _least(question: _Question, decoding: Bool[Array, ""], sought: Sought) -> Scalar:
    """The value of the number sought at which one phase just meets its objective."""

    def lateness(improvement: Scalar) -> Scalar:
        return question.lateness(improvement, decoding, sought)

    worst, best = jax.vmap(lateness)(jnp.array([0.0, SEARCHED]))
    any_will_do, none_will_do = worst <= 0, best > 0
    exists = ~(any_will_do | none_will_do)
    improvement = _root(question, decoding, sought, exists, like=worst)
    rate, latency = _rate(improvement), _latency(improvement)
    rate = jnp.where(any_will_do, 0.0, jnp.where(none_will_do, jnp.inf, rate))
    latency = jnp.where(any_will_do, jnp.inf, jnp.where(none_will_do, -jnp.inf, latency))
    is_latency = jnp.any(jnp.array([False, *(link.latency for link in sought.links)]))
    return jnp.where(is_latency, latency, rate)


def _root(
    question: _Question,
    decoding: Bool[Array, ""],
    sought: Sought,
    exists: Bool[Array, ""],
    like: Scalar,
) -> Scalar:
    """The improvement at which lateness is zero.

    Where none exists it is the middle of the search, with derivative zero.
    """
    middle = jnp.asarray(SEARCHED / 2, like.dtype)

    def residual(improvement: Scalar, args: Any) -> Scalar:
        question, decoding, sought, exists = args
        lateness = question.lateness(improvement, decoding, sought)
        return jnp.where(exists, lateness, middle - improvement)

    epsilon = float(jnp.finfo(like.dtype).eps)
    steps = 30 if epsilon > 1e-10 else 60  # halvings until neighbouring floats
    solver = optx.Bisection(rtol=2 * epsilon, atol=2 * epsilon, flip=True)
    options = {"lower": 0.0, "upper": SEARCHED}
    args = (question, decoding, sought, exists)
    solution = optx.root_find(residual, solver, middle, args, options, max_steps=steps, throw=False)
    return solution.value


def _rate(improvement: Scalar) -> Scalar:
    """FLOP/s or B/s, e**improvement times the lowest searched."""
    return jnp.exp(improvement)


def _latency(improvement: Scalar) -> Scalar:
    """s, e**improvement times shorter than the longest searched."""
    return _WORST_LATENCY * jnp.exp(-improvement)


def _improved(
    platform: Platform, precision: Precision, sought: Sought, improvement: Scalar
) -> Platform:
    """The platform with the number sought replaced by what the search is at."""
    rate, latency = _rate(improvement), _latency(improvement)
    accelerator = platform.accelerator
    peak = accelerator.peak(precision.linear_peak)
    proportion = jnp.where(sought.compute, rate, peak) / peak
    accelerator = accelerator.replace(
        peak_flops={name: each * proportion for name, each in accelerator.peak_flops.items()},
        memory_bandwidth=jnp.where(sought.memory_bandwidth, rate, accelerator.memory_bandwidth),
    )
    network = tuple(
        level.replace(
            bandwidth=jnp.where(link.bandwidth, rate, level.bandwidth),
            latency=jnp.where(link.latency, latency, level.latency),
        )
        for level, link in zip(platform.network, sought.links, strict=True)
    )
    return platform.replace(accelerator=accelerator, network=network)
