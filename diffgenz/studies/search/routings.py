"""Which experts tokens go to in each plan of a search: the numbers of a trace for its own ranks.

What a trace says depends on how many ranks and nodes the experts lie over, so that plans with the
same expert-parallel ranks and nodes share a routing, and others have their own.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from diffgenz.core.errors import InputError, NoSolution
from diffgenz.operators.phases import alike
from diffgenz.operators.routing import Routing
from diffgenz.routing.deployment import Layout, layout_of
from diffgenz.routing.placement import Placement
from diffgenz.routing.routed import Recorded
from diffgenz.routing.trace import Counts, Trace
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.studies.search.deployment import RANKS


@dataclasses.dataclass(frozen=True, eq=False)
class Routings:
    """The routings of all combinations of plans and chunks.

    Arguments:
        distinct: those that differ.
        index: [plans, chunks]; which is each combination's; -1 where a trace says nothing of it.
        note: which plans these are, for people; "" for none.
    """

    distinct: tuple[Routing, ...]
    index: np.ndarray
    note: str

    @property
    def table(self) -> Routing:
        """All of them as one record, with every number of shape (distinct,)."""
        return jax.tree.map(lambda *leaves: np.stack(leaves), *alike(self.distinct))


def routings_of(
    case: Scenario,
    plans: Parallelism,
    chunks: Sequence[float | None],
    trace: Trace | Counts,
    placement: Placement | None,
    note: str = "",
    told: Callable[[int, int], None] | None = None,
) -> Routings:
    """The routings of all combinations of plans and chunks.

    Arguments:
        case: the question; its plan and chunk do not count.
        plans: as one batch.
        chunks: prompt tokens of one iteration; None for whole prompts.
        trace: which experts tokens chose.
        placement: where experts are in plans with as many nodes and ranks; in others, and where it
            is None, they are in order.
        note: where the trace is from, for people.
        told: called with the routings done and their number, again and again.

    Raises:
        InputError: the trace is of another model, or the placement is of another model or of no
            plan.
        NoSolution: the trace says nothing of any plan.
    """
    count = plans.tensor.size
    rows = [_row(plans, number) for number in range(count)]
    layouts, reasons = {}, {}
    for row in dict.fromkeys((int(row.stage), int(row.expert)) for row in rows):
        example = next(each for each in rows if (int(each.stage), int(each.expert)) == row)
        try:
            layouts[row] = layout_of(case.replace(plan=example)), example
        except InputError as error:
            reasons[row] = str(error)
    if placement is not None:
        _check_used(placement, [layout for layout, _ in layouts.values()])
    recorded = Recorded(trace, case.model)
    own = [_together(case, chunk) for chunk in chunks]
    wanted = dict.fromkeys((layout, size) for layout, _ in layouts.values() for size in own)
    found: dict[tuple[Layout, float], Routing] = {}
    for layout, example in layouts.values():
        matches = placement is not None and layout == (placement.nodes, placement.ranks_per_node)
        for size, chunk in zip(own, chunks, strict=True):
            if (layout, size) in found:
                continue
            if told is not None:
                told(len(found), len(wanted))
            there = case.replace(plan=example, serving=case.serving.replace(chunk=chunk))
            where = placement if matches else None
            found[layout, size] = recorded.routing(there, where, note=note)
    numbers = {key: number for number, key in enumerate(found)}
    index = np.full((count, len(chunks)), -1)
    for number, row in enumerate(rows):
        key = int(row.stage), int(row.expert)
        if key in layouts:
            index[number] = [numbers[layouts[key][0], size] for size in own]
    if not found:
        raise NoSolution(
            f"trace: says nothing of any plan ({next(iter(reasons.values()))}); use another number "
            "of accelerators"
        )
    left, which = int((index[:, 0] < 0).sum()), ""
    if left:
        which = (
            f"{left:,} of {count:,} plans are left out, of which a trace says nothing: their "
            "groups of experts do not lie evenly over nodes"
        )
    return Routings(tuple(found.values()), index, which)


def _row(plans: Parallelism, number: int) -> Parallelism:
    """One plan of a batch."""
    ranks = {
        name: None if leaf is None else float(np.asarray(leaf)[number])
        for name in RANKS
        if (leaf := getattr(plans, name)) is not None or name == "context"
    }
    return Parallelism(**ranks)


def _together(case: Scenario, chunk: float | None) -> float:
    """Tokens of one prompt in an iteration."""
    prompt = float(case.workload.input_tokens)
    return prompt if chunk is None else min(prompt, float(chunk))


def _check_used(placement: Placement, layouts: Sequence[Layout]) -> None:
    """Raise `InputError` if no plan has the ranks of a placement."""
    own = Layout(placement.nodes, placement.ranks_per_node)
    if own not in layouts:
        known = ", ".join(f"{n} of {r}" for n, r in sorted(set(layouts)))
        raise InputError(
            f"placement: is for {own.nodes} nodes of {own.ranks_per_node} ranks, which no plan has "
            f"(nodes of ranks: {known}); place for one of them (diffgenz routing place)"
        )
