"""Operators: what one kernel does on one device, as a record.

An `Operator` says what a kernel does, not how long it takes: FLOP = 2 m n k groups, bytes by kind,
elements that it keeps in memory, and the messages that go with it. Times, parameter counts, memory
and energy are all sums over the same records. The constructors beside this file (`linear`,
`elementwise`, `attention`, `recurrence`) know the shapes, and a new operator is one more of them.
"""

import dataclasses
import enum
from typing import Any

import jax

from diffgenz.core.smooth import Scalar
from diffgenz.operators.layer_format import DTYPE
from diffgenz.operators.message import Message


class Kind(enum.Enum):
    """What binds an operator."""

    LINEAR = "linear"  # a GEMM with weights, at the peak of its part's formats
    WIDE = "wide"  # products kept in dtype: LM head, router, scans
    ATTENTION = "attention"  # scores and values, at dtype's peak; depends on the context
    ELEMENTWISE = "elementwise"  # memory only: its arithmetic hides behind its bytes


def _static(**default: Any) -> Any:
    return dataclasses.field(metadata={"static": True}, **default)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Operator:
    """One kernel on one device, executed `repeats` times.

    Arguments:
        name: the operator's row in a breakdown.
        kind: what binds it, see `Kind`.
        m: rows of its product.
        n: columns of its product.
        k: depth of its product.
        groups: how many such products there are; FLOP = 2 m n k groups.
        weights: B of weights read in one execution.
        inputs: B of inputs read in one execution.
        outputs: B of outputs written in one execution.
        kv_cache: B of KV cache or state moved in one execution.
        parameters: elements that stay in memory (the shard's weights).
        parameter_size: B of each of them.
        active: the share of `parameters` that one token is multiplied with; 1, except for routed
            experts.
        cached: B of KV cache or state that stay in memory.
        repeats: executions.
        messages: what ranks send each other with each execution.
        part: the part of the model whose formats it multiplies in, as in `layer_format.Layer`.
        kernel: the family of measured kernels that times it (see `kernels`), or "" where none does.
        shape: its shape in that family's terms; None where another operator of the same family
            already includes its time.
    """

    name: str = _static()
    kind: Kind = _static()
    m: Scalar | float = 0.0
    n: Scalar | float = 0.0
    k: Scalar | float = 0.0
    groups: Scalar | float = 1.0
    weights: Scalar | float = 0.0
    inputs: Scalar | float = 0.0
    outputs: Scalar | float = 0.0
    kv_cache: Scalar | float = 0.0
    parameters: Scalar | float = 0.0
    parameter_size: Scalar | float = 0.0
    active: Scalar | float = 1.0
    cached: Scalar | float = 0.0
    repeats: Scalar | float = 1.0
    messages: tuple[Message, ...] = ()
    part: str = _static(default=DTYPE)
    kernel: str = _static(default="")
    shape: Any = None

    @property
    def flops(self) -> Scalar | float:
        """FLOP of one execution; a multiply and an add are 2."""
        return 2 * self.m * self.n * self.k * self.groups

    @property
    def traffic(self) -> Scalar | float:
        """B moved to and from memory in one execution."""
        return self.weights + self.inputs + self.outputs + self.kv_cache

    @property
    def sees_sequences(self) -> bool:
        """Whether it works on each sequence's own KV cache or state, not on tokens alone."""
        stateless = isinstance(self.cached, float) and self.cached == 0.0
        return self.kind is Kind.ATTENTION or not stateless

    def inside(self, kernel: str, part: str) -> "Operator":
        """The same operator where a measured kernel of another operator includes its time.

        Arguments:
            kernel: the family of that kernel.
            part: the part of the model whose formats select that kernel.
        """
        return dataclasses.replace(self, kernel=kernel, part=part, shape=None)

    def times(self, repeats: Scalar | float) -> "Operator":
        """The same operator, `repeats` times as often."""
        return dataclasses.replace(self, repeats=self.repeats * repeats)

    def sending(self, *messages: Message) -> "Operator":
        """The same operator with further messages."""
        return dataclasses.replace(self, messages=self.messages + messages)
