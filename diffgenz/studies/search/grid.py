"""All combinations of plans, batches, formats and chunks, numbered and estimated together."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from diffgenz.core.leaves import with_parts
from diffgenz.core.smooth import as_leaf
from diffgenz.inference.estimate import Estimate, compiled_estimate
from diffgenz.inference.metrics import METRICS, metrics_of
from diffgenz.inference.resolved import Resolved, resolved
from diffgenz.operators.precision import Precision
from diffgenz.operators.routing import Routing
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.studies.search.deployment import RANKS, Deployment
from diffgenz.studies.search.routings import Routings

BLOCK = 2**14
"""Deployments that are estimated together, at most: their columns stay in the caches."""


class Grid:
    """All combinations of plans, batches, formats and chunks that are accepted, numbered.

    Arguments:
        plans: as one batch, every field of shape (plans,).
        batches: requests in flight over all replicas.
        precisions: formats.
        chunks: prompt tokens of one iteration; None for whole prompts.
        accepted: which plans may be combined with which formats; of shape (plans, precisions).
        routings: which experts tokens go to in each plan; None: as in the scenario.
    """

    def __init__(
        self,
        plans: Parallelism,
        batches: tuple[float, ...],
        precisions: tuple[Precision, ...],
        chunks: tuple[float | None, ...],
        accepted: np.ndarray,
        routings: Routings | None = None,
    ):
        self.plans, self.batches = plans, batches
        self.precisions, self.chunks = precisions, chunks
        self.routings = routings
        shape = (plans.tensor.size, len(batches), len(precisions), len(chunks))
        every = [which.ravel() for which in np.indices(shape)]
        kept = accepted[every[0], every[2]]
        self._plan, self._batch, self._format, self._chunk = (which[kept] for which in every)

    @property
    def size(self) -> int:
        """How many combinations there are."""
        return len(self._plan)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """What tells combinations apart, by name: ranks, batch and chunk (infinite: whole)."""
        ranks = {name: getattr(self.plans, name) for name in RANKS}
        sizes = np.asarray([np.inf if chunk is None else chunk for chunk in self.chunks], float)
        return {
            **{
                name: np.ones(self.size) if leaf is None else np.asarray(leaf)[self._plan]
                for name, leaf in ranks.items()
            },
            "batch": np.asarray(self.batches, dtype=float)[self._batch],
            "chunk": sizes[self._chunk],
        }

    def in_formats(self, wanted: Sequence[bool]) -> np.ndarray:
        """Whether each combination is in one of some formats.

        Arguments:
            wanted: of each of `precisions`, whether it is one of them.
        """
        return np.asarray(wanted, bool)[self._format]

    def at_next_batch(self, number: int) -> int | None:
        """The combination that differs in the next larger batch alone; None where there is none."""
        larger = [batch for batch in self.batches if batch > self.batches[self._batch[number]]]
        if not larger:
            return None
        same = (self._plan == self._plan[number]) & (self._format == self._format[number])
        same &= (self._chunk == self._chunk[number]) & (
            self._batch == self.batches.index(min(larger))
        )
        return int(np.flatnonzero(same)[0])

    @property
    def chunked(self) -> np.ndarray:
        """Whether each combination chunks its prompts."""
        return np.array([chunk is not None for chunk in self.chunks])[self._chunk]

    def estimates(
        self, case: Scenario, progress: Callable[[int, int], None] | None = None
    ) -> Estimate:
        """The estimate of every combination.

        Kernels are timed as `estimate` times them: each format selects its own before its program
        runs.

        Arguments:
            case: everything that does not vary.
            progress: called with the combinations done and their number, again and again.

        Returns:
            the estimate, with every number of shape (combinations,).
        """
        whole = with_parts(case, {"serving.chunk": None, "serving.mixed": False})
        some = with_parts(case, {"serving.chunk": as_leaf(1.0)})  # columns have the sizes
        formats = {
            chunked: [_in_formats(each, precision) for precision in self.precisions]
            for chunked, each in ((False, whole), (True, some))
            if (self.chunked == chunked).any()
        }
        columns, routings = self.columns, self.routings
        table = None if routings is None else routings.table
        done = 0

        def report(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, self.size)

        def part(group: tuple[list[int], bool]) -> tuple[np.ndarray, Estimate]:
            members, chunked = group
            mine = np.flatnonzero(np.isin(self._format, members) & (self.chunked == chunked))
            fixed, varied = _split([formats[chunked][member] for member in members])
            which = np.searchsorted(members, self._format[mine])
            rows = (
                jax.tree.map(lambda leaf, at=self._plan[mine]: np.asarray(leaf)[at], self.plans),
                columns["batch"][mine],
                jax.tree.map(lambda table, at=which: table[at], varied),
                columns["chunk"][mine] if chunked else None,
                jax.tree.map(lambda leaf, at=self._routing(mine): leaf[at], table),
            )
            found = _in_blocks(fixed, rows, len(mine), report)
            if not chunked and case.serving.mixed:  # whole prompts have no such time
                found = with_parts(found, {"mixed_tpot": np.full_like(found.tpot, np.nan)})
            return mine, found

        report(0)
        groups = [
            (members, chunked)
            for chunked, choices in formats.items()
            for members in _alike(choices)
        ]
        numbers, parts = zip(*map(part, groups), strict=True)
        back = np.argsort(np.concatenate(numbers))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[back], *parts)

    def _routing(self, numbers: np.ndarray) -> np.ndarray:
        """Which of the routings some combinations have."""
        if self.routings is None:
            return np.zeros(len(numbers), int)
        return self.routings.index[self._plan[numbers], self._chunk[numbers]]

    def deployments(
        self,
        order: np.ndarray,
        results: Estimate,
        question: Scenario,
        kernels: Sequence[dict[str, str]],
    ) -> list[Deployment]:
        """Some combinations as rows of a search.

        Arguments:
            order: their numbers.
            results: the estimate of every combination.
            question: the scenario that is searched.
            kernels: of each format, what times its kernels.
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
        found, which = [], self._routing(order)
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
                    kernels=kernels[self._format[number]],
                    routing=None if self.routings is None else self.routings.distinct[which[place]],
                )
            )
        return found


