"""What kernel models have in common: an accelerator's four numbers, parameters with priors, and the map to unbounded ones that fits work on."""

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffgenz.core.record import Record
from diffgenz.core.smooth import Leaf, as_leaf
from diffgenz.kernels.shapes import Number


class Chip(NamedTuple):
    """An accelerator as one kernel sees it.

    Arguments:
        flops: FLOP/s of the format. bandwidth: B/s of memory. launch: s. units: compute units (streaming multiprocessors).
    """

    flops: Number
    bandwidth: Number
    launch: Number
    units: Number

    def slower(self, flops: Number, bandwidth: Number, launch: Number) -> "Chip":
        """The same, each of its rates divided by a number, and its latency multiplied."""
        return Chip(
            self.flops / flops, self.bandwidth / bandwidth, self.launch * launch, self.units
        )


@runtime_checkable
class Least(Protocol):
    """What executions do at least."""

    def bound(self, hardware: Any, /) -> jax.Array:
        """Seconds below which no execution is possible."""
        ...


class Work(NamedTuple):
    """What one execution does at least: FLOP, and B to and from memory."""

    flops: Number
    moved: Number

    def bound(self, chip: Chip) -> jax.Array:
        """Seconds below which no execution is possible: the peak roofline."""
        return jnp.maximum(self.flops / chip.flops, self.moved / chip.bandwidth)


class Prior(NamedTuple):
    """What is known of a parameter before any measurement.

    Arguments:
        median: its value. spread: standard deviation of its logarithm (of its log-odds, where it is bounded). maximum: of what it may be.
    """

    median: float
    spread: float
    maximum: float

    def free(self, value: Leaf) -> Leaf:
        """The unbounded number that stands for `value`."""
        return (
            jnp.log(value)
            if math.isinf(self.maximum)
            else jnp.log(value) - jnp.log(self.maximum - value)
        )

    def value(self, free: Leaf) -> Leaf:
        """The value that an unbounded number stands for: positive, and below the maximum."""
        return jnp.exp(free) if math.isinf(self.maximum) else self.maximum * jax.nn.sigmoid(free)


def parameter(median: float, spread: float = 1.0, maximum: float = math.inf) -> Any:
    """A field of a form: a positive number with a prior."""
    prior = Prior(median, spread, maximum)
    return eqx.field(converter=as_leaf, default=median, metadata={"prior": prior})


Timer = Callable[[Any], Any]
"""A form bound to an accelerator: from a shape to the seconds of one execution."""


class Form(Record):
    """A family of kernels: its fields are parameters, whose defaults are the priors' medians."""

    Shape: ClassVar[type]
    """What describes one execution: a `NamedTuple` of numbers."""

    hardware: ClassVar[type] = Chip
    """What it is bound to: a `NamedTuple` of numbers, an accelerator's or those of network levels."""

    host_floor: ClassVar[float] = 12.0
    """Launch latencies: where nearly all rows of a kernel take longer than that, however small, the host sets the pace."""

    level: Leaf = eqx.field(converter=as_leaf, default=1.0, kw_only=True)
    """How much longer than fitted the kernels take: what cannot be known of kernels that were not measured varies it."""

    @abstractmethod
    def on(self, hardware: Any, /) -> Timer:
        """The form bound to hardware (an accelerator, a network level), for one configuration or for arrays of them; `level` apart."""

    @classmethod
    @abstractmethod
    def work(cls, shape: Any) -> Least:
        """What executions of `shape` do at least."""

    @classmethod
    def priors(cls) -> dict[str, Prior]:
        """The prior of each parameter, in order."""
        return {
            field.name: field.metadata["prior"]
            for field in dataclasses.fields(cls)
            if "prior" in field.metadata
        }

    @classmethod
    def of_free(cls, free: Float[Array, "parameters"]) -> Self:
        """The form whose parameters are given as unbounded numbers."""
        return cls(
            **{
                name: prior.value(x)
                for (name, prior), x in zip(cls.priors().items(), free, strict=True)
            }
        )

    @property
    def free(self) -> Float[Array, "parameters"]:
        """Its parameters as unbounded numbers."""
        return jnp.stack([prior.free(getattr(self, name)) for name, prior in self.priors().items()])
