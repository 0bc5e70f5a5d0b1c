"""One iteration of one micro-batch: its operators with their messages, part by part.

Three worked combinations:

- a dense model on 8 GPUs: embedding; the layers' operators, of which the output projections carry
  an all-reduce each; final norm and LM head, which carries the all-gather of the logits;
- DeepSeek-V3 on two nodes, attention data-parallel: as above, and the router's dispatch carries an
  `Exchange`, the tokens' journey to their experts and back over both network levels;
- a chunk of prompts beside running decodes: what both have in common once, over the tokens of
  both; attention of each (`prefill_decode.mixed`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Scalar, once, smooth_min
from diffgenz.inference.timing.machine import Machine, Sending
from diffgenz.inference.timing.pipeline import Parts
from diffgenz.inference.timing.roofline import operators_time
from diffgenz.models.model import Model
from diffgenz.operators.message import Exchange, Message
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class Iteration(eqx.Module):
    """What one device executes for one micro-batch.

    Arguments:
        layers: operators of all layers.
        embedding: operators before them.
        head: operators after them.
        tokens: new tokens that this rank computes.
        sampled: tokens that need logits.
        residual: B of the hidden states that this rank keeps between blocks.
    """

    layers: tuple[Operator, ...]
    embedding: tuple[Operator, ...]
    head: tuple[Operator, ...]
    tokens: Scalar
    sampled: Scalar
    residual: Scalar

    @classmethod
    def of(cls, model: Model, step: Step, sampled: Scalar | None = None) -> "Iteration":
        """The iteration that `step` is.

        Arguments:
            model: what is computed.
            step: for which tokens.
            sampled: tokens that need logits; default: one of each sequence.
        """
        head = step if sampled is None else step.replace(sequences=sampled)
        reduction = model.reduction(step)
        return cls(
            model.layer_operators(step, reduction),
            model.embedding_operators(step, reduction),
            model.head_operators(head),
            step.tokens,
            head.sequences,
            step.residual_tokens * model.hidden * step.precision.dtype_size,
        )

    @property
    def operators(self) -> tuple[Operator, ...]:
        """All of them, in order."""
        return (*self.embedding, *self.layers, *self.head)


def executing_times(iteration: Iteration, machine: Machine, sharpness: float) -> Parts:
    """Seconds of the operators of each part, without their messages."""
    parts = iteration.layers, iteration.head, iteration.embedding
    layers, head, rest = (operators_time(ops, machine.rates, sharpness) for ops in parts)
    return Parts(layers=once(layers, machine.shard), head=head, rest=rest)


class Sent(NamedTuple):
    """One message of an iteration.

    Arguments:
        name: its row in a breakdown.
        repeats: how often it is sent.
        seconds: of each.
        once: whether a sum of seconds that it is part of is worth keeping (`core.smooth.once`).
    """

    name: str
    repeats: Scalar | float
    seconds: Sending
    once: bool


class Communication(NamedTuple):
    """The messages of an iteration, by part."""

    layers: list[Sent]
    head: list[Sent]
    rest: list[Sent]


def communication(iteration: Iteration, machine: Machine, sharpness: float) -> Communication:
    """The messages of each part of an iteration, timed; a record that several send, once."""
    timed: dict[int, Sending] = {}

    def seconds(message: Message) -> Sending:
        if id(message) not in timed:
            timed[id(message)] = machine.seconds(message, sharpness)
        return timed[id(message)]

    def sent(operators: Sequence[Operator]) -> list[Sent]:
        return [
            Sent(
                message.name,
                op.repeats,
                seconds(message),
                isinstance(message, Exchange),
            )
            for op in operators
            for message in op.messages
        ]

    return Communication(sent(iteration.layers), sent(iteration.head), sent(iteration.embedding))


def sending_time(messages: Sequence[Sent], machine: Machine) -> Scalar:
    """Seconds of `messages`, one after the other.

    The whole sum is kept where one of them is expensive. Kept up to that one alone, the rest of
    the sum would be computed anew for each of its uses: 19 % more bytes in DeepSeek-V3's gradient.
    """
    times = (message.repeats * message.seconds.total for message in messages)
    total = sum(times, start=jnp.zeros(()))
    return once(total, machine.shard) if any(message.once for message in messages) else total


def iteration_times(
    executing: Parts,
    messages: Communication,
    machine: Machine,
    overlap: Scalar,
    sharpness: float,
) -> Parts:
    """Seconds of each part of an iteration on one tensor-parallel rank.

    Arguments:
        executing: seconds of its operators (`executing_times`).
        messages: what goes with them (`communication`).
        machine: where.
        overlap: the share of communication in the layers that hides behind computing.
        sharpness: of the choice of what hides.
    """
    layers, head, rest = (sending_time(each, machine) for each in messages)
    return Parts(
        layers=executing.layers + exposed(layers, executing.layers, overlap, sharpness),
        head=once(executing.head + head, machine.shard),
        rest=executing.rest + rest,
    )


def exposed(sending: Scalar, executing: Scalar, overlap: Scalar, sharpness: float) -> Scalar:
    """Seconds of sending that do not hide behind executing.

    Hidden is the share `overlap` of the shorter of the two.
    """
    return sending - overlap * smooth_min(sending, executing, sharpness)