def _in_formats(case: Scenario, precision: Precision) -> Resolved:
    """The scenario in these formats, its peaks spelled out, so that formats share columns."""
    question = resolved(case.replace(precision=precision))
    return dataclasses.replace(question, execution=question.execution.explicit)


def _alike(formats: Sequence[Resolved]) -> list[list[int]]:
    """The indices of formats by structure, such as with GEAR or without."""
    groups: dict[object, list[int]] = {}
    for index, choice in enumerate(formats):
        groups.setdefault(jax.tree.structure(choice), []).append(index)
    return list(groups.values())


def _split(members: Sequence[Resolved]) -> tuple[Resolved, Resolved]:
    """The numbers that formats have in common, and tables of those in which they differ.

    Returns:
        two records with None for the numbers of the other; tables have shape (members,).
    """

    def table(*leaves: Any) -> np.ndarray | None:
        values = np.asarray(leaves)
        return None if (values == values[0]).all() else values

    varied = jax.tree.map(table, *members)
    fixed = jax.tree.map(
        lambda leaf, own: leaf if own is None else None, members[0], varied, is_leaf=_is_missing
    )
    return fixed, varied


def _is_missing(x: Any) -> bool:
    return x is None


def _in_blocks(fixed: Resolved, rows: Any, count: int, report: Callable[[int], None]) -> Estimate:
    """The estimates of all rows, some thousand at a time.

    Arguments:
        fixed: the numbers that all rows have in common.
        rows: the others, as `_estimates` takes them, in columns of shape (count,).
        count: how many rows there are.
        report: called after each block with the number of its rows.
    """
    parts = []
    for start in range(0, count, BLOCK):
        block = jax.tree.map(lambda column, at=start: column[at : at + BLOCK], rows)
        size = min(BLOCK, count - start)
        found = _estimates(fixed, *block)
        parts.append(jax.tree.map(lambda x, n=size: np.broadcast_to(x, (n,)), found))
        report(size)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _estimates(
    fixed: Resolved,
    plans: Parallelism,
    batches: np.ndarray,
    formats: Resolved,
    chunks: np.ndarray | None,
    routings: Routing | None,
) -> Estimate:
    """The estimates of some rows, by NumPy: compiling takes longer than a search has rows for."""
    question: Resolved = eqx.combine(formats, fixed)
    parts = {"workload.batch": batches, "plan": plans, "serving.chunk": chunks}
    if routings is not None:
        parts["routing"] = routings
    return compiled_estimate(dataclasses.replace(question, case=with_parts(question.case, parts)))
