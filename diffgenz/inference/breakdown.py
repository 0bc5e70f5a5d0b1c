"""`breakdown`: an estimate's TTFT and TPOT by operator and by what takes the time.

It is a function of its own, since in a sweep each of its outputs would cost as much as an estimate.
The rows sum to the times of `estimate`: pipeline bubbles are counted with the operators of the
stage that causes them.
"""

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from diffgenz.core import xp
from diffgenz.core.tree import Tree
from diffgenz.core.verb import verb
from diffgenz.inference.estimate import constant_ranks
from diffgenz.inference.iteration import communication, exposed, sending_time
from diffgenz.inference.jobs import Job, Jobs, jobs_of
from diffgenz.inference.resolved import Resolved, resolved
from diffgenz.inference.timing.machine import Sending
from diffgenz.inference.timing.pipeline import Parts
from diffgenz.inference.timing.roofline import Shares, operator_shares
from diffgenz.operators.operator import Operator
from diffgenz.scenario.scenario import Scenario

RESOURCES = ("compute", "memory", "communication", "launch")
"""What takes time; the columns of a `Breakdown`."""

Seconds = Float[Array | np.ndarray, "*batch operators 4"]

Numbers = Float[Array | np.ndarray, " n"]
"""One number for each of several operators."""

Row = Float[Array | np.ndarray, "4"]
"""Seconds by resource."""

Rows = dict[str, Row]
"""Seconds by resource, by the name of an operator or a message."""


class Breakdown(Tree):
    """The seconds of each operator, by resource, in the time to first token and per output token.

    Arguments:
        operators: names of operators and messages, the rows.
        ttft: s of the time to first token, shape (operators, 4), with the columns of `RESOURCES`;
            they sum to the estimate's time.
        tpot: s of the time per output token, in the same shape.
    """

    operators: tuple[str, ...] = eqx.field(static=True)
    ttft: Seconds
    tpot: Seconds

    def rows(self, phase: str) -> dict[str, dict[str, float]]:
        """The seconds of one of the two times, by operator and resource.

        They exist for one concrete configuration.

        Arguments:
            phase: "ttft" or "tpot".
        """
        seconds = np.asarray(getattr(self, phase), dtype=float)
        return {
            name: dict(zip(RESOURCES, row.tolist(), strict=True))
            for name, row in zip(self.operators, seconds, strict=True)
        }

    def by_resource(self, phase: str) -> dict[str, float]:
        """The seconds of one of the two times by resource, over all operators.

        They exist for one concrete configuration.

        Arguments:
            phase: "ttft" or "tpot".
        """
        seconds = np.asarray(getattr(self, phase), dtype=float).sum(axis=0)
        return dict(zip(RESOURCES, seconds.tolist(), strict=True))

    def bound_by(self, phase: str) -> str:
        """The resource that takes most of one of the two times.

        It exists for one concrete configuration.

        Arguments:
            phase: "ttft" or "tpot".
        """
        resources = self.by_resource(phase)
        return max(resources, key=lambda resource: resources[resource])


def breakdown(case: Scenario) -> Breakdown:
    """TTFT and TPOT of a scenario by operator and resource."""
    return _breakdown(resolved(case))


@verb
def _breakdown(question: Resolved) -> Breakdown:
    return breakdown_of(jobs_of(constant_ranks(question)), question.case.sharpness)


def breakdown_of(jobs: Jobs, sharpness: float) -> Breakdown:
    """The seconds of all jobs, by operator and resource.

    Arguments:
        jobs: all that is done for a scenario.
        sharpness: of all maxima and minima.
    """
    ttft: Rows = {}
    tpot: Rows = {}
    for rows, part in ((ttft, jobs.until_first), (tpot, jobs.per_token)):
        for job in part:
            for name, seconds in _job_rows(job, sharpness).items():
                _add(rows, job.name + name, seconds)
    names = tuple(dict.fromkeys([*ttft, *tpot]))  # prefill and decode may differ
    tables = (xp.stack([rows.get(name, xp.zeros(4)) for name in names]) for rows in (ttft, tpot))
    return Breakdown(names, *(xp.asarray(table, float) for table in tables))


def _job_rows(job: Job, sharpness: float) -> Rows:
    """The seconds of one job by operator and message."""
    iteration = job.iteration
    shares = operator_shares(iteration.operators, job.machine.rates, sharpness)
    executing = _executing(job, shares)
    messages = communication(iteration, job.machine, sharpness)
    times, wait = job.times(executing, messages, sharpness)
    passes = job.passes.of(times)
    rows: Rows = {}
    parts = (
        (iteration.embedding, passes.rest),
        (iteration.layers, passes.layers),
        (iteration.head, passes.head),
    )
    counts = xp.stack([count for operators, count in parts for _ in operators])
    for name, seconds in _named(iteration.operators, shares, counts).items():
        _add(rows, name, seconds)
    sending = sending_time(messages.layers, job.machine)
    visible = exposed(sending, executing.layers, job.overlap, sharpness)
    shown = visible / xp.maximum(sending, 1e-30)
    for part, count in (
        (messages.rest, passes.rest),
        (messages.layers, passes.layers * shown),
        (messages.head, passes.head),
    ):
        for message in part:
            _add(rows, message.name, count * message.repeats * _by_resource(message.seconds))
    if job.waits:
        _add(rows, "offload", passes.layers * wait * _unit("memory"))
    return rows


def _executing(job: Job, shares: Shares) -> Parts:
    """The `executing_times` that the shares of the operators add up to."""
    seconds = shares.compute + shares.memory + shares.launch
    first = len(job.iteration.embedding)
    last = first + len(job.iteration.layers)
    return Parts(
        layers=seconds[first:last].sum(), head=seconds[last:].sum(), rest=seconds[:first].sum()
    )


def _named(operators: Sequence[Operator], shares: Shares, counts: Numbers) -> Rows:
    """The seconds of operators by name and resource.

    Arguments:
        operators: the operators.
        shares: the seconds of each of them.
        counts: how often each of them counts.
    """
    columns = (shares.compute, shares.memory, xp.zeros_like(shares.memory), shares.launch)
    seconds = counts[:, None] * xp.stack(columns).T
    members: dict[str, list[int]] = {}
    for index, op in enumerate(operators):
        members.setdefault(op.name, []).append(index)
    return {name: seconds[np.array(indices)].sum(axis=0) for name, indices in members.items()}


def _by_resource(seconds: Sending) -> Row:
    """The seconds of a message by resource: communication on the wires, and launches."""
    wires = seconds.total - seconds.launch
    return wires * _unit("communication") + seconds.launch * _unit("launch")


def _unit(resource: str) -> np.ndarray:
    return np.array([float(each == resource) for each in RESOURCES])


def _add(rows: Rows, name: str, seconds: Row) -> None:
    rows[name] = rows[name] + seconds if name in rows else seconds
