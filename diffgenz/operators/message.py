"""Messages: what ranks send each other, as records that stand beside operators.

An operator carries the messages that go with it (`Operator.messages`): the output projection its
all-reduce, context-parallel attention the gathering of keys and values, the router the journey of
tokens to their experts. How long a message takes, how many bytes each network level carries for
it, and what timed it all follow from this one record (`inference.timing.machine`).
"""

import enum

import equinox as eqx

from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.operators.routing import Travel
from diffgenz.operators.visits import GroupLimit


class Axis(enum.Enum):
    """Between which ranks a message goes."""

    TENSOR = "tensor"
    CONTEXT = "context"
    EXPERT = "expert"
    PIPELINE = "pipeline"


class Message(Tree):
    """One collective on one device, each time the operator that carries it runs.

    Arguments:
        name: the message's row in a breakdown.
        over: between which ranks it goes.
    """

    name: str = eqx.field(static=True)
    over: Axis = eqx.field(static=True)


class AllReduce(Message):
    """Every rank ends with the sum of all ranks' tensors.

    Arguments:
        volume: B of the tensor.
        launches: collectives that it takes: 1, or 2 where it runs as a reduce-scatter and an
            all-gather (sequence parallelism).
    """

    volume: Scalar
    launches: Scalar | float = 1.0


class AllGather(Message):
    """Every rank ends with the whole tensor, of which each had a part before.

    Arguments:
        volume: B of the whole tensor.
    """

    volume: Scalar


class Handover(Message):
    """Each pipeline stage passes the hidden states on to the next.

    Arguments:
        volume: B that cross every boundary between stages.
    """

    volume: Scalar


class Exchange(Message):
    """Tokens travel to the ranks of their experts, and results come back.

    They do so only where groups of ranks have tokens of their own. Where all ranks see all tokens,
    nothing travels.

    Arguments:
        picks: experts per token.
        experts: routed experts of the layer.
        tokens: new tokens that this device dispatches.
        dispatch: B of one copy of those tokens on the way to their experts.
        combine: B of one copy of those tokens on the way back.
        groups: groups of ranks with tokens of their own; with 1 nothing travels.
        excess: rows that the fullest group of experts receives / the mean of all groups, at least
            1; None is 1.
        travel: how tokens travel, relative to uniform routing.
        limit: the groups of experts that a token's are in; None where they may be anywhere.
    """

    picks: Scalar
    experts: Scalar
    tokens: Scalar
    dispatch: Scalar
    combine: Scalar
    groups: Scalar
    excess: Scalar | None = None
    travel: Travel = Travel()
    limit: GroupLimit | None = None
