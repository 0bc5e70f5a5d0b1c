"""All combinations of plans, batches, formats and chunks, numbered and estimated together."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.batches import wide_vectors
from diffgenz.core.smooth import Scalar
from diffgenz.inference.essential import essential
from diffgenz.inference.estimate import Estimate, estimate
from diffgenz.inference.metrics import METRICS, metrics_of
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.studies.search.deployment import RANKS, Deployment
from diffgenz.studies.search.formats import Formats, alike


class Grid:
    """All combinations of plans, batches, formats and chunks, numbered.

    Arguments:
        plans: as one batch, every field of shape (plans,).
        batches: requests in flight over all replicas.
        precisions: formats.
        chunks: prompt tokens of one iteration; None for whole prompts.
    """

    def __init__(
        self,
        plans: Parallelism,
        batches: tuple[float, ...],
        precisions: tuple[Precision, ...],
        chunks: tuple[float | None, ...],
    ):
        self.plans, self.batches = plans, batches
        self.precisions, self.chunks = precisions, chunks
        shape = (plans.tensor.size, len(batches), len(precisions), len(chunks))
        self._plan, self._batch, self._format, self._chunk = (
            which.ravel() for which in np.indices(shape)
        )

    @property
    def has_chunks(self) -> bool:
        """Whether any combination chunks its prompts."""
        return any(chunk is not None for chunk in self.chunks)

    @property
    def chunked(self) -> np.ndarray:
        """Whether each combination chunks its prompts."""
        return np.array([chunk is not None for chunk in self.chunks])[self._chunk]

    def estimates(self, case: Scenario) -> Estimate:
        """The estimate of every combination, by one program for each structure of formats.

        Arguments:
            case: everything that does not vary; its accelerator has no fitted kernels.
        """
        accelerator = case.platform.accelerator
        formats = [Formats.of(precision, accelerator) for precision in self.precisions]
        batches = np.asarray(self.batches, dtype=float)
        sizes = np.asarray([np.inf if chunk is None else chunk for chunk in self.chunks], float)
        parts, numbers = [], []
        for members in alike(formats):
            mine = np.flatnonzero(np.isin(self._format, members))
            plans = jax.tree.map(lambda leaf, at=self._plan[mine]: np.asarray(leaf)[at], self.plans)
            which = np.searchsorted(members, self._format[mine])
            each = jax.tree.map(
                lambda *leaves, at=which: jnp.stack(leaves)[at],
                *(formats[member] for member in members),
            )
            chunks = jnp.asarray(sizes[self._chunk[mine]]) if self.has_chunks else None
            requests = jnp.asarray(batches[self._batch[mine]])
            parts.append(_estimates(essential(case), plans, requests, each, chunks))
            numbers.append(mine)
        back = np.argsort(np.concatenate(numbers))
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[back], *parts)

    def deployments(
        self, order: np.ndarray, results: Estimate, question: Scenario
    ) -> list[Deployment]:
        """Some combinations as rows of a search.

        Arguments:
            order: their numbers.
            results: the estimate of every combination.
            question: the scenario that is searched.
        """
        fields = {name: getattr(self.plans, name) for name in RANKS}
        ranks = {
            name: [1] * len(order)
            if leaf is None
            else np.asarray(leaf, int)[self._plan[order]].tolist()
            for name, leaf in fields.items()
        }
        columns = {
            name: np.asarray(column)[order].tolist() for name, column in metrics_of(results).items()
        }
        found = []
        for place, number in enumerate(order):
            chunk = self.chunks[self._chunk[number]]
            metrics = {name: columns[name][place] if name in columns else None for name in METRICS}
            if chunk is None:
                metrics["mixed_tpot"] = None
            found.append(
                Deployment(
                    plan={name: ranks[name][place] for name in RANKS},
                    batch=int(self.batches[self._batch[number]]),
                    precision=self.precisions[self._format[number]],
                    chunk=None if chunk is None else int(chunk),
                    metrics=metrics,
                    question=question,
                )
            )
        return found


@partial(jax.jit, compiler_options=wide_vectors())
def _estimates(
    case: Scenario,
    plans: Parallelism,
    batches: jax.Array,
    formats: Formats,
    chunks: jax.Array | None,
) -> Estimate:
    def one(plan: Parallelism, batch: Scalar, choice: Formats, chunk: Scalar | None) -> Estimate:
        serving = case.serving if chunk is None else case.serving.replace(chunk=chunk)
        workload = case.workload.replace(batch=batch)
        return estimate(
            choice.applied_to(case).replace(workload=workload, plan=plan, serving=serving)
        )

    return jax.vmap(one)(plans, batches, formats, chunks)
