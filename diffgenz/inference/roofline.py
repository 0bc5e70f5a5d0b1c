"""`roofline`: the arithmetic and the traffic of each operator, and how long it takes for them.

What an accelerator could do at its peaks, and what each operator does, is the roofline plot.
"""

from typing import Any

import equinox as eqx
import numpy as np

from diffgenz.core import xp
from diffgenz.core.tree import Tree
from diffgenz.core.verb import verb
from diffgenz.inference.breakdown import Numbers
from diffgenz.inference.estimate import constant_ranks
from diffgenz.inference.jobs import Job, jobs_of
from diffgenz.inference.resolved import Resolved, resolved
from diffgenz.inference.timing.roofline import kernel_key, operator_shares
from diffgenz.scenario.scenario import Scenario


class Roofline(Tree):
    """What the operators of one phase do in one iteration, by name.

    Arguments:
        operators: names of operators, the rows; what one kernel does with another's is in that
            one's row.
        flops: FLOP of each, shape (operators,).
        traffic: B that each moves to and from memory, in the same shape.
        seconds: s that each takes, in the same shape.
    """

    operators: tuple[str, ...] = eqx.field(static=True)
    flops: Numbers
    traffic: Numbers
    seconds: Numbers

    def points(self) -> dict[str, tuple[float, float]]:
        """By operator, FLOP per B and FLOP/s; those without arithmetic are left out."""
        rows = zip(
            self.operators,
            *(np.asarray(x, float).tolist() for x in (self.flops, self.traffic, self.seconds)),
            strict=True,
        )
        return {
            name: (flops / traffic, flops / seconds)
            for name, flops, traffic, seconds in rows
            if min(flops, traffic, seconds) > 0
        }


def roofline(case: Scenario) -> tuple[Roofline, Roofline]:
    """What the operators of a scenario do: until the first token, and per output token.

    Arguments:
        case: one concrete scenario.
    """
    return _roofline(resolved(case))


@verb
def _roofline(question: Resolved) -> tuple[Roofline, Roofline]:
    jobs = jobs_of(constant_ranks(question))
    first, later = jobs.until_first, jobs.per_token
    return _of(first, question.case.sharpness), _of(later, question.case.sharpness)


def _of(jobs: tuple[Job, ...], sharpness: float) -> Roofline:
    """The sums over some jobs, one iteration of each."""
    sums: dict[str, list[Any]] = {}
    for job in jobs:
        shares = operator_shares(job.iteration.operators, job.machine.rates, sharpness)
        seconds = shares.compute + shares.memory + shares.launch
        operators, kernels = job.iteration.operators, job.machine.rates.kernels
        timed_with = {op.kernel: op.name for op in operators if op.shape is not None}
        for index, op in enumerate(operators):
            name = op.name
            if op.shape is None and kernel_key(op) in kernels:  # one kernel does both
                name = timed_with.get(op.kernel, name)
            row = sums.setdefault(job.name + name, [0.0, 0.0, 0.0])
            for place, value in enumerate((op.flops, op.traffic)):
                row[place] = row[place] + value * op.repeats
            row[2] = row[2] + seconds[index]
    columns = zip(*sums.values(), strict=True)
    return Roofline(tuple(sums), *(xp.stack([xp.asarray(x) for x in each]) for each in columns))
