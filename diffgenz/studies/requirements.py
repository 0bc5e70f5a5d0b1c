"""What a platform must have to meet a use case's objectives: each number's least value, by root finding on `estimate` itself.

For a number x (a peak, a bandwidth, the reciprocal of a latency), all others held, the time t of a phase falls as x grows. The requirement
solves ln t(x) = ln SLO for ln x by bisection, and its derivatives are exact by the implicit function theorem, d ln x = (d ln SLO - d ln t) /
(d ln t / d ln x), which optimistix applies; no grid is involved. The others are unlimited (`ideal_platform`), or those of a given platform.

All numbers of both phases are one solve, vectorized over which number is sought.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float

from diffgenz.core.checks import check
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.hardware.network import Level
from diffgenz.hardware.platform import Platform
from diffgenz.hardware.topology import Switch
from diffgenz.inference.essential import essential
from diffgenz.inference.estimate import compiled_estimate
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario

UNLIMITED = 1e30
"""FLOP/s, B and B/s of an ideal platform: finite, so that derivatives are too."""

SEARCHED = 69.0
"""Width of the search in ln x: rates from 1 to 1e30 in SI, latencies from 1e10 s down to 1e-20 s."""


class LinkNeeds(eqx.Module):
    """What one phase needs of one network level, as one accelerator sees it.

    Arguments:
        level: its name.
        bandwidth: B/s per direction, at least.
        latency: s of a hop, at most.
    """

    level: str = eqx.field(static=True)
    bandwidth: Leaf
    latency: Leaf


class Needs(eqx.Module):
    """What one phase needs to meet its objective; each number on its own, the others being what they are.

    Arguments:
        compute: FLOP/s of the format that linear layers multiply, at least; other formats in the platform's proportion.
        memory_bandwidth: B/s, at least.
        links: of each network level.

    A rate is 0 where any will do, and infinite where none is enough. A latency is infinite where any will do, and -infinite where even none
    is too much. Derivatives are zero there.
    """

    compute: Leaf
    memory_bandwidth: Leaf
    links: tuple[LinkNeeds, ...]


class Requirements(eqx.Module):
    """What each accelerator needs for a use case.

    Arguments:
        prefill: for the TTFT objective. decode: for the TPOT objective.
        memory_capacity: B on the fullest accelerator, `Memory.total`: of the main memory and, with offloading, slower memory together.
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
    """As many accelerators as `plan` uses, behind one switch, with unlimited peaks, memory, bandwidths and no latencies."""
    peaks = {format: UNLIMITED for format in (precision.linear_peak, precision.attention_peak)}
    accelerator = Accelerator(
        "an ideal accelerator", peaks, memory_bandwidth=UNLIMITED, memory_capacity=UNLIMITED
    )
    return Platform(
        accelerator,
        (Level("link", Switch(), plan.ranks, bandwidth=UNLIMITED, latency=0.0),),
        plan.ranks,
    )


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
    for name, value in (("ttft", ttft), ("tpot", tpot)):
        check(name, value, exclusive=True, finite=False)
    asked = essential(case)
    objectives = (jnp.asarray(ttft, float), jnp.asarray(tpot, float))
    prefill, decode, memory = _requirements(asked, *objectives)
    return Requirements(_needs(prefill, case.platform), _needs(decode, case.platform), memory)


class _Question(eqx.Module):
    """All that a phase's time over its objective depends on, except the number sought."""

    case: Scenario
    ttft: Scalar
    tpot: Scalar

    def lateness(self, improvement: Scalar, phase: Array, number: Array) -> Scalar:
        """ln (t / SLO) of a phase, one number being e**improvement times the worst searched.

        Arguments:
            improvement: of that number.
            phase: 0 for prefill, 1 for decode.
            number: its index.
        """
        case, decoding = self.case, phase == 1
        platform = _replaced(case.platform, case.precision, number, improvement)
        now = compiled_estimate(eqx.tree_at(lambda c: c.platform, case, platform))
        time = jnp.where(decoding, now.tpot, now.ttft)
        return jnp.log(time) - jnp.log(jnp.where(decoding, self.tpot, self.ttft))


