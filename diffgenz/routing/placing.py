"""Placing for a scenario: candidates by its kernels, and their effects on requests held out."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.inference.estimate import estimate
from diffgenz.operators.routing import Traced
from diffgenz.routing.baselines import linear
from diffgenz.routing.case_time import CaseTime
from diffgenz.routing.deployment import layout_of
from diffgenz.routing.effects import Effect, Gains, Trial, effect, gains, seen
from diffgenz.routing.grouped import group_requests, sent, with_both_phases
from diffgenz.routing.migration import fetched
from diffgenz.routing.place import place
from diffgenz.routing.placement import Placement, check_slots
from diffgenz.routing.replicas import Rule
from diffgenz.routing.routed import of_phase
from diffgenz.routing.trace import Counts, Trace
from diffgenz.scenario.scenario import Scenario


@dataclasses.dataclass(frozen=True, eq=False)
class Placing:
    """A placement for a scenario, and what it does beside others.

    Arguments:
        chosen: where the experts are, in the layers of the trace.
        method: what it is called in `effects`.
        methods: by method, how many layers of the fastest placement are its.
        effects: by method, on the requests that were held out; "linear" is how engines start,
            without replicas.
        gains: what the chosen placement saves over the first of `effects`: "bytes" and "time".
        matrices: by method, [nodes, nodes]; tokens from each node to each in all layers, over the
            mean of a pair of the first method.
        by_slots: modelled s of a step of all layers, the best with each number of slots.
        deduplicated: whether the scenario's kernels send a token to a node once.
        moved: experts that a rank fetches, in all layers, the most of any; None: from nowhere.
        tokens: tokens that were held out.
        held_out: whether they are of other requests than those that were placed for.
    """

    chosen: Placement
    method: str
    methods: dict[str, int]
    effects: dict[str, Effect]
    gains: dict[str, Gains]
    matrices: dict[str, np.ndarray]
    by_slots: dict[int, float]
    deduplicated: bool
    moved: int | None
    tokens: int
    held_out: bool


def placing(
    case: Scenario,
    train: Trace | Counts,
    test: Trace | Counts,
    phase: str,
    kinds: tuple[int, ...],
    *,
    slots: Iterable[int] | None = None,
    present: Placement | None = None,
    steps: float | None = None,
    method: str = "best",
    grouped: bool = False,
    limit: tuple[int, int] = (1, 1),
    rule: Rule = Rule.LOCAL_FIRST,
    seed: int = 0,
    told: Callable[[str], object] = lambda text: None,
) -> Placing:
    """Place experts for some requests, and see what it does to others.

    Arguments:
        case: a concrete scenario with a plan.
        train: the choices of the requests to place for.
        test: those of the requests to test on.
        phase: "prefill" or "decode", whose tokens count.
        kinds: the kind of each layer of the trace.
        slots: physical slots of a layer, of which the fastest is taken. Default: the experts.
        present: the placement that is in use.
        steps: iterations until experts are placed anew, over which moving them is spread; None:
            moving costs nothing.
        method: "best", or one of the candidates of `place`.
        grouped: whether requests are grouped, and sent to nodes by their prompts.
        limit: groups of neighbouring experts of a group-limited router, and those of a token.
        rule: how a token chooses among replicas.
        seed: of the random numbers.
        told: hears what is being done.

    Raises:
        InputError: slots do not add up or do not fit into memory, or a trace lacks what it takes.
    """
    nodes, ranks = layout_of(case)
    time = CaseTime(case, phase, kinds)
    tokens = time.tokens / (nodes * ranks)
    several = slots if slots is None else _fitting(case, sorted(set(slots)), train.experts)
    group, pair = None, None
    whole_train, whole_test = train, test
    if grouped:
        if not (isinstance(train, Trace) and isinstance(test, Trace)):
            raise InputError("grouped: counts do not tell requests; give a trace of tokens")
        pair = with_both_phases(train), with_both_phases(test)
        whole_train, whole_test = pair
        told("grouping requests")
        group = group_requests(pair[0], nodes, seed)
    part, group = of_phase(whole_train, phase, group)
    tested, _ = of_phase(whole_test, phase)
    told(f"placing {len(part.layers)} layers")
    found = place(
        part,
        nodes,
        ranks,
        several,
        node=group,
        present=present,
        migration=None if steps is None else time.migration(case, steps),
        layer_time=time,
        tokens_per_rank=tokens,
        deduplicated=time.deduplicated and isinstance(part, Trace),
        groups=limit[0] if limit[0] > 1 else None,
        rule=rule,
        seed=seed,
    )
    candidates = {name: each.placement for name, each in found.candidates.items()}
    candidates["best"] = found.placement
    least = -(-max(train.experts, nodes * ranks) // nodes) * nodes
    candidates["linear"] = linear(len(part.layers), train.experts, nodes, ranks, least)
    if method not in candidates:
        raise InputError(f"method: {method!r} is none of {', '.join(candidates)}; choose one")
    order = dict.fromkeys(("present", "linear", "eplb", method))
    tests: dict[str, Trial] = {}
    for name in order:
        if name not in candidates:
            continue
        node = None
        if pair is not None and name == method and found.grouped:
            node = sent(*pair, candidates[name])
            _, node = of_phase(whole_test, phase, node)
        tests[name] = Trial(candidates[name], node)
    effects, matrices = {}, {}
    for name, each in tests.items():
        told(f"testing {name}")
        effects[name] = effect(case, tested, each, time, phase, rule)
        traffic = seen(each, tested, time, rule)
        matrices[name] = traffic.to_nodes.mean(0) / traffic.tokens
    base = next(iter(tests))
    scale = matrices[base].mean()
    chosen = candidates[method]
    moved = None
    if present is not None and chosen.slots.shape == present.slots.shape:
        moved = int(fetched(chosen, present).sum(0).max())
    return Placing(
        chosen,
        method,
        {name: found.methods.count(name) for name in dict.fromkeys(found.methods)},
        effects,
        gains(tested, tests[base], tests[method], time, limit=limit, rule=rule, seed=seed),
        {name: each / scale for name, each in matrices.items()},
        found.by_slots,
        time.deduplicated,
        moved,
        tested.tokens if isinstance(tested, Trace) else int(tested.counts.sum()),
        train is not test,
    )


def _fitting(case: Scenario, slots: list[int], experts: int) -> list[int]:
    """The numbers of slots with which the scenario fits into memory."""
    layout = layout_of(case)
    for number in slots:
        check_slots(number, experts, *layout)
    fits = []
    for number in slots:
        memory = estimate(case.replace(routing=Traced(slots=number / experts))).memory
        if bool(memory.fits):
            fits.append(number)
    if not fits:
        raise InputError(
            f"slots: {slots[0]} slots of {experts} experts take more memory than there is; give "
            "fewer slots, fewer requests or more accelerators"
        )
    return fits
