"""What a placement saves on more and fewer nodes, with more and fewer slots: on held-out requests.

saved_by_size(case, train, test, "decode", kinds, slots=(64, 96))[8][96].time
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.routing import measures
from diffgenz.routing.baselines import linear
from diffgenz.routing.case_time import CaseTime
from diffgenz.routing.deployment import layout_of
from diffgenz.routing.effects import Trial, seen
from diffgenz.routing.layer_time import demand
from diffgenz.routing.place import place
from diffgenz.routing.placement import Placement, check_slots
from diffgenz.routing.replicas import Rule
from diffgenz.routing.routed import of_phase
from diffgenz.routing.trace import Counts, Trace
from diffgenz.scenario.scenario import Scenario


class Saved(NamedTuple):
    """Parts of what experts in order take that a placement saves; below 0 it takes more.

    Arguments:
        bytes: of what goes between nodes; 0 where there is one.
        time: of the modelled seconds of all layers of experts.
    """

    bytes: float
    time: float


def node_counts(case: Scenario) -> list[int]:
    """The numbers of nodes to compare: powers of two over which accelerators and experts divide.

    Arguments:
        case: a concrete scenario with a plan.
    """
    ranks, groups = int(case.plan.stage), int(case.plan.expert)
    powers = (2**power for power in range(1, ranks.bit_length()))
    return [nodes for nodes in powers if ranks % nodes == 0 and groups % nodes == 0]


def saved_by_size(
    case: Scenario,
    train: Trace | Counts,
    test: Trace | Counts,
    phase: str,
    kinds: tuple[int, ...],
    *,
    slots: Sequence[int] | None = None,
    limit: tuple[int, int] = (1, 1),
    rule: Rule = Rule.LOCAL_FIRST,
    seed: int = 0,
    told: Callable[[str], object] = lambda text: None,
) -> dict[int, dict[int, Saved]]:
    """What the fastest placement saves over experts in order, by nodes and by slots.

    Accelerators stay as many; nodes have fewer of them the more nodes there are. Requests come to
    all nodes alike. Slots that do not add up on some number of nodes are left out there.

    Arguments:
        case: a concrete scenario with a plan, whose network has a level between nodes.
        train: the choices of the requests to place for.
        test: those of the requests to test on.
        phase: "prefill" or "decode", whose tokens count.
        kinds: the kind of each layer of the trace.
        slots: physical slots of a layer. Default: the experts, and one more on each rank.
        limit: groups of neighbouring experts of a group-limited router, and those of a token.
        rule: how a token chooses among replicas.
        seed: of the random numbers.
        told: hears what is being done.

    Raises:
        InputError: there is no number of nodes to compare, or a trace lacks what it takes.
    """
    sizes = node_counts(case)
    if not sizes or len(case.platform.network) < 2:
        raise InputError(
            f"nodes: {int(case.plan.stage)} accelerators of a stage with {int(case.plan.expert)} "
            "groups of experts lie on one node only; use more of them, on a system whose network "
            "has a level between nodes"
        )
    several = slots or (train.experts, train.experts + int(case.plan.expert))
    part, _ = of_phase(train, phase)
    tested, _ = of_phase(test, phase)
    found: dict[int, dict[int, Saved]] = {}
    for nodes in sizes:
        there = _on_nodes(case, nodes)
        time, layout = CaseTime(there, phase, kinds), layout_of(there)
        tokens = time.tokens / (layout.nodes * layout.ranks_per_node)

        def taken(placement: Placement, time: CaseTime = time, tokens: float = tokens) -> Saved:
            traffic = seen(Trial(placement), tested, time, rule)
            away = measures.away(traffic.to_nodes).sum() / traffic.tokens
            return Saved(float(away), float(time(demand(traffic, tokens)).sum()))

        ranks = layout.nodes * layout.ranks_per_node
        least = -(-max(train.experts, ranks) // layout.nodes) * layout.nodes
        before = taken(linear(len(part.layers), train.experts, *layout, least))
        found[nodes] = {}
        for number in sorted(set(several)):
            if not _adds_up(number, train.experts, layout):
                continue
            told(f"placing {number} slots on {nodes} nodes")
            best = place(
                part,
                *layout,
                [number],
                layer_time=time,
                tokens_per_rank=tokens,
                deduplicated=time.deduplicated and isinstance(part, Trace),
                groups=limit[0] if limit[0] > 1 else None,
                rule=rule,
                seed=seed,
            )
            after = taken(best.placement)
            found[nodes][number] = Saved(
                *(1 - new / old if old else 0.0 for new, old in zip(after, before, strict=True))
            )
    return found


def _on_nodes(case: Scenario, nodes: int) -> Scenario:
    """The scenario with the accelerators of a stage on so many nodes."""
    inner, *others = case.platform.network
    inner = inner.replace(size=float(case.plan.stage) / nodes)
    return case.replace(platform=case.platform.replace(network=(inner, *others)))


def _adds_up(slots: int, experts: int, layout: tuple[int, int]) -> bool:
    try:
        check_slots(slots, experts, *layout)
    except InputError:
        return False
    return True
