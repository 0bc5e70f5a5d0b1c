"""One iteration of one micro-batch: its operators with their messages, part by part.

Three worked combinations:

- A dense model on 8 GPUs: the embedding; the layers' operators, of which each output projection
  carries an all-reduce; the final norm, and the LM head, which carries the all-gather of the
  logits.
- DeepSeek-V3 on two nodes with data-parallel attention: as above, and the router's dispatch carries
  an `Exchange`, the tokens' journey to their experts and back over both network levels.
- A chunk of prompts beside running decodes: what both have in common runs once, over the tokens of
  both, and attention runs for each (`prefill_decode.mixed`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar, once, smooth_min
from diffgenz.core.tree import Tree
from diffgenz.inference.timing.machine import Machine, Sending
from diffgenz.inference.timing.pipeline import Parts
from diffgenz.inference.timing.roofline import operators_time
from diffgenz.models.model import Model
from diffgenz.operators.message import Exchange, Message
from diffgenz.operators.operator import Operator
from diffgenz.operators.step import Step


class Iteration(Tree):
    """What one device executes for one micro-batch.

    Arguments:
        layers: operators of all layers.
        embedding: operators before the layers.
        head: operators after the layers.
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
        """The iteration in which a device computes the tokens of `step`.

        Arguments:
            model: the model that is computed.
            step: its tokens.
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
        """All operators, in the order of their execution."""
        return (*self.embedding, *self.layers, *self.head)


def executing_times(iteration: Iteration, machine: Machine, sharpness: float) -> Parts:
    """Seconds of the operators of each part, without their messages."""
    parts = iteration.layers, iteration.head, iteration.embedding
    layers, head, rest = (operators_time(ops, machine.rates, sharpness) for ops in parts)
    return Parts(layers=once(layers, machine.shard), head=head, rest=rest)


class Sent(NamedTuple):
    """One message of an iteration.

    Arguments:
        name: the message's row in a breakdown.
        repeats: how often it is sent.
        seconds: s each time it is sent.
        once: whether a sum of seconds that it is part of is worth keeping (`core.smooth.once`).
    """

    name: str
    repeats: Scalar | float
    seconds: Sending
    once: bool


class Communication(NamedTuple):
    """The messages of an iteration, by part.

    Arguments:
        layers: those of all layers.
        head: those of the operators after the layers.
        rest: those of the operators before the layers.
    """

    layers: list[Sent]
    head: list[Sent]
    rest: list[Sent]


def communication(iteration: Iteration, machine: Machine, sharpness: float) -> Communication:
    """The messages of each part of an iteration, with their times.

    A message record that several operators carry is timed once.

    Arguments:
        iteration: what a device executes.
        machine: where it runs.
        sharpness: of all maxima and minima.
    """
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

    Where one of them is expensive, the whole sum is kept. If only the part of the sum up to that
    message were kept, the rest would be computed anew for each of its uses: 19 % more bytes in
    DeepSeek-V3's gradient.
    """
    times = (message.repeats * message.seconds.total for message in messages)
    total = sum(times, start=xp.zeros(()))
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
        executing: s of its operators (`executing_times`).
        messages: the messages that go with them (`communication`).
        machine: where it runs.
        overlap: the share of communication in the layers that hides behind computing, in [0, 1].
        sharpness: of the minimum that says how much can hide.
    """
    layers, head, rest = (sending_time(each, machine) for each in messages)
    return Parts(
        layers=executing.layers + exposed(layers, executing.layers, overlap, sharpness),
        head=once(executing.head + head, machine.shard),
        rest=executing.rest + rest,
    )


def exposed(sending: Scalar, executing: Scalar, overlap: Scalar, sharpness: float) -> Scalar:
    """Seconds of sending that do not hide behind executing.

    The share `overlap` of the shorter of the two times is hidden.

    Arguments:
        sending: s of all messages.
        executing: s of all operators.
        overlap: the share that hides, in [0, 1].
        sharpness: of the minimum of the two times.
    """
    return sending - overlap * smooth_min(sending, executing, sharpness)
