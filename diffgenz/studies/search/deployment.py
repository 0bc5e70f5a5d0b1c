"""One row of a search: a way to serve, what it takes, and the scenario that it stands for."""

import dataclasses
import functools
from typing import Any

from diffgenz.operators.precision import Precision
from diffgenz.operators.routing import Routing
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario

RANKS = ("tensor", "context", "attention_data", "pipeline", "data", "expert")
"""The fields of a plan that a search varies."""


@dataclasses.dataclass(frozen=True)
class Deployment:
    """One way to serve, and what it takes.

    Arguments:
        plan: the number of ranks of each field in `RANKS`.
        batch: requests in flight over all replicas.
        precision: the formats.
        chunk: prompt tokens of one iteration; None for whole prompts.
        metrics: those of its estimate by name (`METRICS`), in SI; None where it has no such metric.
        question: the scenario that was searched.
        kernels: what times them (`timed_by`), collectives of all plans of the search included.
        routing: which experts tokens go to with the ranks of this plan; None: as in the question.
    """

    plan: dict[str, int]
    batch: int
    precision: Precision
    chunk: int | None
    metrics: dict[str, float | None]
    question: Scenario = dataclasses.field(repr=False)
    kernels: dict[str, str] = dataclasses.field(repr=False, default_factory=dict)
    routing: Routing | None = dataclasses.field(repr=False, default=None)

    @functools.cached_property
    def scenario(self) -> Scenario:
        """The deployment as a scenario, whose `estimate` has these `metrics`."""
        case = self.question
        mixed = case.serving.mixed and self.chunk is not None
        return case.replace(
            workload=case.workload.replace(batch=self.batch),
            plan=Parallelism(**self.plan),
            precision=self.precision,
            serving=case.serving.replace(chunk=self.chunk, mixed=mixed),
            routing=case.routing if self.routing is None else self.routing,
        )

    @property
    def layout(self) -> tuple[int | str, ...]:
        """What tells layouts apart: ranks and formats, but neither batch nor chunk."""
        return (*self.plan.values(), *self.precision.names.values())

    def as_dict(self) -> dict[str, Any]:
        """One flat row of ranks, batch, formats, chunk and metrics, for tables and files."""
        names = ("weights", "activations", "kv_cache")
        formats = {name: self.precision.names[name] for name in names}
        rest = {"batch": self.batch, **formats, "chunk": self.chunk}
        return {**self.plan, **rest, **self.metrics}
