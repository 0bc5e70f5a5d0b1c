"""What all kernel forms share: parameters with priors, and one method that returns seconds.

Fits work on unbounded numbers; `Form.free` and `Form.of_free` map parameters to them and back.
"""

import dataclasses
import functools
import math
import types
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from diffgenz.core import xp
from diffgenz.core.record import Record
from diffgenz.core.smooth import Leaf, as_leaf, smooth_ceil
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import Number

Unbounded = Float[Array | np.ndarray, "parameters *columns"]
"""The parameters of a form as unbounded numbers."""


@runtime_checkable
class Least(Protocol):
    """The least that an execution must do."""

    def bound(self, hardware: Any, /) -> Number:
        """Seconds below which no execution is possible."""
        ...


class Work(NamedTuple):
    """The arithmetic and the traffic that one execution needs at least.

    Arguments:
        flops: in FLOP.
        moved: to and from memory, in B.
    """

    flops: Number
    moved: Number

    def bound(self, chip: Chip) -> Number:
        """Seconds below which no execution is possible: the peak roofline."""
        return xp.maximum(self.flops / chip.flops, self.moved / chip.bandwidth)


class Prior(NamedTuple):
    """What is known of a parameter before any measurement.

    Arguments:
        median: its median, above 0.
        spread: standard deviation of its logarithm, or of its log-odds where it is bounded.
        maximum: the value that it stays below; infinity where it is not bounded.
        neutral: the value at which its term is not there, 0 or 1; None where there always is one.
    """

    median: float
    spread: float
    maximum: float
    neutral: float | None = None

    def free(self, value: Leaf) -> Leaf:
        """The unbounded number that stands for `value`."""
        return (
            xp.log(value)
            if math.isinf(self.maximum)
            else xp.log(value) - xp.log(self.maximum - value)
        )

    def value(self, free: Leaf) -> Leaf:
        """The value that an unbounded number stands for: positive, and below the maximum."""
        return xp.exp(free) if math.isinf(self.maximum) else self.maximum * xp.sigmoid(free)


def parameter(
    median: float,
    spread: float = 1.0,
    maximum: float = math.inf,
    *,
    neutral: float | None = None,
) -> Any:
    """A field of a form: a positive number whose prior has these figures, and defaults to `median`.

    Arguments are those of `Prior`.
    """
    prior = Prior(median, spread, maximum, neutral)
    return eqx.field(converter=as_leaf, default=median, metadata={"prior": prior})


class Form(Record):
    """A formula for the time of a family of kernels.

    Its fields are parameters, whose defaults are the medians of their priors. All are pure numbers:
    efficiencies, sizes in elements, and latencies in units of the hardware's own.
    """

    Shape: ClassVar[type]
    """Describes one execution: a `NamedTuple` of numbers."""

    hardware: ClassVar[type] = Chip
    """What the form is evaluated on: `Chip`, `Wire` or `Wires`."""

    host_floor: ClassVar[float] = 12.0
    """How long the shortest executions may take, in launch latencies.

    Where nearly all rows of a kernel take longer, however small, the host sets the pace.
    """

    absent: ClassVar[tuple[str, ...]] = ()
    """Parameters whose terms a kernel does not need: constants at their neutral value."""

    steady: ClassVar[dict[str, float]] = {}
    """The value of each parameter that transferred fits keep, so that more work never takes less.

    Elsewhere measured rows see to that.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Two forms that are joined must not have parameters of one name, which would be one.

        Raises:
            TypeError: they have; the message names it.
        """
        super().__init_subclass__(**options)
        priors: dict[str, Prior] = {}
        for base in cls.__bases__:
            for name, prior in base.priors().items() if issubclass(base, Form) else ():
                if priors.setdefault(name, prior) is not prior:
                    raise TypeError(f"{cls.__name__}: {name} is a parameter of two of its bases")

    level: Leaf = eqx.field(converter=as_leaf, default=1.0, kw_only=True)
    """Factor on the fitted time, 1 as fitted.

    Its uncertainty is the scatter of the fit: how far a kernel that was not measured may lie from
    the form.
    """

    smooth: bool = eqx.field(static=True, default=False, init=False)
    """Whether rows and tokens are padded by the mean of the stairs (`Scenario.smooth_batch`)."""

    def rounded_up(self, x: Number) -> Number:
        """ceil(x) of tiles of rows or tokens; the mean of its stairs where the form is smooth."""
        return smooth_ceil(x) if self.smooth else xp.ceil(x)

    @abstractmethod
    def seconds(self, shape: Any, hardware: Any, /) -> Number:
        """Seconds of one execution, before the factor `level`.

        Arguments:
            shape: a `Shape` of numbers, or of arrays for several executions at once.
            hardware: of the class `hardware`; numbers, or arrays with one for each execution.
        """

    @classmethod
    @abstractmethod
    def work(cls, shape: Any) -> Least:
        """The least that executions of `shape` must do."""

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether the term of the parameter `name` is there."""
        return name not in cls.absent

    @classmethod
    def without(cls, *names: str) -> "type[Form]":
        """This form without some of its terms, for which nothing is compiled.

        Arguments:
            names: parameters that have a neutral value, whose terms are left out as well.
        """
        order = [name for name in cls.whole().priors() if name in {*cls.absent, *names}]
        return _without(cls.whole(), tuple(order)) if order else cls

    @classmethod
    def whole(cls) -> "type[Form]":
        """This form with all of its terms."""
        return next(each for each in cls.__mro__ if not each.absent)

    @classmethod
    def priors(cls) -> dict[str, Prior]:
        """The prior of each parameter, in order."""
        return {
            field.name: field.metadata["prior"]
            for field in dataclasses.fields(cls)
            if "prior" in field.metadata
        }

    @classmethod
    def of_free(cls, free: Unbounded) -> Self:
        """The form whose parameters are given as unbounded numbers."""
        values = zip(cls.priors().items(), free, strict=True)
        return cls(**{name: prior.value(x) for (name, prior), x in values})

    @property
    def free(self) -> Unbounded:
        """The parameters as unbounded numbers."""
        return xp.stack([prior.free(getattr(self, name)) for name, prior in self.priors().items()])


@functools.cache
def _without(form: type[Form], names: tuple[str, ...]) -> type[Form]:
    """`form` without the terms of `names`, which become constants of the class."""
    neutral = {name: form.priors()[name].neutral for name in names}
    body = {
        **neutral,
        "absent": names,
        "__annotations__": dict.fromkeys(names, ClassVar[float]),
        "__doc__": f"`{form.__name__}` without {', '.join(names)}.",
        "__module__": __name__,
    }
    return types.new_class(
        form.__name__, (form,), exec_body=lambda namespace: namespace.update(body)
    )