@eqx.filter_jit
def _requirements(
    case: Scenario, ttft: Scalar, tpot: Scalar
) -> tuple[Float[Array, "numbers"], Float[Array, "numbers"], Scalar]:
    question = _Question(case, ttft, tpot)
    numbers = jnp.arange(2 + 2 * len(case.platform.network))
    solve = jax.vmap(
        jax.vmap(lambda phase, number: _least(question, phase, number), (None, 0)), (0, None)
    )
    prefill, decode = solve(jnp.arange(2), numbers)
    return prefill, decode, compiled_estimate(case).memory.total


def _needs(values: Float[Array, "numbers"], platform: Platform) -> Needs:
    links = tuple(
        LinkNeeds(level.name, values[2 + 2 * i], values[3 + 2 * i])
        for i, level in enumerate(platform.network)
    )
    return Needs(values[0], values[1], links)


def _least(question: _Question, phase: Array, number: Array) -> Scalar:
    """The value of one number at which one phase just meets its objective."""

    worst, best = jax.vmap(lambda improvement: question.lateness(improvement, phase, number))(
        jnp.array([0.0, SEARCHED])
    )
    any_will_do, none_will_do = worst <= 0, best > 0
    improvement = _root(question, phase, number, ~(any_will_do | none_will_do), worst)
    is_latency = _is_latency(number)
    value = _searched(is_latency, improvement)
    value = jnp.where(any_will_do, jnp.where(is_latency, jnp.inf, 0.0), value)
    return jnp.where(none_will_do, jnp.where(is_latency, -jnp.inf, jnp.inf), value)


def _root(
    question: _Question, phase: Array, number: Array, exists: Bool[Array, ""], like: Scalar
) -> Scalar:
    """The improvement at which lateness is zero; the middle, with derivative zero, where there is none."""
    middle = jnp.asarray(SEARCHED / 2, like.dtype)

    def residual(improvement: Scalar, args: tuple[_Question, Array, Array, Array]) -> Scalar:
        question, phase, number, exists = args
        return jnp.where(
            exists, question.lateness(improvement, phase, number), middle - improvement
        )

    epsilon = float(jnp.finfo(like.dtype).eps)
    steps = 30 if epsilon > 1e-10 else 60  # halvings until neighbouring floats
    solver = optx.Bisection(rtol=2 * epsilon, atol=2 * epsilon, flip=True)
    options = {"lower": 0.0, "upper": SEARCHED}
    args = (question, phase, number, exists)
    return optx.root_find(
        residual, solver, middle, args, options, max_steps=steps, throw=False
    ).value


def _is_latency(number: Array) -> Array:
    """Numbers are, in order: compute, memory bandwidth, and the bandwidth and latency of each level."""
    return (number >= 2) & (number % 2 == 1)


def _searched(is_latency: Array, improvement: Scalar) -> Scalar:
    """The number that is so much better than the worst: 1 FLOP/s, 1 B/s or 1e10 s."""
    return jnp.where(is_latency, 1e10 * jnp.exp(-improvement), jnp.exp(improvement))


def _replaced(
    platform: Platform, precision: Precision, number: Array, improvement: Scalar
) -> Platform:
    """`platform` with one of its numbers replaced."""

    def new(index: int, old: Leaf) -> Leaf:
        return jnp.where(
            number == index, _searched(_is_latency(jnp.asarray(index)), improvement), old
        )

    accelerator = platform.accelerator
    peak = accelerator.peak(precision.linear_peak)
    proportion = new(0, peak) / peak
    accelerator = accelerator.replace(
        peak_flops={format: value * proportion for format, value in accelerator.peak_flops.items()},
        memory_bandwidth=new(1, accelerator.memory_bandwidth),
    )
    network = tuple(
        level.replace(
            bandwidth=new(2 + 2 * i, level.bandwidth), latency=new(3 + 2 * i, level.latency)
        )
        for i, level in enumerate(platform.network)
    )
    return platform.replace(accelerator=accelerator, network=network)
