"""Seconds of a layer of experts from what its ranks and wires have to do, as `estimate` times it.

    time = ModelledTime(case, "tpot")
    time(*time.uniform)                                 # all ranks alike
    time(rows=4096, active=32, far=2.9, near=5.2, pair=1.3, wire=1.1)
    time(rows, active, far, near, pair, wire)           # arrays: layers and candidates at once

Placements and groupings are scored with it: whatever kernels time a scenario, time them, too.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from diffgenz.core import xp
from diffgenz.core.errors import InputError
from diffgenz.core.record import number
from diffgenz.core.smooth import Leaf, Scalar, as_leaf
from diffgenz.core.verb import as_if_traced
from diffgenz.inference.estimate import constant_ranks
from diffgenz.inference.jobs import Job, jobs_of
from diffgenz.inference.prefill_decode import prompt_step
from diffgenz.inference.resolved import resolved
from diffgenz.inference.timing.roofline import operators_time
from diffgenz.models.blocks.moe import MoE
from diffgenz.operators.message import Exchange
from diffgenz.operators.operator import Operator
from diffgenz.operators.routing import LayerRouting, Travel, Uniform
from diffgenz.operators.step import Step
from diffgenz.operators.visits import visited
from diffgenz.scenario.scenario import Scenario, prompted

ROWS = (
    "dispatch",
    "expert_gate_up",
    "expert_up",
    "expert_activation",
    "expert_down",
    "combine",
    "exchange",
)
"""The rows of a breakdown that are counted: what depends on where experts are."""


class Work(NamedTuple):
    """What one iteration asks of a layer of experts; numbers, or arrays that broadcast.

    Arguments:
        rows: pairs of a token and an expert on the fullest rank.
        active: experts on the fullest rank that have any row.
        far: copies of a token to other nodes, one for each node that holds any of its experts.
        near: ranks of all nodes that hold any of a token's experts.
        pair: the largest message between two nodes / the mean of those messages, at least 1.
        wire: what the busiest node sends or receives / the mean over nodes, at least 1.
        remote: experts of a token on other nodes; None: as many as in uniform routing.
        slots: slots of a rank, replicas among them; None: one for each expert.
    """

    rows: np.ndarray | float
    active: np.ndarray | float
    far: np.ndarray | float
    near: np.ndarray | float
    pair: np.ndarray | float = 1.0
    wire: np.ndarray | float = 1.0
    remote: np.ndarray | float | None = None
    slots: float | None = None


class _Given(LayerRouting):
    """Answers that are given, instead of asked from a law.

    Arguments:
        fullest: rows of the fullest rank / mean rows.
        share: experts of a rank that have any row / those that it holds.
        told: how tokens travel.
        several: slots of a rank / experts of a rank; None is 1.
    """

    fullest: Leaf = number()
    share: Leaf = number()
    told: Travel
    several: Leaf | None = number(default=None)

    def excess(self, rows: Scalar, experts: Scalar, ranks: Scalar) -> Scalar:
        return self.fullest

    def active(self, tokens: Scalar, used: Scalar, experts: Scalar) -> Scalar:
        return self.share

    @property
    def copies(self) -> Scalar | None:
        return self.several

    def travel(self, excess: Scalar | None) -> Travel:
        return self.told


class ModelledTime:
    """Seconds of one layer of experts by the kernels of a scenario: experts, dispatch and combine.

    Router and shared experts are left out: they take the same time wherever experts are. All of the
    exchange is counted, even where some of it hides behind computing (`plan.overlap`).

    Arguments:
        case: a concrete scenario with a plan; its routing does not count, except in `own`.
        phase: "ttft", an iteration of the prefill (a chunk, where prompts are chunked), or "tpot",
            one of the decode.
        kind: which of the model's kinds of layers with experts, counted from 0.

    Raises:
        InputError: an unknown phase, or a model without experts or without that kind.
    """

    def __init__(self, case: Scenario, phase: str = "tpot", kind: int = 0):
        if phase not in ("ttft", "tpot"):
            raise InputError(f"phase: {phase!r} is not known; use ttft or tpot")
        blocks = [each.block for each in case.model.blocks if isinstance(each.block, MoE)]
        if not 0 <= kind < len(blocks):
            raise InputError(
                f"kind: {kind} is not one of the {len(blocks)} kinds of layers with experts of "
                f"{case.model.name}; count them from 0"
            )
        self._block, self._hidden = blocks[kind], case.model.hidden
        self._sharpness = case.sharpness
        own = case.routing.in_prefill() if phase == "ttft" else case.routing.in_decode()
        self._routing = own.of_kind(kind)
        with as_if_traced():
            question = constant_ranks(resolved(xp.of_numpy(case)))
            jobs = jobs_of(question)
            job = _own(jobs.until_first if phase == "ttft" else jobs.per_token)
            self._machine = job.machine
            self._step = _step(prompted(question.case), job, decoding=phase == "tpot")

    @property
    def tokens(self) -> float:
        """New tokens of all ranks in one iteration."""
        return float(self._step.tokens * self._step.groups)

    @property
    def token_bytes(self) -> float:
        """B of one copy of a token, to its expert and back."""
        for op in self._operators(Uniform()):
            for message in op.messages:
                if isinstance(message, Exchange):
                    return float((message.dispatch + message.combine) / message.tokens)
        return 0.0

    @property
    def expert_bytes(self) -> float:
        """B of what a rank holds of one expert's weights."""
        operators = self._operators(Uniform())
        held = sum(op.parameters * op.parameter_size for op in operators if op.kernel == "experts")
        return float(held) / self.held

    @property
    def held(self) -> float:
        """Experts that each rank holds."""
        return float(self._block.routed * self._step.expert_shard)

    @cached_property
    def uniform(self) -> Work:
        """What uniform routing asks."""
        block = self._block
        chosen = min(float(block.used / block.routed), 1 - 1e-6)  # all: the logarithm stays finite
        share = -np.expm1(self.tokens * np.log1p(-chosen))
        rows = self.tokens * float(block.used * self._step.expert_shard)
        return Work(rows, share * self.held, *self._copies, remote=self._remote, slots=self.held)

    @property
    def own(self) -> Work:
        """What the routing of the scenario asks."""
        block, even = self._block, self.uniform
        pairs, ranks = (
            xp.asarray(self.tokens * float(block.used), float),
            1 / self._step.expert_shard,
        )
        excess = self._routing.excess(pairs, block.routed, ranks)
        copies = 1.0 if self._routing.copies is None else float(self._routing.copies)
        slots = block.routed * copies
        share = self._routing.active(xp.asarray(self.tokens, float), block.used, slots)
        near, far, remote, pair, wire = (
            1.0 if each is None else float(each) for each in self._routing.travel(excess)
        )
        return Work(
            even.rows * (1.0 if excess is None else float(excess)),
            float(share) * self.held * copies,
            even.far * far,
            even.near * near,
            pair,
            wire,
            self._remote * remote,
            self.held * copies,
        )

    def __call__(
        self,
        rows: np.ndarray | float,
        active: np.ndarray | float,
        far: np.ndarray | float,
        near: np.ndarray | float,
        pair: np.ndarray | float = 1.0,
        wire: np.ndarray | float = 1.0,
        remote: np.ndarray | float | None = None,
        slots: float | None = None,
    ) -> np.ndarray:
        """Seconds of the layer; arguments are those of `Work`, and broadcast.

        For a kernel that pads all messages between nodes to the largest, give `pair` as `wire`.
        """
        even, held = self.uniform, self.held if slots is None else slots
        given = np.broadcast_arrays(*(np.asarray(x, float) for x in (rows, active, far, near)))
        shape = np.broadcast_shapes(given[0].shape, np.shape(pair), np.shape(wire))
        with as_if_traced():
            routing = _Given(
                as_leaf(given[0] / even.rows),
                as_leaf(given[1] / held),
                Travel(
                    near=as_leaf(given[3] / even.near),
                    far=as_leaf(given[2] / even.far) if even.far else None,
                    remote=None
                    if remote is None or not self._remote
                    else as_leaf(np.asarray(remote, float) / self._remote),
                    pair=as_leaf(np.asarray(pair, float)),
                    wire=as_leaf(np.asarray(wire, float)),
                ),
                None if slots is None else as_leaf(np.asarray(slots / self.held)),
            )
            operators = self._operators(routing)
            seconds = operators_time(operators, self._machine.rates, self._sharpness)
            for op in operators:
                for message in op.messages:
                    if isinstance(message, Exchange):
                        sending = self._machine.seconds(message, self._sharpness)
                        seconds = seconds + op.repeats * sending.total
        return np.broadcast_to(
            np.asarray(seconds, float), np.broadcast_shapes(shape, seconds.shape)
        )

    def _operators(self, routing: LayerRouting) -> list[Operator]:
        step = self._step.replace(routing=routing)
        return [op for op in self._block.work(self._hidden, step) if op.name in ROWS]

    @property
    def _nodes(self) -> float:
        stage = self._machine.stage
        inside = stage.rungs[0].ranks.count if stage.rungs else stage.count
        return float(xp.ceil(stage.count / inside))

    @property
    def _copies(self) -> tuple[float, float]:
        """Copies of a token to other nodes, and ranks that it reaches, in uniform routing."""
        nodes, owners, block = self._nodes, float(self._machine.owners), self._block
        common = (block.used, block.routed, block.limit)
        there = float(visited(nodes, xp.asarray(min(nodes, owners), float), *common))
        ranks = float(visited(float(self._machine.stage.count), xp.asarray(owners, float), *common))
        return there * (1 - 1 / nodes), ranks

    @property
    def _remote(self) -> float:
        return float(self._block.used) * (1 - 1 / self._nodes)


def _own(jobs: tuple[Job, ...]) -> Job:
    """The job of the model itself: neither of a vision tower nor of a draft."""
    return next(job for job in jobs if not job.name and job.iteration.layers)


def _step(case: Scenario, job: Job, *, decoding: bool) -> Step:
    """A step with the tokens of an iteration, of which experts only know how many there are."""
    prompt = prompt_step(case, xp.asarray(1.0, float))
    step = prompt.replace(sequences=job.iteration.tokens, queries=1.0, decoding=decoding)
    return step.replace(shared=step.shared.in_common()) if decoding else step
